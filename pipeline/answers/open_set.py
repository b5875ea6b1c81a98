"""Answers where not every class may be answered: those outside the known set are one answer, 'unknown'.

Rules, by what they give unknown as its score among the probabilities of the known classes:

  first        the best outside class's probability
  sum          the sum of the outside classes' probabilities; sum:FACTOR: so many times it
  threshold:T  T itself: unknown is the first answer where no known class has more

(Energy, −logsumexp of the logits, is none of them: what predictions hold are log-probabilities, whose logsumexp is 0. That
of the known classes alone is the logarithm of one minus the outside sum, so that what it can tell `sum:FACTOR` tells.)
"""

import dataclasses
import math
from typing import Union

import numpy as np

from pipeline.answers.open_set_rules import FIRST, SUM, THRESHOLD, Rule, parse

RULES = (FIRST, SUM)  # those that have no parameter
UNKNOWN = -1  # among class indices: none of the known
NO_ANSWER = np.iinfo(np.int64).max  # there: an answer that is missing


def rank(log_probabilities: np.ndarray, known: np.ndarray, answers: int, rule: Union[str, Rule]) -> np.ndarray:
    """The best distinct answers of each example, best first.

    Rule `first`: the classes in the order of their probabilities, every one outside the known read as unknown, what
    comes a second time skipped; so unknown stands where the best outside class stands. Rule `sum`: unknown scores
    the sum of the outside classes' probabilities; `threshold:T`: T. Of equals the lower class index comes first; under
    `sum` and `threshold`, where unknown has no index, it comes after the known ones that it equals. Without outside classes
    unknown is answered by `threshold` alone.

    Args:
      log_probabilities: float [n, classes]; the rows need not be normalized, but for `threshold`.
      known: bool [classes].
      answers: at most those that count_answers tells.
      rule: as open_set_rules.parse reads it, or what that gives.

    Returns:
      int [n, answers] class indices, UNKNOWN for unknown.

    Raises:
      ValueError: more answers than there are, no class that is known, or another rule.
    """
    rule = parse(rule) if isinstance(rule, str) else rule
    if answers > count_answers(known, rule):
        raise ValueError(f"{answers} answers of {count_answers(known, rule)} possible ones")
    if not known.any():
        raise ValueError("no class is known")
    return Best.of(log_probabilities, known, answers).answers(rule)


def count_answers(known: np.ndarray, rule: Union[str, Rule] = FIRST) -> int:
    """How many distinct answers there are: the known classes, and unknown where a class is outside or none is needed."""
    rule = parse(rule) if isinstance(rule, str) else rule
    return int(known.sum()) + int(not known.all() or rule.name == THRESHOLD)


@dataclasses.dataclass(frozen=True)
class Best:
    """What of log-probabilities every rule answers from: of each of n examples

    Attributes:
      classes: int64 [n, answers], the best known ones, best first; NO_ANSWER beyond the last.
      logs: float64 [n, answers], theirs; −inf there.
      outside: float64 [n, 1], the highest log-probability of an outside class; −inf where there is none.
      index: int64 [n, 1], that class; −1 where there is none.
      total: float64 [n, 1], the logarithm of the outside classes' sum.
    """

    classes: np.ndarray
    logs: np.ndarray
    outside: np.ndarray
    index: np.ndarray
    total: np.ndarray

    @classmethod
    def of(cls, log_probabilities: np.ndarray, known: np.ndarray, answers: int) -> "Best":
        """Args: as those of `rank`."""
        known_indices = np.flatnonzero(known)
        inside = log_probabilities if known.all() else log_probabilities[:, known_indices]
        order = _best(inside, min(answers, len(known_indices)))
        missing = ((0, 0), (0, answers - order.shape[1]))
        logs = np.take_along_axis(inside, order, axis=1).astype(np.float64)  # as precise as what they are compared with
        return cls(np.pad(known_indices[order], missing, constant_values=NO_ANSWER),
                   np.pad(logs, missing, constant_values=-np.inf),
                   *_outside(log_probabilities[:, ~known], np.flatnonzero(~known)))

    @classmethod
    def joined(cls, parts: list["Best"]) -> "Best":
        """All of them, one after the other."""
        return cls(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in dataclasses.fields(cls)))

    def answers(self, rule: Rule) -> np.ndarray:
        """int64 [n, answers] class indices, UNKNOWN for unknown."""
        score, tie_index = self._unknown(rule)
        before = (self.logs > score) | ((self.logs == score) & (self.classes < tie_index))
        position = before.sum(axis=1, keepdims=True)
        if rule.name != THRESHOLD:
            position[self.index < 0] = self.classes.shape[1]
        return _insert(self.classes, position)

    def _unknown(self, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
        """(float64 score [n, 1], the class index [n, 1] at which unknown stands among equals)."""
        if rule.name == FIRST:
            return self.outside, self.index
        last = np.full_like(self.index, NO_ANSWER)
        if rule.name == THRESHOLD:
            return np.full_like(self.outside, math.log(rule.parameter)), last
        return self.total + math.log(rule.parameter), last


def _best(log_probabilities: np.ndarray, answers: int) -> np.ndarray:
    """The classes of the highest values, best first, of equals the lower index: int [n, answers], answers <= classes.

    One argmax an answer: of 10,000 classes, five that way cost a hundredth of sorting them all.
    """
    left = log_probabilities.astype(np.promote_types(log_probabilities.dtype, np.float32))
    np.maximum(left, np.finfo(left.dtype).min, out=left)  # so that only what has been taken is −inf
    rows = np.arange(len(left))
    best = np.empty((len(left), answers), np.int64)
    for answer in range(answers):
        best[:, answer] = left.argmax(axis=1)
        left[rows, best[:, answer]] = -np.inf
    return best


def _outside(outside: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best.outside, index and total of the outside classes' log-probabilities [n, outside] and their indices."""
    if not len(indices):
        nothing = np.full((len(outside), 1), -np.inf)
        return nothing, np.full((len(outside), 1), -1), nothing
    outside = outside.astype(np.float64)
    best = outside.argmax(axis=1)[:, np.newaxis]  # the first of equals
    highest = np.take_along_axis(outside, best, axis=1)
    # exp is taken of differences to the highest, which can't overflow; 0 stands in where all are log 0.
    shift = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):  # log 0 is -inf, as it should be
        total = shift + np.log(np.exp(outside - shift).sum(axis=1, keepdims=True))
    return highest, indices[best], total


def _insert(classes: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Unknown put at its position [n, 1] into classes [n, answers], whose last then falls out."""
    columns = np.arange(classes.shape[1])[np.newaxis]
    source = np.maximum(columns - (columns > position), 0)
    return np.where(columns == position, UNKNOWN, np.take_along_axis(classes, source, axis=1))
