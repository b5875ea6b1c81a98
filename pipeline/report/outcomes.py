"""What was answered to each labelled picture, gathered in one pass: 100,000 × 10,000 probabilities become a few columns."""

from typing import Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd

from pipeline.answers import thresholds
from pipeline.answers.example_table import ExampleTable
from pipeline.metrics import log_space, multi_label as metrics
from pipeline.progress import progress


def single_label(predicted, table: ExampleTable) -> pd.DataFrame:
    """A row for each labelled picture: id, label, answer (class indices; of equals the lower), confidence, own (the
    probabilities of the answer and of the label, float64), hit.

    Args: `predicted` is a Blend, Predictions, or a layer of priors over one.
    """
    parts = []
    with progress(len(predicted.ids), "look at the answers", "pictures") as bar:
        for ids, log_probabilities in predicted.chunks():
            labels = table.label_indices(ids)
            known = labels >= 0
            if known.any():
                parts.append(_chunk(np.array(ids, object)[known], labels[known], log_probabilities[known]))
            bar.update(len(ids))
    return pd.concat(parts, ignore_index=True)


def _chunk(ids: np.ndarray, labels: np.ndarray, logs: np.ndarray) -> pd.DataFrame:
    answers, rows = logs.argmax(axis=1), np.arange(len(logs))
    normalizers = log_space.normalizers(logs)[:, 0]
    return pd.DataFrame({
        "id": ids, "label": labels, "answer": answers, "confidence": np.exp(logs[rows, answers] - normalizers, dtype=np.float64),
        "own": np.exp(logs[rows, labels] - normalizers, dtype=np.float64), "hit": answers == labels})


class SeveralLabels(NamedTuple):
    """Outcomes where a picture has several labels.

    Attributes:
      pictures: a row each: id, f2 at the picture's threshold, wrong and wrong_p (the most probable class that it has not, and
        its probability), missed and missed_p (the least probable one that it has).
      counts: int [3, classes]: how many pictures have each label, are answered with it, and both.
    """

    pictures: pd.DataFrame
    counts: np.ndarray


def several_labels(predicted, labels: Mapping[str, Sequence[int]], allowed: np.ndarray,
                   threshold_of: Mapping[str, float]) -> SeveralLabels:
    """Args: labels: class indices by id; allowed: bool [classes], what may be answered; threshold_of: hundredths by id."""
    parts, counts = [], np.zeros((3, len(predicted.class_ids)), np.int64)
    with progress(len(predicted.ids), "look at the answers", "pictures") as bar:
        for ids, log_probabilities in predicted.chunks():
            known = [position for position, one in enumerate(ids) if one in labels]
            if known:
                logs = thresholds.mask(log_probabilities[known], allowed)
                parts.append(_labels_chunk([ids[one] for one in known], logs, labels, threshold_of, counts))
            bar.update(len(ids))
    return SeveralLabels(pd.concat(parts, ignore_index=True), counts)


def _labels_chunk(ids: Sequence[str], logs: np.ndarray, labels: Mapping[str, Sequence[int]],
                  threshold_of: Mapping[str, float], counts: np.ndarray) -> pd.DataFrame:
    """Adds to `counts`."""
    truth, answered = np.zeros(logs.shape, bool), np.zeros(logs.shape, bool)
    for row, one in enumerate(ids):
        truth[row, list(labels[one])] = True
        answered[row, metrics.answers(logs[row:row + 1], threshold_of[one])[0]] = True
    both = (truth & answered).sum(axis=1)
    counts += np.stack([truth.sum(axis=0), answered.sum(axis=0), (truth & answered).sum(axis=0)])
    wrong, missed = np.where(truth, -np.inf, logs).argmax(axis=1), np.where(truth, logs, np.inf).argmin(axis=1)
    rows = np.arange(len(ids))
    return pd.DataFrame({
        "id": ids, "f2": 5 * both / (4 * truth.sum(axis=1) + answered.sum(axis=1)),
        "wrong": wrong, "wrong_p": np.exp(logs[rows, wrong], dtype=np.float64),
        "missed": missed, "missed_p": np.exp(logs[rows, missed], dtype=np.float64)})
