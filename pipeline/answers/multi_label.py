"""From probabilities to answers where a picture has several labels: those that reach the threshold."""

import numpy as np

from pipeline.answers import fusion, thresholds
from pipeline.answers.asked import Asked
from pipeline.metrics import multi_label as metrics
from pipeline.records import dataset as datasets


def answer(data: datasets.Dataset, blended: fusion.Blend, asked: Asked) -> tuple[list[str], list[list[str]], list[str]]:
    """(ids, the source ids of the labels of each, those for a picture that can't be read).

    Args: `blended` is of weights that are the same for all pictures.
    """
    allowed = thresholds.answerable(data, asked.min_samples)
    threshold = asked.threshold
    if threshold is None:
        threshold = thresholds.for_submission(blended, data, allowed)
    print(f"answering labels from a probability of {threshold:.4g}")
    ids, rows = best_labels(data, blended, threshold, allowed)
    return ids, rows, most_frequent_labels(data, threshold, allowed)


def best_labels(data: datasets.Dataset, mean: fusion.Blend, threshold: float, allowed: np.ndarray,
                ) -> tuple[list[str], list[list[str]]]:
    """(ids, for each the source ids of its labels, best first; see multi_label.answers).

    Args: `mean` has the classes of `data`, in the same order; allowed: bool [classes], from thresholds.answerable.
    """
    ids: list[str] = []
    rows: list[list[str]] = []
    for chunk_ids, log_probabilities in mean.chunks():
        ids += chunk_ids
        rows += _texts(data, metrics.answers(thresholds.mask(log_probabilities, allowed), threshold))
    return ids, rows


def most_frequent_labels(data: datasets.Dataset, threshold: float, allowed: np.ndarray) -> list[str]:
    """The best guess for a picture that can't be read: answered as if shares of train were probabilities."""
    split = "train" if "train" in data.manifest.splits else "train_mini"
    counts = np.array([[one.train_count for one in data.manifest.classes]], np.float64)
    with np.errstate(divide="ignore"):  # log 0
        shares = np.log(counts / data.manifest.split_size(split))
    return _texts(data, metrics.answers(thresholds.mask(shares, allowed), threshold))[0]


def _texts(data: datasets.Dataset, rows: list[list[int]]) -> list[list[str]]:
    class_ids = data.class_ids
    return [[class_ids[index] for index in row] for row in rows]
