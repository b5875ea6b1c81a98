"""Several labels a picture, each of which is there or not."""

from typing import Sequence, Union

import numpy as np

from pipeline.metrics import log_space
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
        probabilities = np.exp(log_probabilities.astype(np.float64))
        return np.where(_truth(log_probabilities.shape, labels), probabilities, 1.0 - probabilities)

    def temper(self, log_probabilities: np.ndarray, temperature: Union[float, np.ndarray]) -> np.ndarray:
        """sigmoid(logit / T), of each class by itself."""
        logits = log_probabilities - log_space.log_rest(log_probabilities)
        return -np.logaddexp(0, -logits / np.asarray(temperature, logits.dtype))

    def log_losses(self, log_probabilities: np.ndarray, labels: Sequence[Sequence[int]]) -> np.ndarray:
        """float64 [n]: the binary log loss, mean over the classes."""
        logs = log_probabilities.astype(np.float64)
        return -np.where(_truth(logs.shape, labels), logs, log_space.log_rest(logs)).mean(axis=1)


def _truth(shape: tuple[int, ...], labels: Sequence[Sequence[int]]) -> np.ndarray:
    """bool [n, classes]: which labels each picture has."""
    found = np.zeros(shape, bool)
    for row, one in zip(found, labels):
        row[list(one)] = True
    return found
