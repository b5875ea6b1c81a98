"""Predictions combined: the mean of several models' probabilities, aligned by id and class."""

from typing import Iterator, Optional, Sequence

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


class Blend:
    """A weighted arithmetic mean of several predictions' probabilities, as one prediction.

    Classes and ids are aligned by name, never by position. Raises UserError naming the folder whose classes or ids
    are not those of the first.

    Args:
      members: at least one.
      weights: [members], or [examples, members] in the order of the first member's ids; each row sums to 1. None: equal.
    """

    def __init__(self, members: Sequence[predictions.Predictions], weights: Optional[np.ndarray] = None):
        first = members[0]
        self.ids = first.ids
        self.class_ids = first.class_ids
        self.meta = first.meta
        self.directory = first.directory
        self._members = members
        self._rows = [self._align(member.ids, self.ids, "id", member.directory) for member in members]
        self._columns = [self._align(member.class_ids, self.class_ids, "class", member.directory)
                         for member in members]
        if weights is None:
            weights = np.full(len(members), 1 / len(members))
        self._weights = np.broadcast_to(weights, (len(self.ids), len(members)))

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
            for index, part in enumerate(self._parts(chunk)):
                # A weight of 0 takes a member out: its logarithm is −inf.
                with np.errstate(divide="ignore"):
                    part = part + np.log(self._weights[chunk, index, np.newaxis]).astype(np.float32)
                total = part if total is None else np.logaddexp(total, part)
            yield [self.ids[i] for i in chunk], total

    def label_probabilities(self, labels: np.ndarray) -> np.ndarray:
        """What each member gives to the label of each example: float64 [examples, members].

        Args: labels: int [examples], class indices in the order of `ids`.
        """
        result = np.empty(self._weights.shape)
        for chunk in predictions.chunks(len(self.ids)):
            for index, part in enumerate(self._parts(chunk)):
                result[chunk, index] = np.exp(np.take_along_axis(part, labels[chunk, np.newaxis], axis=1)[:, 0])
        return result

    def _parts(self, chunk: np.ndarray) -> Iterator[np.ndarray]:
        """Each member's float32 log-probabilities [chunk, classes], aligned."""
        for member, rows, columns in zip(self._members, self._rows, self._columns):
            yield member.rows(rows[chunk])[:, columns]
