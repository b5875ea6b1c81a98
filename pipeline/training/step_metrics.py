"""What a training or validation step tells of a batch beside its loss: accuracies, or F2 where there are many labels."""

import math
from typing import Optional

import tensorflow as tf

from pipeline.metrics import multi_label
from pipeline.ops import mixing
from pipeline.tasks import registry as tasks


def rank_classes(logits: tf.Tensor) -> tf.Tensor:
    """Whether each row's logits are numbers that rank its classes: bool [batch].

    No NaN and no +inf among them, but −inf for what can't be the answer, unless nothing is left then.
    """
    # Nothing is negated here: Grappler turns `not (a <= b)` into `a > b`, which has another answer for a NaN.
    infinity = tf.constant(math.inf, logits.dtype)
    return tf.reduce_all(logits < infinity, axis=-1) & tf.reduce_any(logits > -infinity, axis=-1)


def label_ranks(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """How many classes stand before the label: int32 [batch], 0 for a top-1 hit.

    Among equal logits the lower class index stands first, as in argmax. In a row that ranks nothing (see rank_classes)
    they are beyond all bounds, so that a broken model scores 0, however few classes there are.
    """
    own = tf.gather(logits, labels, batch_dims=1)[:, tf.newaxis]
    indices = tf.range(tf.shape(logits)[-1], dtype=labels.dtype)[tf.newaxis]
    before = (logits > own) | ((logits == own) & (indices < labels[:, tf.newaxis]))
    return tf.where(rank_classes(logits), tf.reduce_sum(tf.cast(before, tf.int32), axis=-1), tf.int32.max)


def f2_by_threshold(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """F2 of each example at every threshold, float32 [batch, multi_label.THRESHOLDS]; see multi_label.scores.

    It is 0 where the logits rank nothing (see rank_classes).

    Args: float [batch, classes], the targets of at least 1/2 being the labels.
    """
    truth = tf.cast(targets >= 0.5, tf.float32)
    most = min(multi_label.MOST, logits.shape[-1])
    best, order = tf.math.top_k(tf.sigmoid(tf.cast(logits, tf.float32)), most)
    hits = tf.cumsum(tf.gather(truth, order, batch_dims=1), axis=1)  # [batch, most]: of the first 1, 2, … answers
    above = best[:, :, tf.newaxis] >= tf.constant(multi_label.THRESHOLDS, tf.float32)
    answers = tf.maximum(tf.reduce_sum(tf.cast(above, tf.int32), axis=1), multi_label.LEAST)
    found = tf.gather(hits, answers - 1, batch_dims=1)
    labels = tf.reduce_sum(truth, axis=1, keepdims=True)
    f2 = 5.0 * found / (4.0 * labels + tf.cast(answers, tf.float32))
    return tf.where(rank_classes(logits)[:, tf.newaxis], f2, 0.0)


class BestF2(tf.keras.metrics.Metric):
    """Mean F2 over examples at the one threshold of multi_label.THRESHOLDS at which it is largest."""

    def __init__(self):
        super().__init__("f2")
        self._sums = self.add_weight("sums", [len(multi_label.THRESHOLDS)], initializer="zeros")
        self._examples = self.add_weight("examples", initializer="zeros")

    def update_state(self, targets: tf.Tensor, logits: tf.Tensor, weights: Optional[tf.Tensor] = None) -> None:
        """Adds a batch; weights, float [batch], default to 1."""
        weights = tf.ones(tf.shape(targets)[:1]) if weights is None else weights
        self._sums.assign_add(tf.linalg.matvec(f2_by_threshold(targets, logits), weights, transpose_a=True))
        self._examples.assign_add(tf.reduce_sum(weights))

    def reset_state(self) -> None:
        for variable in self.variables:  # Keras' own resets scalars only
            variable.assign(tf.zeros_like(variable))

    def result(self) -> tf.Tensor:
        return tf.math.divide_no_nan(tf.reduce_max(self._sums), self._examples)


class SingleLabelMetrics:
    """loss, accuracy and top5. Of mixed pictures a hit counts with the share of the label that it hits."""

    def __init__(self):
        self._means = {name: tf.keras.metrics.Mean(name) for name in ("loss", "accuracy", "top5")}

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return list(self._means.values())

    def update(self, losses: tf.Tensor, labels: mixing.Labels, logits: tf.Tensor,
               weights: Optional[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Adds a batch (float32 [batch] losses and weights); returns what has come together in the epoch."""
        self._means["loss"].update_state(losses, weights)
        for name, first in (("accuracy", 1), ("top5", 5)):
            hits = mixing.over_labels(lambda own: tf.cast(label_ranks(own, logits) < first, tf.float32), labels)
            self._means[name].update_state(hits, weights)
        return {name: mean.result() for name, mean in self._means.items()}


class MultiLabelMetrics:
    """loss, and f2 at the best threshold. Of mixed pictures the labels of the larger share are the truth."""

    def __init__(self):
        self._loss = tf.keras.metrics.Mean("loss")
        self._f2 = BestF2()

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return [self._loss, self._f2]

    def update(self, losses: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor,
               weights: Optional[tf.Tensor]) -> dict[str, tf.Tensor]:
        """As SingleLabelMetrics.update; labels are float32 [batch, classes]."""
        self._loss.update_state(losses, weights)
        self._f2.update_state(labels, logits, weights)
        return {"loss": self._loss.result(), "f2": self._f2.result()}


BY_KIND = {tasks.SINGLE_LABEL.kind: SingleLabelMetrics, tasks.MULTI_LABEL.kind: MultiLabelMetrics}
