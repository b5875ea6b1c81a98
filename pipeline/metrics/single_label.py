"""Scores of single-label predictions, gathered chunk by chunk, and of ranked answers."""

from typing import Mapping, Optional

import numpy as np

from pipeline.metrics import log_space


def label_ranks(labels: np.ndarray, log_probabilities: np.ndarray) -> np.ndarray:
    """How many classes stand before the label, 0 for a top-1 hit.

    Among equals the lower class index stands first. In a row that ranks nothing (see log_space.rank_classes) they are
    beyond all bounds, as in step_metrics.label_ranks.

    Args: int [n] labels, float [n, classes].
    """
    own = np.take_along_axis(log_probabilities, labels[:, np.newaxis], axis=1)
    indices = np.arange(log_probabilities.shape[1])[np.newaxis]
    before = (log_probabilities > own) | ((log_probabilities == own) & (indices < labels[:, np.newaxis]))
    return np.where(log_space.rank_classes(log_probabilities), before.sum(axis=1), np.iinfo(np.int64).max)


def mean_average_precision(truth: np.ndarray, answers: np.ndarray) -> float:
    """MAP@k with one true answer an example: the mean of 1 / (the rank at which it stands), 0 where it does not.

    Args: int [n] truth, int [n, k] answers, best first, in the same numbers (open_set.UNKNOWN is one of them); n >= 1.
    """
    hits = answers == truth[:, np.newaxis]
    ranks = hits.argmax(axis=1) + 1  # of the first hit
    return float(np.where(hits.any(axis=1), 1 / ranks, 0.0).mean())


# What competitions score by, from the scores that evaluation gathers.
COMPETITION_METRICS = {
    "top1_error": lambda scores: 1 - scores["top1"],
    "top3_error": lambda scores: 1 - scores["top3"],
    "top5_error": lambda scores: 1 - scores["top5"],
    "f2": lambda scores: scores["f2"],
    "map5": lambda scores: scores.get("open_set_first", scores["map5"]),
}


def competition_score(metric: str, scores: Mapping[str, float]) -> Optional[float]:
    """What a competition scores by; None where a manifest, whoever wrote it, names nothing known or another kind of task's."""
    try:
        return COMPETITION_METRICS[metric](scores)
    except KeyError:
        return None


class SingleLabelScores:
    """Accumulates top-1, top-3, top-5, macro top-1 (mean over the classes that occur), log loss and MAP@5.

    MAP@5 with one truth a picture: the reciprocal of the truth's rank among the first five, else 0.
    """

    def __init__(self, classes: int):
        self._examples = np.zeros(classes, np.int64)
        self._hits = np.zeros(classes, np.int64)
        self._top3 = 0
        self._top5 = 0
        self._reciprocal_ranks = 0.0
        self._log_loss = 0.0

    def update(self, labels: np.ndarray, log_probabilities: np.ndarray) -> np.ndarray:
        """int [n] labels and float [n, classes] log-probabilities, which are normalized here; returns label_ranks.

        (Rounding to float16 moves their sum away from 1 by about 1e-3.)
        """
        ranks = label_ranks(labels, log_probabilities)
        np.add.at(self._examples, labels, 1)
        np.add.at(self._hits, labels, ranks < 1)
        self._top3 += int((ranks < 3).sum())
        self._top5 += int((ranks < 5).sum())
        self._reciprocal_ranks += float((1.0 / (ranks[ranks < 5] + 1)).sum())
        own = np.take_along_axis(log_probabilities, labels[:, np.newaxis], axis=1)
        self._log_loss += float((log_space.normalizers(log_probabilities) - own).sum(dtype=np.float64))
        return ranks

    def result(self) -> dict[str, float]:
        """top1, top3, top5, macro_top1 (shares), log_loss (nats), map5 and examples; needs at least one example."""
        count = int(self._examples.sum())
        occurring = self._examples > 0
        return {
            "top1": float(self._hits.sum() / count),
            "top3": self._top3 / count,
            "top5": self._top5 / count,
            "macro_top1": float((self._hits[occurring] / self._examples[occurring]).mean()),
            "log_loss": self._log_loss / count,
            "map5": self._reciprocal_ranks / count,
            "examples": count,
        }
