"""What ends a command early and in order: SIGTERM, as a machine that is preempted sends it, and --max_minutes."""

import contextlib
import signal
import time
from typing import Iterator

from pipeline.errors import Preempted

_started = time.monotonic()  # of the process, all but a moment
_minutes = 0.0               # 0: no limit
_watching = False
_terminated = False
_held = 0                    # blocks that look themselves, and save before they end


def watch(minutes: float = 0.0) -> None:
    """From now on SIGTERM raises Preempted, or in a block `held` is only noted; `minutes` as --max_minutes."""
    global _minutes, _watching
    _minutes, _watching = minutes, True
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame) -> None:
    global _terminated
    if _terminated:  # a shutdown tells every process, and those that started it tell it again
        return
    _terminated = True
    check()


def minutes_left() -> float:
    """Until the limit, 0 or below where it is reached; infinite where there is none."""
    return _minutes - (time.monotonic() - _started) / 60 if _minutes else float("inf")


def flags_left() -> list[str]:
    """--max_minutes for a process that this one starts now, which has what is left; nothing where there is no limit."""
    return [f"--max_minutes={max(minutes_left(), 1e-3):.3f}"] if _minutes else []


def asked() -> str:
    """What asks this process to end, in words; empty where nothing does."""
    if _terminated:
        return "SIGTERM"
    return f"--max_minutes={_minutes:g}" if minutes_left() <= 0 else ""


def check() -> None:
    """Raises Preempted where this process is asked to end and no block is held; between pieces of work."""
    if asked() and not _held:
        raise Preempted(f"ended by {asked()}; the same command goes on")


@contextlib.contextmanager
def held() -> Iterator[None]:
    """In the block nothing is raised; who runs it looks at `asked`. At its end Preempted may be."""
    global _held
    if _watching:  # anew: where several hosts come together, TensorFlow takes the signal for itself
        signal.signal(signal.SIGTERM, _terminate)
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    check()
