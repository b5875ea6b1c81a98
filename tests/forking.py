"""Commands for tests in processes of their own that need not import TensorFlow anew, which costs 3 s of a core each time.

A server imports the libraries once, and nothing of the project's; each command is a fork of it that runs the script as
__main__, with arguments, folder, environment and streams of its own: from the script's first line on it is what a user starts.
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
from typing import Optional

# Of TensorFlow's what a command of ours sets before it imports it; Keras, which TensorFlow imports when it is first asked for.
SERVER = """
import json, os, runpy, signal, sys
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy, pandas, sklearn.linear_model, sklearn.model_selection, PIL.Image, absl.app, absl.logging
absl.app.define_help_flags()
of_a_command = set(absl.flags.FLAGS)
import tensorflow
tensorflow.keras.layers.Dense
for name in set(absl.flags.FLAGS) - of_a_command:  # TensorFlow's, which a command has not when it reads its own
    delattr(absl.flags.FLAGS, name)

def child(argv, cwd, environment, stdout, stderr):
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, stdout, os.O_WRONLY), (2, stderr, os.O_WRONLY)):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = argv
    sys.orig_argv[:] = [sys.executable, *argv]
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
    """One for a process of tests; it ends with that process, whose pipe it reads."""

    def __init__(self):
        self._process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.lock = threading.Lock()

    def run(self, command: list[str], cwd: Path, environment: dict[str, str], timeout: float) -> subprocess.CompletedProcess:
        """As subprocess.run([sys.executable, *command], capture_output=True, text=True, …); hold the lock."""
        with tempfile.TemporaryDirectory() as folder:
            streams = {name: os.path.join(folder, name) for name in ("stdout", "stderr")}
            for path in streams.values():
                Path(path).touch()
            asked = {"argv": command, "cwd": str(cwd), "environment": environment, **streams}
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            code = self._wait(int(self._process.stdout.readline()), command, timeout)
            told = {name: Path(path).read_text(encoding="utf-8", errors="replace") for name, path in streams.items()}
        return subprocess.CompletedProcess([sys.executable, *command], code, **told)

    def _wait(self, pid: int, command: list[str], timeout: float) -> int:
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            os.kill(pid, signal.SIGKILL)
            self._process.stdout.readline()
            raise subprocess.TimeoutExpired(command, timeout)
        return int(self._process.stdout.readline())


_server: Optional[Server] = None


def run(command: list[str], cwd: Optional[Path], environment: dict[str, str], timeout: float) -> subprocess.CompletedProcess:
    """`command`: a script's absolute path and its arguments. While another command runs (from a thread) it is a process anew."""
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
