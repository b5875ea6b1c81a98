"""Several labels a picture: which are answered at a threshold, and how well (F2 averaged over samples).

A label is answered where its probability reaches the threshold, but of each picture at least the best one and at most
the ten best. F2 of a picture is 5·hits / (4·labels + answers): recall counts more than precision.
"""

from typing import Optional, Sequence

import numpy as np

from pipeline.metrics import log_space

THRESHOLDS = np.arange(1, 100) / 100
LEAST, MOST = 1, 10  # answers a picture
SCORES = ("f2", "precision", "recall", "labels")  # means over pictures; labels: the number of answers


def best_first(log_probabilities: np.ndarray) -> np.ndarray:
    """int [n, min(MOST, classes)]: the best classes of each picture; of equals the lower index comes first."""
    return np.argsort(-log_probabilities, axis=1, kind="stable")[:, :MOST]


def count_answers(log_probabilities: np.ndarray, order: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """int [n, thresholds]: how many of the classes in `order` are answered at each threshold."""
    best = np.exp(np.take_along_axis(log_probabilities, order, axis=1).astype(np.float64))
    reached = (best[:, :, np.newaxis] >= thresholds) & (best[:, :, np.newaxis] > 0)  # 0: may not be answered
    return np.maximum(reached.sum(axis=1), LEAST)


def answers(log_probabilities: np.ndarray, threshold: float) -> list[list[int]]:
    """The class indices answered for each picture, best first. Args: float [n, classes], natural logarithms."""
    order = best_first(log_probabilities)
    counts = count_answers(log_probabilities, order, np.array([threshold]))[:, 0]
    return [row[:count].tolist() for row, count in zip(order, counts)]


def scores(log_probabilities: np.ndarray, labels: Sequence[Sequence[int]]) -> np.ndarray:
    """float64 [SCORES, n, THRESHOLDS] of pictures that have at least one label each.

    Nothing that is answered for a row that ranks nothing (see log_space.rank_classes) is a hit.

    Args:
      log_probabilities: float [n, classes], natural logarithms.
      labels: the class indices of each picture.
    """
    order = best_first(log_probabilities)
    truth = np.zeros(log_probabilities.shape, bool)
    for row, one in zip(truth, labels):
        row[list(one)] = True
    counts = count_answers(log_probabilities, order, THRESHOLDS)
    hits = np.take_along_axis(truth, order, axis=1).cumsum(axis=1)
    ranked = log_space.rank_classes(log_probabilities)[:, np.newaxis]
    found = np.where(ranked, np.take_along_axis(hits, counts - 1, axis=1), 0)
    relevant = truth.sum(axis=1)[:, np.newaxis]
    return np.stack([5 * found / (4 * relevant + counts), found / counts, found / relevant, counts.astype(np.float64)])


class ThresholdCurve:
    """Accumulates the scores at every threshold, apart for each group of pictures, so that one can be left out."""

    def __init__(self):
        self._sums: dict[int, np.ndarray] = {}
        self._examples: dict[int, int] = {}

    def update(self, log_probabilities: np.ndarray, labels: Sequence[Sequence[int]], groups: np.ndarray) -> None:
        """As `scores`; groups: int [n]."""
        each = scores(log_probabilities, labels)
        for group in np.unique(groups).tolist():
            chosen = groups == group
            self._sums[group] = self._sums.get(group, 0) + each[:, chosen].sum(axis=1)
            self._examples[group] = self._examples.get(group, 0) + int(chosen.sum())

    @property
    def groups(self) -> list[int]:
        return sorted(self._sums)

    @property
    def examples(self) -> int:
        return sum(self._examples.values())

    def means(self) -> dict[str, np.ndarray]:
        """Each of SCORES at every threshold, [THRESHOLDS]."""
        return dict(zip(SCORES, sum(self._sums.values()) / self.examples))

    def best_threshold(self, without: Optional[int] = None) -> float:
        """The threshold with the largest F2, the lowest of equals; fitted without one of the groups where asked."""
        f2 = sum(sums[0] for group, sums in self._sums.items() if group != without)
        return float(THRESHOLDS[np.argmax(f2)])

    def sums_of(self, group: int, threshold: float) -> np.ndarray:
        """[SCORES], summed over the pictures of a group."""
        return self._sums[group][:, int(round(threshold * 100)) - 1]

    def at(self, threshold: float) -> dict[str, float]:
        """Each of SCORES at one of THRESHOLDS."""
        return {name: float(values[int(round(threshold * 100)) - 1]) for name, values in self.means().items()}

    def cross_fitted(self) -> dict[str, float]:
        """Each of SCORES, every group's at the threshold that was fitted without it. Needs two groups or more."""
        total = sum(self.sums_of(group, self.best_threshold(without=group)) for group in self._sums)
        return dict(zip(SCORES, (total / self.examples).tolist()))
