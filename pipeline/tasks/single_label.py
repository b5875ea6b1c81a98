"""One label a picture: classes that exclude each other."""

from typing import Sequence, Union

import numpy as np

from pipeline.metrics import log_space
from pipeline.metrics.single_label import SingleLabelScores
from pipeline.tasks.task import ARCFACE, INDEX, SOFTMAX, Task


class SingleLabel(Task):
    """Which one class it is; scored by top-1 and its kin, the losses of a blend are −log p(label)."""

    kind = "single_label"
    labels = "one label"
    encoding = INDEX
    activation = SOFTMAX
    losses = ("softmax", ARCFACE)
    monitors = ("val_loss", "val_accuracy", "val_top5")

    def new_scores(self, classes: int) -> SingleLabelScores:
        return SingleLabelScores(classes)

    def truth_probabilities(self, log_probabilities: np.ndarray, labels: Sequence[Sequence[int]]) -> np.ndarray:
        """float64 [n, 1]: of the label."""
        own = np.array([one[0] for one in labels], np.int64)[:, np.newaxis]
        return np.exp(np.take_along_axis(log_probabilities, own, axis=1)).astype(np.float64)

    def temper(self, log_probabilities: np.ndarray, temperature: Union[float, np.ndarray]) -> np.ndarray:
        """p^(1/T), renormalized: what the softmax gives of logits / T."""
        return log_space.normalize(log_probabilities / np.asarray(temperature, log_probabilities.dtype))

    def log_losses(self, log_probabilities: np.ndarray, labels: Sequence[Sequence[int]]) -> np.ndarray:
        """float64 [n]: −log p(label), of rows that are normalized here."""
        own = np.array([one[0] for one in labels], np.int64)[:, np.newaxis]
        own = np.take_along_axis(log_probabilities, own, axis=1)
        return (log_space.normalizers(log_probabilities) - own)[:, 0].astype(np.float64)
