"""Writes predictions as a stream that can be entered in the middle.

Rows go into files of temporary names, which take the place of earlier predictions when all are there. Now and then a mark
tells how many of them are on the disk, and of what: who was stopped goes on behind them. (On a remote store, which can't go
on with a file that it has, they are written where they belong, and begin anew.)
"""

import json
import os
import time
from typing import Any, Optional, Sequence

from absl import logging
import numpy as np

from pipeline import files
from pipeline.errors import WorkError
from pipeline.metrics import log_space

MATRIX_FILE = "log_probabilities.npy"
IDS_FILE = "ids.txt"
META_FILE = "meta.json"
UNFINISHED = ".unfinished"           # what the names of the stream's files end with
UNFINISHED_FILE = "unfinished.json"  # how far it is
SAVE_SECONDS = 10.0
# The smallest value that float16 can hold, so that log 0 stays finite.
LOWEST = float(np.finfo(np.float16).min)


class Writer:
    """Appends rows in any order; `finish` puts them in their place, and meta.json last: with it the folder is whole.

    Args:
      of: what is predicted by what, as JSON; a stream of just the same that was not finished goes on. None: it begins anew.

    Attributes:
      done: how many rows stood when it began.
    """

    def __init__(self, directory: str, examples: int, classes: int, of: Optional[Any] = None):
        self._directory, self._examples, self._classes = directory, examples, classes
        self._of = None if of is None or files.is_remote(directory) else json.loads(json.dumps(of))
        files.make_dirs(directory)
        if files.is_remote(directory):
            files.remove(self._path(META_FILE))  # while rows are being written it's not whole
        # NumPy's own header, of which the row count is a part.
        self._header = _header((examples, classes))
        self.done = self._rows_that_stand()
        self._rows = self.done
        if not self.done:
            self._begin()
        with files.named_in_errors(self._path(MATRIX_FILE)):
            self._matrix = files.open_file(self._stream(MATRIX_FILE), "ab" if self._of is not None else "wb")
            if not self.done and self._of is None:
                self._matrix.write(self._header)
        self._ids = files.open_file(self._stream(IDS_FILE), "ab" if self._of is not None else "wb")
        self._saved = time.monotonic()

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _stream(self, name: str) -> str:
        """Where a file stands until all is there."""
        return self._path(name) + ("" if files.is_remote(self._directory) else UNFINISHED)

    def _begin(self) -> None:
        """Without what was left by others."""
        files.remove(self._path(UNFINISHED_FILE))
        if self._of is not None:
            files.remove(self._stream(IDS_FILE))
            with files.named_in_errors(self._path(MATRIX_FILE)), files.open_file(self._stream(MATRIX_FILE), "wb") as file:
                file.write(self._header)

    def _rows_that_stand(self) -> int:
        """Of a stream of the same; both files then end behind the last row that was marked."""
        if self._of is None or not files.exists(self._path(UNFINISHED_FILE)):
            return 0
        try:
            told = json.loads(_read(self._path(UNFINISHED_FILE)))
            rows, of = told["rows"], told["of"]
            if of != self._of or not isinstance(rows, int) or not 0 < rows <= self._examples:
                return 0
            with open(self._stream(MATRIX_FILE), "rb") as file:
                if file.read(len(self._header)) != self._header:
                    return 0
            ids = _read(self._stream(IDS_FILE))
            end = _end_of_line(ids, rows)
            whole = len(self._header) + rows * self._classes * 2
            if end is None or files.size(self._stream(MATRIX_FILE)) < whole:
                return 0
        except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):  # half gone, or edited by hand
            return 0
        os.truncate(self._stream(MATRIX_FILE), whole)
        os.truncate(self._stream(IDS_FILE), end)
        logging.info("%s: going on behind %d of %d pictures", self._directory, rows, self._examples)
        return rows

    def append(self, ids: Sequence[str], log_probabilities: np.ndarray) -> None:
        """Adds rows: `log_probabilities` is a float array [len(ids), classes]."""
        if log_probabilities.shape != (len(ids), self._classes):
            raise ValueError(f"{log_probabilities.shape} for {len(ids)} ids and {self._classes} classes")
        broken = ~log_space.rank_classes(log_probabilities)
        if broken.any():
            raise WorkError(f"the model's answer for {ids[int(broken.argmax())]} is NaN or infinite; predict in float32, or "
                            "train it anew at a lower rate")
        if log_probabilities.min(initial=0) < LOWEST:
            log_probabilities = np.maximum(log_probabilities, LOWEST)
        with files.named_in_errors(self._path(MATRIX_FILE)):
            self._matrix.write(log_probabilities.astype("<f2").tobytes())
        with files.named_in_errors(self._path(IDS_FILE)):
            self._ids.write("".join(f"{one}\n" for one in ids).encode("utf-8"))
        self._rows += len(ids)
        if self._of is not None and time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        """Marks the rows that are on the disk."""
        for name, file in ((MATRIX_FILE, self._matrix), (IDS_FILE, self._ids)):
            with files.named_in_errors(self._path(name)):
                file.flush()
                os.fsync(file.fileno())
        files.write_json(self._path(UNFINISHED_FILE), {
            "about": "predict.py is writing these predictions, or was; the same command goes on", "rows": self._rows,
            "of": self._of})
        self._saved = time.monotonic()

    def finish(self, meta: dict[str, Any]) -> None:
        """Raises ValueError where the number of rows is not the one that was announced."""
        for name, file in ((MATRIX_FILE, self._matrix), (IDS_FILE, self._ids)):
            with files.named_in_errors(self._path(name)):
                file.close()
        if self._rows != self._examples:
            raise ValueError(f"{self._rows} rows were written, {self._examples} announced")
        if not files.is_remote(self._directory):
            files.remove(self._path(META_FILE))  # those of before end here
            for name in (MATRIX_FILE, IDS_FILE):
                files.rename(self._stream(name), self._path(name))
        files.write_json(self._path(META_FILE), meta)
        files.remove(self._path(UNFINISHED_FILE))

    def discard(self) -> None:
        """After an error: removes what was written, unless the next one goes on with it."""
        for file in (self._matrix, self._ids):
            try:
                file.close()
            except OSError as error:  # what it could not write is told already
                logging.info("%s: %s", self._directory, error)
        if self._of is None and not files.is_remote(self._directory):
            for name in (MATRIX_FILE, IDS_FILE):
                files.remove(self._stream(name))


def _read(path: str) -> bytes:
    with files.open_file(path, "rb") as file:
        return file.read()


def _end_of_line(content: bytes, lines: int) -> Optional[int]:
    """Bytes of so many lines; None where there are not as many."""
    end = 0
    for _ in range(lines):
        end = content.find(b"\n", end) + 1
        if not end:
            return None
    return end


def _header(shape: tuple[int, int]) -> bytes:
    parts: list[bytes] = []
    np.lib.format.write_array_header_1_0(_WithWrite(parts), {"descr": "<f2", "fortran_order": False, "shape": shape})
    return b"".join(parts)


class _WithWrite:
    """np.lib.format wants a file; this one keeps what is written."""

    def __init__(self, parts: list[bytes]):
        self.write = parts.append
