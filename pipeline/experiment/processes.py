"""Commands as processes that end with the one that started them: interrupted where it is, and never left behind."""

import contextlib
import signal
import subprocess
import time
from typing import Callable, Iterator, NoReturn, Optional, Sequence

from pipeline import command, preemption
from pipeline.errors import Preempted

_PATIENCE = 60          # seconds that an interrupted process gets to end by itself
_SOON, _MOST_SOON = 60, 5  # seconds after its start, and so many times in a row: nobody preempts a machine like that
_ONE_INTERRUPTION = 2   # seconds within which every process of a run has heard of it


def run(arguments: Sequence[str], cwd: Optional[str] = None) -> int:
    """The exit code of a process, below 0 where a signal killed it. It is interrupted or terminated where this one is.

    Raises KeyboardInterrupt where nobody has told of the interruption yet; Preempted where this process is terminated.
    """
    with _terminated_as_preempted():
        process = subprocess.Popen(arguments, cwd=cwd)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # a terminal has interrupted it too, `kill -INT` has not
            code = _wait_or_kill(process)
            if code != command.INTERRUPTED_EXIT_CODE:
                raise
        except Preempted:  # two that write one model directory would be worse than one whose last minutes are lost
            process.terminate()
            _wait_or_kill(process)
            raise
    if code == -signal.SIGINT:  # before it could tell so
        raise KeyboardInterrupt
    return code


def run_to_end(arguments: Callable[[], Sequence[str]], cwd: Optional[str] = None) -> int:
    """`run`, again and again where the process, and not this one, was preempted (75) and so goes on; its other exit code.

    Once --max_minutes are over that is no other: 75; nor where it ends so again and again as soon as it is started.
    `arguments` are asked for at each start.
    """
    soon = 0
    while preemption.minutes_left() > 0 and soon < _MOST_SOON:
        started = time.monotonic()
        code = run(arguments(), cwd)
        if code != command.PREEMPTED_EXIT_CODE:
            return code
        soon = soon + 1 if time.monotonic() - started < _SOON else 0
    return command.PREEMPTED_EXIT_CODE


def _wait_or_kill(process: subprocess.Popen) -> int:
    # One Ctrl-C comes to this process by the terminal and again by the one that started it: the second is no impatience.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait(_ONE_INTERRUPTION)
    except subprocess.TimeoutExpired:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return process.wait(_PATIENCE)
    except (KeyboardInterrupt, Preempted, subprocess.TimeoutExpired):  # or whoever waits has none left
        process.kill()
        return process.wait()


@contextlib.contextmanager
def _terminated_as_preempted() -> Iterator[None]:
    """SIGTERM ends the block as Preempted."""

    def end(number: int, _) -> NoReturn:
        raise Preempted("ended by SIGTERM; the same command goes on")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
