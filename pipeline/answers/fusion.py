"""Predictions combined: the mean of several models' probabilities, aligned by id and class."""

import contextlib
from typing import Callable, Iterator, Optional, Sequence

import numpy as np

from pipeline import files
from pipeline.answers import foreign, predictions
from pipeline.answers.mixture import Mixture
from pipeline.errors import UserError
from pipeline.metrics import log_space
from pipeline.records import dataset as datasets
from pipeline.tasks.task import Task

# The logarithm of a weight of 0: finite, since −inf − (−inf) is NaN, and below anything that a member can say.
_NO_WEIGHT = np.float32(-1e30)


def find(patterns: Sequence[str], flag: str = "predictions", data: Optional[datasets.Dataset] = None,
         split: Optional[str] = None) -> list[predictions.Predictions]:
    """Opens the predictions under the folders or globs of a flag; raises UserError where a pattern finds nothing.

    Args:
      data: whose classes and pictures they are of; then they may be files of another program too.
      split: of the pictures of such files; None: the one that has their ids.
    """
    directories = []
    for pattern in patterns:
        found = files.matching(pattern)
        if not found:
            raise UserError(f"--{flag}: nothing is at {pattern}")
        directories.extend(found)
    if not directories:
        raise UserError(f"--{flag} is missing")
    opened = [foreign.ForeignPredictions(path, data, split) if data and foreign.is_of_another_program(path)
              else predictions.Predictions(path) for path in dict.fromkeys(directories)]
    if split and not any(one.of_another_program for one in opened):
        raise UserError(f"--split={split} is for predictions of other programs (.npz, .npy); ours tell theirs")
    return opened


def of_other_splits(one: predictions.Predictions, other: predictions.Predictions) -> bool:
    """Whether two predictions have no split in common, so that an id in both names two pictures."""
    return not set(one.meta["split"].split("+")) & set(other.meta["split"].split("+"))


def _check_splits(members: Sequence[predictions.Predictions]) -> None:
    strange = next((one for one in members if of_other_splits(one, members[0])), None)
    if strange:
        raise UserError(f"--predictions: {strange.directory} is of {strange.meta['split']}, {members[0].directory} of "
                        f"{members[0].meta['split']}")


class Blend:
    """A weighted arithmetic mean of several predictions' probabilities, as one prediction.

    Classes and ids are aligned by name, never by position. Raises UserError naming the folder whose classes or ids
    are not those of the first.

    Args:
      members: at least one.
      mixture: their weights, and temperatures of their own; None: equal weights.
      log_priors: float32 [classes] for each member, in the order of the first one's classes: its probabilities are divided
        by exp of it, and renormalized, before they are blended. None: they are blended as they are.
      temper: puts a temperature on the blend, see temperature.Temper; None: none.
    """

    def __init__(self, members: Sequence[predictions.Predictions], mixture: Optional[Mixture] = None,
                 log_priors: Optional[Sequence[np.ndarray]] = None, temper: Optional[Callable] = None):
        first = members[0]
        _check_splits(members)
        self.ids = first.ids
        self.class_ids = first.class_ids
        self.meta = first.meta
        self.directory = first.directory
        self.members = members
        self._rows = [self._align(member.ids, self.ids, "id", member.directory) for member in members]
        columns = [self._align(member.class_ids, self.class_ids, "class", member.directory) for member in members]
        in_order = np.arange(len(self.class_ids))
        self._columns = [None if np.array_equal(one, in_order) else one for one in columns]
        self.mixture = mixture or Mixture.equal(len(members))
        self.temper = temper
        self._log_priors = log_priors
        weights = self.mixture.weights
        log_weights = np.log(weights, where=weights > 0, out=np.full_like(weights, _NO_WEIGHT, np.float32))
        self._log_weights = np.broadcast_to(log_weights, (len(self.ids), len(members)))

    def _align(self, theirs: list[str], ours: list[str], what: str, directory: str) -> np.ndarray:
        """For each of our names its position among theirs."""
        if len(theirs) != len(ours):
            raise UserError(f"--predictions: {directory} has {len(theirs)} {what} names, "
                            f"{self.members[0].directory} has {len(ours)}")
        positions = {name: position for position, name in enumerate(theirs)}
        missing = [name for name in ours if name not in positions]
        if missing:
            raise UserError(f"--predictions: {directory} lacks the {what} {missing[0]} of "
                            f"{self.members[0].directory}")
        return np.array([positions[name] for name in ours])

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """(ids, float32 log-probabilities [chunk, classes]) over all examples; the arrays may be written to."""
        for chunk, parts in self.parts(np.arange(len(self.ids))):
            total = None
            for index, (part, log_weights) in enumerate(zip(parts, self._log_weights[chunk].T)):
                part = self.mixture.temper(index, part, chunk)
                if self._log_priors is not None:
                    part = log_space.normalize(part - self._log_priors[index])
                part += log_weights[:, np.newaxis]
                total = part if total is None else log_space.add(total, part)
            yield [self.ids[i] for i in chunk], total if self.temper is None else self.temper(total, chunk)

    def truth_probabilities(self, labels: Sequence[Sequence[int]], task: Task, positions: np.ndarray) -> np.ndarray:
        """What each member gives to the truth, by its own temperature: float64 [positions, parts, members], see
        Task.truth_probabilities.

        Args:
          labels: class indices of each example at `positions`.
          positions: int, ascending, among `ids`.
        """
        found: list[list[np.ndarray]] = [[] for _ in self.members]
        for chunk, parts in self.parts(positions):
            own = [labels[one] for one in chunk]
            for index, (part, of_member) in enumerate(zip(parts, found)):
                tempered = self.mixture.temper(index, part, positions[chunk])
                of_member.append(task.truth_probabilities(tempered, own))
        return np.stack([np.concatenate(of_member) for of_member in found], axis=-1)

    def parts(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, Iterator[np.ndarray]]]:
        """Chunk by chunk, which of `positions` (int, among `ids`) are in it, and each member's float32 log-probabilities
        [chunk, classes] of them, aligned and as they are."""
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(member.open(columns))
                       for member, columns in zip(self.members, self._columns)]
            for chunk in predictions.chunks(len(positions), len(self.class_ids)):
                yield chunk, (reader.rows(rows[positions[chunk]]) for reader, rows in zip(readers, self._rows))
