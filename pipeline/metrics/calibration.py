"""Whether probabilities are what they say: reliability by bins, the expected calibration error, and its bootstrap."""

from typing import Sequence

import numpy as np
import pandas as pd

from pipeline.metrics import intervals

BINS = 15  # of equal mass


def reliability(confidence: np.ndarray, hits: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Examples in bins of equally many, least sure first: a row each with confidence and accuracy (means) and count.

    Bounds are the quantiles of the confidence, so that equals share a bin, whatever the order of the examples; where many
    are equal there are fewer bins.

    Args: float [examples], the probability of the answer; bool [examples], whether it is right; at least one example.
    """
    order = np.argsort(confidence, kind="stable")
    means, accuracies, counts = _of_sorted(np.asarray(confidence, np.float64)[order], np.asarray(hits)[order], bins)
    return pd.DataFrame({"confidence": means, "accuracy": accuracies, "count": counts})


def expected_error(table: pd.DataFrame) -> float:
    """The expected calibration error of `reliability`'s table: Σ count · |accuracy − confidence| / examples."""
    return _error(*(table[name].to_numpy() for name in ("confidence", "accuracy", "count")))


def error_by_chance(confidence: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error that answers which are right just as often as they say have on average, of so many
    examples; float [examples]. It is not 0, and where there are few examples it is most of what is measured."""
    random, ordered = np.random.default_rng(intervals.SEED), np.sort(np.asarray(confidence, np.float64))
    return float(np.mean([_error(*_of_sorted(ordered, random.random(len(ordered)) < ordered, bins))
                          for _ in range(intervals.RESAMPLES)]))


def resampled_errors(confidences: Sequence[np.ndarray], hits: Sequence[np.ndarray], losses: Sequence[np.ndarray],
                     bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Expected calibration error and mean loss of bootstrap samples over the examples: float64 [RESAMPLES, lines] each.

    All lines see the same samples, so that their differences are paired; a sample is divided into bins of its own. (Drawn
    pictures stand in a sample several times, whose error is therefore somewhat larger than that of as many new ones.)

    Args: for each line [examples] of `reliability`, and their log losses.
    """
    count, random = len(losses[0]), np.random.default_rng(intervals.SEED)
    orders = [np.argsort(one, kind="stable") for one in confidences]
    ordered = [(np.asarray(confidence, np.float64)[order], np.asarray(hit)[order])
               for confidence, hit, order in zip(confidences, hits, orders)]
    errors, means = (np.empty((intervals.RESAMPLES, len(losses))) for _ in range(2))
    for sample in range(intervals.RESAMPLES):
        times = np.bincount(random.integers(count, size=count), minlength=count)
        for line, (confidence, hit) in enumerate(ordered):
            drawn = np.repeat(np.arange(count), times[orders[line]])
            errors[sample, line] = _error(*_of_sorted(confidence[drawn], hit[drawn], bins))
            means[sample, line] = times @ losses[line] / count
    return errors, means


def _error(confidence: np.ndarray, accuracy: np.ndarray, counts: np.ndarray) -> float:
    return float(counts @ np.abs(accuracy - confidence) / counts.sum())


def _of_sorted(confidence: np.ndarray, hits: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns of `reliability` of examples that stand least sure first."""
    count = len(confidence)
    positions = (count - 1) * np.arange(1, bins) / bins
    below = positions.astype(np.int64)
    bounds = confidence[below] + (positions - below) * (confidence[np.minimum(below + 1, count - 1)] - confidence[below])
    starts = np.unique(np.concatenate([[0], np.searchsorted(confidence, bounds, side="right")]))
    starts = starts[starts < count]
    counts = np.diff(np.append(starts, count))
    return np.add.reduceat(confidence, starts) / counts, np.add.reduceat(hits.astype(np.float64), starts) / counts, counts
