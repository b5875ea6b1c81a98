"""Predictions combined: the mean of several models' probabilities, aligned by id and class."""

from typing import Iterator, Sequence

import numpy as np

from pipeline import files, predictions
from pipeline.errors import UserError


def find(patterns: Sequence[str]) -> list[predictions.Predictions]:
    """Opens the predictions under the given folders or globs; raises UserError where a pattern finds nothing."""
    directories = []
    for pattern in patterns:
        found = sorted(files.glob(pattern))
        if not found:
            raise UserError(f"--predictions: nothing is at {pattern}")
        directories.extend(found)
    if not directories:
        raise UserError("--predictions is missing")
    return [predictions.Predictions(directory) for directory in dict.fromkeys(directories)]


class Mean:
    """The arithmetic mean of several predictions' probabilities, as one prediction.

    Classes and ids are aligned by name, never by position. Raises UserError naming the folder whose classes or ids
    are not those of the first.
    """

    def __init__(self, members: Sequence[predictions.Predictions]):
        first = members[0]
        self.ids = first.ids
        self.class_ids = first.class_ids
        self.meta = first.meta
        self.directory = first.directory
        self._members = members
        self._rows = [self._align(member.ids, self.ids, "id", member.directory) for member in members]
        self._columns = [self._align(member.class_ids, self.class_ids, "class", member.directory)
                         for member in members]

    def _align(self, theirs: list[str], ours: list[str], what: str, directory: str) -> np.ndarray:
        """For each of our names its position among theirs."""
        if len(theirs) != len(ours):
            raise UserError(f"--predictions: {directory} has {len(theirs)} {what} names, "
                            f"{self._members[0].directory} has {len(ours)}")
        positions = {name: position for position, name in enumerate(theirs)}
        missing = [name for name in ours if name not in positions]
        if missing:
            raise UserError(f"--predictions: {directory} lacks the {what} {missing[0]} of "
                            f"{self._members[0].directory}")
        return np.array([positions[name] for name in ours])

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """(ids, float32 log-probabilities [chunk, classes]) over all examples."""
        for chunk in predictions.chunks(len(self.ids)):
            total = None
            for member, rows, columns in zip(self._members, self._rows, self._columns):
                part = member.rows(rows[chunk])[:, columns]
                total = part if total is None else np.logaddexp(total, part)
            yield [self.ids[i] for i in chunk], total - np.float32(np.log(len(self._members)))
