"""Losses as functions (labels, logits) → float32 [batch], one value an example; the step averages them."""

from typing import Callable

import numpy as np
import tensorflow as tf

from pipeline.ops import mixing
from pipeline.runs.stages import Stage

Loss = Callable[[mixing.Labels, tf.Tensor], tf.Tensor]


def make(stage: Stage) -> Loss:
    """The loss of a stage; labels may be mixing.MixedLabels."""
    loss = BY_NAME[stage.loss](stage)
    return lambda labels, logits: mixing.over_labels(lambda own: loss(own, logits), labels)


def softmax_cross_entropy(label_smoothing: float) -> Loss:
    """Cross-entropy of int labels [batch] under float32 logits [batch, classes].

    With smoothing e the target is (1 − e) at the label plus e/classes everywhere (Szegedy et al. 2016), so the loss is
    (1 − e)·(−log p_label) + e·mean(−log p): that form needs no one-hot matrix.
    """

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        log_probabilities = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        hit = -tf.gather(log_probabilities, labels, batch_dims=1)
        if not label_smoothing:
            return hit
        return (1.0 - label_smoothing) * hit - label_smoothing * tf.reduce_mean(log_probabilities, axis=-1)

    return loss


def logit_adjusted(loss: Loss, log_prior: np.ndarray, tau: float) -> Loss:
    """A softmax `loss` of logits + tau · log prior(class) (Menon et al. 2021); `log_prior` is float32 [classes].

    Training under it leaves to the prior what the prior explains, so that at tau 1 the logits themselves are those of
    equally frequent classes.
    """
    offsets = (tau * log_prior).astype(np.float32)
    return lambda labels, logits: loss(labels, tf.cast(logits, tf.float32) + offsets)


def sigmoid_cross_entropy(label_smoothing: float) -> Loss:
    """Binary cross-entropy of targets [batch, classes] in [0, 1] (several labels an example), averaged over classes.

    With smoothing e a target y becomes (1 − e)·y + e/2, as in Keras' BinaryCrossentropy.
    """

    def loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(_binary_cross_entropy(_smooth(targets, label_smoothing), logits), axis=-1)

    return loss


def focal_cross_entropy(alpha: float, gamma: float, label_smoothing: float) -> Loss:
    """Binary cross-entropy with more weight on what is hard, averaged over classes (Lin et al. 2017, as iMet 2019's
    solution has it).

    A target y with logit x weighs 2·(α·y + (1 − α)·(1 − y))·exp(γ·log σ(−x·(2y − 1))), for y of 0 and 1 this is
    2·α·(1 − p_y)^γ and 2·(1 − α)·(1 − p_y)^γ with p_y the probability given to the truth. No gradient goes through
    the weight: that of (1 − p)^γ is infinite at p = 1 where γ < 1. Targets and smoothing as sigmoid_cross_entropy's.
    """

    def loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        targets, logits = _smooth(targets, label_smoothing), tf.cast(logits, tf.float32)
        hardness = tf.exp(gamma * tf.math.log_sigmoid(-logits * (2.0 * targets - 1.0)))
        weights = tf.stop_gradient(2.0 * (alpha * targets + (1.0 - alpha) * (1.0 - targets)) * hardness)
        return tf.reduce_mean(weights * _binary_cross_entropy(targets, logits), axis=-1)

    return loss


def _smooth(targets: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    return (1.0 - label_smoothing) * targets + label_smoothing / 2.0


def _binary_cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """float32 [batch, classes], finite (as its gradient is) at every finite logit."""
    return tf.nn.sigmoid_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32))


# Those that a task names among its losses, by what makes them of a stage's settings.
BY_NAME: dict[str, Callable[[Stage], Loss]] = {
    "softmax": lambda stage: softmax_cross_entropy(stage.label_smoothing),
    "sigmoid": lambda stage: sigmoid_cross_entropy(stage.label_smoothing),
    "focal": lambda stage: focal_cross_entropy(stage.focal_alpha, stage.focal_gamma, stage.label_smoothing),
}
