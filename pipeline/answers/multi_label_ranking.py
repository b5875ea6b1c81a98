"""From probabilities to answers where a picture has several labels: those that reach the threshold."""

from typing import Optional

import numpy as np

from pipeline.answers import fusion, thresholds
from pipeline.metrics import multi_label
from pipeline.records import dataset as datasets


def answer(data: datasets.Dataset, blended: fusion.Blend, threshold: Optional[float], min_samples: int,
           ) -> tuple[list[str], list[list[str]], list[str]]:
    """(ids, the source ids of the labels of each, those for a picture that can't be read).

    Args:
      blended: of weights that are the same for all pictures.
      threshold: None: thresholds.for_submission.
      min_samples: what fewer train pictures have is not answered.
    """
    allowed = thresholds.answerable(data, min_samples)
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
        rows += _texts(data, multi_label.answers(thresholds.mask(log_probabilities, allowed), threshold))
    return ids, rows


def most_frequent_labels(data: datasets.Dataset, threshold: float, allowed: np.ndarray) -> list[str]:
    """The best guess for a picture that can't be read: answered as if shares of train were probabilities."""
    split = "train" if "train" in data.manifest.splits else "train_mini"
    counts = np.array([[one.train_count for one in data.manifest.classes]], np.float64)
    with np.errstate(divide="ignore"):  # log 0
        shares = np.log(counts / data.manifest.split_size(split))
    return _texts(data, multi_label.answers(thresholds.mask(shares, allowed), threshold))[0]


def _texts(data: datasets.Dataset, rows: list[list[int]]) -> list[list[str]]:
    class_ids = data.class_ids
    return [[class_ids[index] for index in row] for row in rows]
