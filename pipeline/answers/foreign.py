"""Another program's predictions (foreign_arrays) as our own: rows aligned by id, columns by class, read as a stream.

What its model was trained on is not known. So scores come with a warning, the prior correction takes the classes' shares of
train, and nothing is fitted on other predictions of the same model.
"""

import contextlib
from typing import Optional

from absl import logging
import numpy as np

from pipeline.answers import foreign_arrays, predictions
from pipeline.answers.foreign_arrays import Arrays
from pipeline.errors import UserError, unknown
from pipeline.metrics import log_space
from pipeline.records import dataset as datasets

# Of 1, what the probabilities of a row may lack or have too much: values below 1e-6 may have been left out, 8,142 of them.
TOLERANCE = 0.01


def is_of_another_program(path: str) -> bool:
    """Whether a path of --predictions is such a file, by its name."""
    return path.endswith(foreign_arrays.ENDINGS)


class ForeignPredictions(predictions.Predictions):
    """Of a file .npz or .npy, in the classes of `data`.

    Args:
      split: of the pictures; None: the one that has all their ids.

    Raises UserError where the file can't be read, or has other classes or pictures. Pictures that were set aside when the
    records were made have no answer of ours to stand beside, and are left out.
    """

    of_another_program = True

    def __init__(self, path: str, data: datasets.Dataset, split: Optional[str] = None):
        # Not the parent's: there is no folder with a meta.json.
        self.directory = path
        self._arrays = Arrays(path)
        self._source_columns = _columns(self._arrays, data)
        split = split or _split_of(self._arrays, data)
        if split not in data.manifest.splits:
            raise unknown("--split", split, data.manifest.splits)
        self._source_rows = _rows(self._arrays, data, split)
        self.ids = [self._arrays.ids[row] for row in self._source_rows]
        self.shape = (len(self.ids), len(data.class_ids))
        self._exclusive = data.task.exclusive
        self.meta = {"examples": len(self.ids), "class_ids": data.class_ids, "split": split, "model_dir": "", "tta": None,
                     "fold": None, "threshold": None, "dataset": {"classes": data.classes_digest()}}

    def open(self, columns: Optional[np.ndarray] = None) -> "_Reader":
        return _Reader(self._arrays, self._source_rows,
                       self._source_columns if columns is None else self._source_columns[columns], self._exclusive)


class _Reader:
    """As predictions.Reader, of rows of another program."""

    def __init__(self, arrays: Arrays, rows: np.ndarray, columns: np.ndarray, exclusive: bool):
        self._arrays, self._rows, self._columns, self._exclusive = arrays, rows, columns, exclusive

    def __enter__(self) -> "_Reader":
        with contextlib.ExitStack() as stack:
            self._read = stack.enter_context(self._arrays.matrix.open())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Float32 log-probabilities [len(positions), classes], finite. Raises UserError for numbers that are none."""
        rows = self._rows[positions]
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        values = np.concatenate([self._read(int(run[0]), len(run)) for run in runs])
        logs = _log_probabilities(values, self._arrays, rows, self._exclusive)[:, self._columns]
        return np.maximum(logs, np.float32(predictions.LOWEST))


def _log_probabilities(values: np.ndarray, arrays: Arrays, rows: np.ndarray, exclusive: bool) -> np.ndarray:
    """Float32 [n, columns] of the numbers [n, columns] of some rows, −inf where a probability is 0. Raises UserError."""
    values = values.astype(np.promote_types(values.dtype, np.float32))

    def check(right: np.ndarray, told: str) -> None:
        if not right.all():
            raise UserError(f"--predictions: {arrays.path}: the row of {arrays.ids[rows[int(right.argmin())]]} {told}")

    check(log_space.rank_classes(values), "holds NaN or infinity")
    if arrays.kind == foreign_arrays.LOGITS:
        logs = log_space.normalize(values) if exclusive else -np.logaddexp(0, -values)
    elif arrays.kind == foreign_arrays.LOG_PROBABILITIES:
        logs = values
    else:
        check(values.min(axis=1) >= 0, "holds a negative probability (where they are logits, they are to be named so)")
        with np.errstate(divide="ignore"):  # log 0
            logs = np.log(values)
    if exclusive:
        sums = np.exp(logs).sum(axis=1, dtype=np.float64)
        right = np.abs(sums - 1) <= TOLERANCE
        check(right, f"has probabilities that sum to {sums[right.argmin()]:.4g}, not 1")
    else:
        check(logs.max(axis=1) <= np.log1p(TOLERANCE), "holds a probability above 1")
    return logs.astype(np.float32)


def _columns(arrays: Arrays, data: datasets.Dataset) -> np.ndarray:
    """Int [classes of data]: the column of each. Raises UserError where they are not the same classes."""
    ours = data.class_ids
    if arrays.class_ids is None:
        if arrays.matrix.shape[1] != len(ours):
            raise UserError(f"--predictions: {arrays.path} has {arrays.matrix.shape[1]} columns, {data.directory} has "
                            f"{len(ours)} classes; add class_ids")
        logging.info("%s tells no class_ids: its columns are taken for the classes in the order of %s", arrays.path,
                     data.directory)
        return np.arange(len(ours))
    position = {one: column for column, one in enumerate(arrays.class_ids)}
    lacking = next((one for one in ours if one not in position), None)
    if lacking is not None:
        raise UserError(f"--predictions: {arrays.path} lacks the class {lacking} of {data.directory}")
    if len(position) > len(ours):
        strange = min(set(position).difference(ours))
        raise UserError(f"--predictions: {arrays.path} has the class {strange}, which {data.directory} has not")
    return np.array([position[one] for one in ours])


def _split_of(arrays: Arrays, data: datasets.Dataset) -> str:
    """The split that has all ids of the file; of several the one that has no others. Raises UserError."""
    ids = set(arrays.ids)
    known = {split: _ids_of(data, split) for split in data.manifest.splits}
    having = [split for split, (usable, rejected) in known.items() if ids <= usable | rejected and ids & usable]
    whole = [split for split in having if known[split][0] <= ids]
    if len(having) == 1 or len(whole) == 1:
        return (having if len(having) == 1 else whole)[0]
    if having:
        raise UserError(f"--predictions: {arrays.path} holds pictures of {' and of '.join(having)}; say which by --split")
    nearest = max(known, key=lambda split: len(ids & known[split][0]))
    strange = min(ids.difference(*known[nearest]))
    raise UserError(f"--predictions: {arrays.path} holds {strange}, which is not in {nearest} of {data.directory}")


def _ids_of(data: datasets.Dataset, split: str) -> tuple[set[str], set[str]]:
    """(ids of the examples of a split, ids of those that were set aside)."""
    return set(data.identifiers(split)["id"]), set(data.rejected(split)["id"])


def _rows(arrays: Arrays, data: datasets.Dataset, split: str) -> np.ndarray:
    """Int: the rows of pictures that are examples of the split, in order. Raises UserError where one is not of the split."""
    usable, rejected = _ids_of(data, split)
    rows = np.array([row for row, one in enumerate(arrays.ids) if one in usable], np.int64)
    strange = next((one for one in arrays.ids if one not in usable and one not in rejected), None)
    if strange is not None or not len(rows):
        raise UserError(f"--predictions: {arrays.path} holds {strange or 'no picture'}, which is not in {split} of "
                        f"{data.directory}")
    if len(rows) < len(arrays.ids):
        logging.warning("%s: %d rows are of pictures that %s has set aside, and are left out", arrays.path,
                        len(arrays.ids) - len(rows), data.directory)
    return rows
