"""Progress of long work: a bar in a terminal, a log line now and then where there is none."""

import contextlib
import sys
import time
from typing import Callable, Iterator, Optional

from absl import logging

LOG_SECONDS = 30.0
SHORT_SECONDS = 5.0  # what is done sooner needs no line


def duration(seconds: float) -> str:
    """h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


class _LogLines:
    """What tqdm offers, as log lines at most every `LOG_SECONDS`."""

    def __init__(self, total: int, description: str, unit: str):
        self._total, self._description, self._unit = total, description, unit
        self._done = 0
        self._started = self._logged = time.monotonic()

    def update(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            logging.info("%s", self._line(now))

    def finish(self) -> None:
        now = time.monotonic()
        if now - self._started >= SHORT_SECONDS:
            logging.info("%s", self._line(now))

    def _line(self, now: float) -> str:
        elapsed = max(now - self._started, 1e-6)
        rate = self._done / elapsed
        line = f"{self._description}: {self._done}/{self._total} {self._unit}, {rate:.1f} {self._unit}/s"
        if 0 < self._done < self._total:
            return f"{line}, {duration((self._total - self._done) / rate)} to go"
        return f"{line}, took {duration(elapsed)}"


def _tqdm() -> Optional[Callable]:
    """None where it isn't installed: a model is served without it."""
    try:
        import tqdm
    except ImportError:
        return None
    return tqdm.tqdm


@contextlib.contextmanager
def progress(total: int, description: str, unit: str, leave: bool = True) -> Iterator:
    """Yields an object whose `update(n)` tells that n more of `total` units are done.

    In a terminal a tqdm bar on stderr with rate and ETA; elsewhere, and where there is no tqdm, absl log lines with the
    same, at most every `LOG_SECONDS`, and one at the end of what took longer than `SHORT_SECONDS` and did not fail.

    Args: leave: the bar stays when it is full; False: the caller tells what came of it in its place.
    """
    bar_of = _tqdm() if sys.stderr.isatty() else None
    if bar_of:
        with bar_of(total=total, desc=description, unit=f" {unit}", dynamic_ncols=True,
                    leave=leave) as bar:
            yield bar
        return
    lines = _LogLines(total, description, unit)
    yield lines
    lines.finish()
