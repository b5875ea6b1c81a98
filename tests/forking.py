"""Commands for tests in processes of their own that need not import TensorFlow anew, which costs 3 s of a core each time.

A server imports the libraries once, and nothing of the project's unless it is asked to; each command is a fork of it that runs
the script as __main__, with arguments, folder, environment and streams of its own: what a user starts, from the script's first line
on.
What depends on a variable that the libraries read while they are imported must be a process from the start (subprocess.run).
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Mapping, Optional, Sequence

ROOT = Path(__file__).resolve().parent.parent

# Of TensorFlow's what commands of ours set before they import it; Keras, which TensorFlow imports when it is first asked for.
SERVER = """
import importlib, importlib.util, json, os, runpy, signal, sys
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_USE_LEGACY_KERAS"] = "1" if importlib.util.find_spec("tf_keras") else "0"
import numpy, pandas, sklearn.linear_model, sklearn.model_selection, PIL.Image, absl.app, absl.logging
absl.app.define_help_flags()
of_a_command = set(absl.flags.FLAGS)
import tensorflow
tensorflow.keras.layers.Dense
for name in set(absl.flags.FLAGS) - of_a_command:  # TensorFlow's, which a command has not when it reads its own
    delattr(absl.flags.FLAGS, name)
for name in sys.argv[1:]:
    importlib.import_module(name)

def child(argv, cwd, environment, stdout, stderr):
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, stdout, os.O_WRONLY), (2, stderr, os.O_WRONLY)):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv[:] = [sys.executable, *argv]
    if argv[0] == "-m":
        sys.argv[:] = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = argv
        sys.path[0] = os.path.dirname(argv[0])
        runpy.run_path(argv[0], run_name="__main__")

def serve():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    for line in iter(sys.stdin.buffer.raw.readline, b""):
        pid = os.fork()
        if not pid:
            answers.close()
            return json.loads(line)
        print(pid, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)

asked = serve()
if asked:
    child(**asked)
"""


class Server:
    """One that forks commands; it ends with the process that made it, whose pipe it reads."""

    def __init__(self, imports: Sequence[str] = (), python: str = sys.executable):
        """`imports`: modules of the project that are imported once too, for commands that come by the hundred."""
        self._python = python
        self._process = subprocess.Popen([python, "-c", SERVER, *imports], stdin=subprocess.PIPE, bufsize=0,
                                         stdout=subprocess.PIPE, cwd=ROOT)
        self.lock = threading.Lock()

    def run(self, command: Sequence[str], cwd: Path = ROOT, environment: Mapping[str, str] = os.environ,
            timeout: float = 300) -> subprocess.CompletedProcess:
        """As subprocess.run([python, *command], capture_output=True, text=True, …), for one thread at a time."""
        with tempfile.TemporaryDirectory() as folder:
            streams = {name: os.path.join(folder, name) for name in ("stdout", "stderr")}
            for path in streams.values():
                Path(path).touch()
            asked = {"argv": list(command), "cwd": str(cwd), "environment": dict(environment), **streams}
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            code = self._wait(int(self._process.stdout.readline()), command, timeout)
            told = {name: Path(path).read_text(encoding="utf-8", errors="replace") for name, path in streams.items()}
        return subprocess.CompletedProcess([self._python, *command], code, **told)

    def _wait(self, pid: int, command: Sequence[str], timeout: float) -> int:
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            os.killpg(pid, signal.SIGKILL)
            self._process.stdout.readline()
            raise subprocess.TimeoutExpired(command, timeout)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)


_server: Optional[Server] = None


def run(command: Sequence[str], cwd: Optional[Path], environment: Mapping[str, str],
        timeout: float) -> subprocess.CompletedProcess:
    """`command`: a script's path and its arguments. While another command runs (from a thread) it is a process anew."""
    global _server
    if _server is None:
        _server = Server()
    if not _server.lock.acquire(blocking=False):
        return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=timeout,
                              env=environment, check=False)
    try:
        return _server.run(command, cwd or Path.cwd(), environment, timeout)
    finally:
        _server.lock.release()
