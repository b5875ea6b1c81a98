"""Several labels a picture, each of which is there or not."""

from typing import Sequence

import numpy as np

from pipeline.metrics.multi_label import ThresholdCurve
from pipeline.tasks.task import MANY_HOT, SIGMOID, Task


class MultiLabel(Task):
    """Which labels are there; scored by F2 at a threshold. A blend minimizes the binary log loss of picture-label pairs."""

    kind = "multi_label"
    labels = "several labels"
    encoding = MANY_HOT
    activation = SIGMOID
    losses = ("sigmoid", "focal")
    monitors = ("val_f2", "val_loss")

    def new_scores(self, classes: int) -> ThresholdCurve:
        return ThresholdCurve()

    def truth_probabilities(self, log_probabilities: np.ndarray, labels: Sequence[Sequence[int]]) -> np.ndarray:
        """float64 [n, classes]: p where the picture has the label, 1 − p where not."""
        has_label = np.zeros(log_probabilities.shape, bool)
        for row, one in zip(has_label, labels):
            row[list(one)] = True
        probabilities = np.exp(log_probabilities.astype(np.float64))
        return np.where(has_label, probabilities, 1.0 - probabilities)
