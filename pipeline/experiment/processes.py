"""Commands as processes that end with the one that started them: interrupted where it is, and never left behind."""

import contextlib
import signal
import subprocess
from typing import Iterator, NoReturn, Optional, Sequence

from pipeline import command

_PATIENCE = 60          # seconds that an interrupted process gets to end by itself
_ONE_INTERRUPTION = 2   # seconds within which every process of a run has heard of it


def run(arguments: Sequence[str], cwd: Optional[str] = None) -> int:
    """The exit code of a process, below 0 where a signal killed it. It is interrupted or terminated where this one is.

    Raises KeyboardInterrupt where nobody has told of the interruption yet.
    """
    with _terminated_as_exit():
        process = subprocess.Popen(arguments, cwd=cwd)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # a terminal has interrupted it too, `kill -INT` has not
            code = _wait_or_kill(process)
            if code != command.INTERRUPTED_EXIT_CODE:
                raise
        except SystemExit:  # two that write one model directory would be worse than one whose last epoch is lost
            process.terminate()
            _wait_or_kill(process)
            raise
    if code == -signal.SIGINT:  # before it could tell so
        raise KeyboardInterrupt
    return code


def _wait_or_kill(process: subprocess.Popen) -> int:
    # One Ctrl-C comes to this process by the terminal and again by the one that started it: the second is no impatience.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait(_ONE_INTERRUPTION)
    except subprocess.TimeoutExpired:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return process.wait(_PATIENCE)
    except (KeyboardInterrupt, SystemExit, subprocess.TimeoutExpired):  # or whoever waits has none left
        process.kill()
        return process.wait()


@contextlib.contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """SIGTERM ends the block as SystemExit, with the code that a shell gives for it."""

    def end(number: int, _) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
