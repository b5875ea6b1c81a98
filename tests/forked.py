"""Runs many commands quickly: a process that has imported what they import forks a child for each.

A child is the command as from a shell, with its exit code, stderr and end; only the seconds of the imports are spared.
"""

import json
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from raw_data import REPOSITORY

_IMPORTS = ("tensorflow", "pandas", "h5py", "scipy.sparse", "dataset_tools.build", "dataset_tools.verified_folder",
            "pipeline.prediction.predict", "pipeline.training.train", "pipeline.evaluation.report",
            "pipeline.experiment.fold_runs")


class Ended(NamedTuple):
    """How a command ended; code None: it did not, and was killed."""

    returncode: int | None
    stdout: str
    stderr: str


class Commands:
    """A `with` around many commands; `run` takes one as one types it: its script, or -m and a module, then arguments."""

    def __enter__(self) -> "Commands":
        self._server = subprocess.Popen([sys.executable, __file__], cwd=REPOSITORY, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "1"})
        return self

    def __exit__(self, *_) -> None:
        self._server.stdin.close()
        self._server.wait(60)

    def run(self, *command: str, timeout: float = 120) -> Ended:
        self._server.stdin.write(json.dumps([list(command), timeout]) + "\n")
        self._server.stdin.flush()
        return Ended(**json.loads(self._server.stdout.readline()))


def _child(command, out, err) -> None:
    import runpy

    os.dup2(out, 1)
    os.dup2(err, 2)
    os.setpgid(0, 0)
    code = 1
    try:
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(command)
            runpy.run_path(command[0], run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    import importlib
    import tempfile

    sys.path.insert(0, str(REPOSITORY))
    for name in _IMPORTS:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        command, timeout = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                _child(command, out.fileno(), err.fileno())
            until, code = time.monotonic() + timeout, None
            while time.monotonic() < until:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
                    break
                time.sleep(0.005)
            else:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
            texts = [file.seek(0) or file.read().decode("utf-8", "replace") for file in (out, err)]
        answers.write(json.dumps({"returncode": code, "stdout": texts[0], "stderr": texts[1]}) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
