"""The predictions artefact: a folder with log_probabilities.npy, ids.txt and meta.json, read as a stream.

log_probabilities.npy holds float16 natural logarithms [examples, classes] (probabilities themselves would underflow);
line i of ids.txt is the id of row i, in no particular order. 500,000 × 10,000 never stands in memory as a whole.
"""

import os
import tokenize
from typing import Any, Iterable, Iterator, Optional, Union

import numpy as np

from pipeline import files, json_types, lock
from pipeline.answers.prediction_writer import IDS_FILE, LOWEST, MATRIX_FILE, META_FILE, Writer
from pipeline.errors import UserError
from pipeline.metrics import log_space

OUT_OF_FOLD = "out_of_fold"  # folder of a model directory: what each of its folds predicts of the pictures it held out
NEIGHBOURS = "_neighbours"  # what the default folders of predict.py --neighbours end with
PROBE = "probe"  # folder there, and of each fold's: what a probe that is not the last stage predicts of what is held out
# Folder there, and of each fold's: what its model says of pictures that other folds hold out, of classes that it was trained
# without (--hold_out_classes).
STRANGERS = "strangers"
# Values worked on at a time: as float32 they stay in a core's cache, which is three times as fast as 1,024 rows of
# 10,000 classes through memory.
CHUNK_VALUES = 1 << 16
# A float16 by its bits as float32; looking it up is twice as fast as NumPy's conversion.
_FLOAT32_OF_BITS = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


# What NumPy raises for a header that is none: it is read as a Python literal.
HEADER_ERRORS = (OSError, ValueError, TypeError, SyntaxError, EOFError, RecursionError, MemoryError, tokenize.TokenError)
# Of meta.json, what is read of it, if it is told; the first two always are.
_META = {"class_ids": list[str], "split": str, "model_dir": str, "dataset": dict[str, Any], "examples": int,
         "tta": Optional[str], "fold": Union[None, int, list[int]], "threshold": Optional[float], "out_of_fold": bool,
         "seen": Optional[dict[str, Any]], "neighbours": int}


def _checked(meta: Any, path: str) -> dict[str, Any]:
    """What a meta.json tells. Raises UserError where it is none of ours."""
    if not isinstance(meta, dict):
        raise UserError(f"--predictions: {path} was not written by predict.py")
    wrong = [name for name in ("class_ids", "split") if name not in meta]
    wrong += [name for name, hint in _META.items() if name in meta and not json_types.is_of(meta[name], hint)]
    if not wrong and not isinstance(meta.get("dataset", {}).get("classes", ""), str):
        wrong = ["dataset"]
    if wrong:
        raise UserError(f"--predictions: {path} was not written by predict.py, or was edited: its {wrong[0]} is "
                        f"{str(meta.get(wrong[0]))[:60]!r}")
    return {"model_dir": "", "fold": None, "tta": None, "threshold": None, **meta,
            "dataset": {"classes": "", **meta.get("dataset", {})}}


class Predictions:
    """Predictions on disk; rows are read when they are asked for."""

    of_another_program = False  # see foreign.ForeignPredictions

    def __init__(self, directory: str):
        self.directory = directory
        meta_path = os.path.join(directory, META_FILE)
        if not files.exists(meta_path):
            raise UserError(f"--predictions: {directory} holds no finished predictions of predict.py (no {META_FILE})")
        self.meta: dict[str, Any] = _checked(files.read_json(meta_path), meta_path)
        try:
            with files.open_file(os.path.join(directory, IDS_FILE), "rb") as file:
                self.ids = file.read().decode("utf-8").split("\n")[:-1]  # not splitlines: a name may hold U+2028
        except (FileNotFoundError, UnicodeDecodeError):
            raise UserError(f"--predictions: {directory}/{IDS_FILE} is damaged; run predict.py again") from None
        self._path = os.path.join(directory, MATRIX_FILE)
        try:
            with files.open_file(self._path, "rb") as file:
                np.lib.format.read_magic(file)
                self.shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                self._offset = file.tell()
        except HEADER_ERRORS:  # it is gone, or is no array
            raise UserError(f"--predictions: {self._path} is damaged; run predict.py again") from None
        whole = self._offset + self.shape[0] * self.shape[1] * dtype.itemsize
        if dtype != np.float16 or files.size(self._path) != whole or len(self.ids) != self.shape[0]:
            raise UserError(f"--predictions: {self._path} is damaged; run predict.py again")

    @property
    def class_ids(self) -> list[str]:
        return self.meta["class_ids"]

    def open(self, columns: Optional[np.ndarray] = None) -> "Reader":
        """A reader for a `with`; `columns`: for each class that it gives, which of ours it is (None: all as they are)."""
        return Reader(files.open_file(self._path, "rb"), self._path, self._offset, self.shape[1], columns)

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """The float32 log-probabilities [len(positions), classes] of these rows."""
        with self.open() as reader:
            return reader.rows(positions)

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """(ids, float32 log-probabilities [chunk, classes]) over all rows in their order."""
        with self.open() as reader:
            for positions in chunks(*self.shape):
                yield [self.ids[i] for i in positions], reader.rows(positions)


class Reader:
    """The rows of open predictions. The file stays open between reads: gs:// takes long to open one, and reads ahead."""

    def __init__(self, file, path: str, offset: int, classes: int, columns: Optional[np.ndarray]):
        self._file, self._path, self._offset, self._classes, self._columns = file, path, offset, classes, columns

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Float32 log-probabilities [len(positions), classes], all finite; neighbours are read at one go.

        Raises UserError for a row that ranks nothing (see log_space.rank_classes): another program may have written it.
        """
        runs = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
        bits = np.concatenate([self._read(int(run[0]), len(run)) for run in runs])
        if self._columns is not None:
            bits = bits[:, self._columns]
        logs = np.take(_FLOAT32_OF_BITS, bits, mode="clip")
        if not np.isfinite(logs.min(initial=0) + logs.max(initial=0)):  # two passes through the cache
            self._check(logs)
            np.maximum(logs, LOWEST, out=logs)  # as if Writer had written them
        return logs

    def _check(self, logs: np.ndarray) -> None:
        if not log_space.rank_classes(logs).all():
            raise UserError(f"--predictions: {self._path} holds answers that are NaN or infinite; predict anew, with a model "
                            "that is not broken")

    def _read(self, first: int, count: int) -> np.ndarray:
        row_bytes = self._classes * 2
        self._file.seek(self._offset + first * row_bytes)
        return np.frombuffer(self._file.read(count * row_bytes), "<u2").reshape(count, self._classes)


def write(directory: str, rows: Iterable[tuple[list[str], np.ndarray]], meta: dict[str, Any]) -> None:
    """Writes a predictions folder from (ids, log-probabilities) chunks; meta tells `examples` and `class_ids`."""
    with lock.held(directory):
        writer = Writer(directory, meta["examples"], len(meta["class_ids"]))
        try:
            for ids, log_probabilities in rows:
                writer.append(ids, log_probabilities)
            writer.finish(meta)
        except BaseException:
            writer.discard()
            raise


def chunks(count: int, classes: int) -> Iterator[np.ndarray]:
    """0 … count − 1 in pieces of CHUNK_VALUES of `classes` each, of one row at least."""
    rows = max(CHUNK_VALUES // classes, 1)
    for start in range(0, count, rows):
        yield np.arange(start, min(start + rows, count))
