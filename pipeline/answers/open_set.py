"""Answers where not every class may be answered: those outside the known set are one answer, 'unknown'."""

import numpy as np

RULES = ("first", "sum")
UNKNOWN = -1  # among class indices: none of the known


def rank(log_probabilities: np.ndarray, known: np.ndarray, answers: int, rule: str) -> np.ndarray:
    """The best distinct answers of each example, best first.

    Rule `first`: the classes in the order of their probabilities, every one outside the known read as unknown, what
    comes a second time skipped; so unknown stands where the best outside class stands. Rule `sum`: unknown scores
    the sum of the outside classes' probabilities. Of equals the lower class index comes first; under `sum`, where
    unknown has no index, it comes after the known ones that it equals. Without outside classes unknown is never
    answered.

    Args:
      log_probabilities: float [n, classes]; the rows need not be normalized.
      known: bool [classes].
      answers: at most the known classes, and one more where there are outside classes.
      rule: one of RULES.

    Returns:
      int [n, answers] class indices, UNKNOWN for unknown.

    Raises:
      ValueError: more answers than there are, no class that is known, or another rule.
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is none of {RULES}")
    if answers > count_answers(known):
        raise ValueError(f"{answers} answers of {count_answers(known)} possible ones")
    if not known.any():
        raise ValueError("no class is known")
    known_indices = np.flatnonzero(known)
    inside = log_probabilities if known.all() else log_probabilities[:, known_indices]
    order = _best(inside, min(answers, len(known_indices)))
    if known.all():
        return order
    score, tie_index = _unknown_score(log_probabilities[:, ~known], np.flatnonzero(~known), rule)
    inside = inside.astype(np.float64, copy=False)  # as precise as the score that it is compared with
    before = (inside > score) | ((inside == score) & (known_indices < tie_index))
    return _insert(known_indices[order], before.sum(axis=1), answers)


def count_answers(known: np.ndarray) -> int:
    """How many distinct answers there are: the known classes, and unknown where a class is outside."""
    return int(known.sum()) + int(not known.all())


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


def _unknown_score(outside: np.ndarray, indices: np.ndarray, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """(float64 score [n, 1], class index [n, 1] at which unknown stands among equals)."""
    outside = outside.astype(np.float64)
    best = outside.argmax(axis=1)[:, np.newaxis]  # the first of equals
    highest = np.take_along_axis(outside, best, axis=1)
    if rule == "first":
        return highest, indices[best]
    # exp is taken of differences to the highest, which can't overflow; 0 stands in where all are log 0.
    shift = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):  # log 0 is -inf, as it should be
        total = shift + np.log(np.exp(outside - shift).sum(axis=1, keepdims=True))
    return total, np.full_like(best, np.iinfo(best.dtype).max)


def _insert(best_known: np.ndarray, position: np.ndarray, answers: int) -> np.ndarray:
    """Unknown put at its position [n] into best_known [n, up to answers], cut to `answers` columns."""
    columns = np.arange(answers)[np.newaxis]
    position = position[:, np.newaxis]
    source = np.minimum(columns - (columns > position), best_known.shape[1] - 1)
    return np.where(columns == position, UNKNOWN, np.take_along_axis(best_known, source, axis=1))
