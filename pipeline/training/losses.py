"""Losses as functions (labels, logits) → float32 [batch], one value an example; the step averages them."""

import math
from typing import Callable, Optional

import numpy as np
import tensorflow as tf

from pipeline.ops import mixing
from pipeline.runs.stages import Stage
from pipeline.tasks.task import ARCFACE

Loss = Callable[[mixing.Labels, tf.Tensor], tf.Tensor]

_LEAST_SINE = 1e-3  # of an angle: float32 cosines tell no smaller one, and the sine's slope has no bound there


def make(stage: Stage) -> Loss:
    """The loss that a stage is validated by: of what it is trained with, without what makes learning harder on purpose;
    labels may be mixing.MixedLabels."""
    return _over_labels(BY_NAME[stage.loss](stage))


def make_training(stage: Stage, scale: float, log_prior: Optional[np.ndarray] = None) -> Loss:
    """The loss that a stage is trained with; labels as of `make`.

    Args:
      scale: of ArcFace's logits.
      log_prior: see logit_adjusted; given where the stage adjusts its logits.
    """
    loss = BY_NAME[stage.loss](stage)
    if log_prior is not None:
        loss = logit_adjusted(loss, log_prior, stage.logit_adjust)
    if stage.loss == ARCFACE:  # outermost: it wants the cosines as they are
        loss = with_angular_margin(loss, stage.arcface_margin, scale)
    return _over_labels(loss)


def _over_labels(loss: Loss) -> Loss:
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


def with_angular_margin(loss: Loss, margin: float, scale: float) -> Loss:
    """A softmax `loss` of logits scale · cos θ in which the label's angle θ is greater by `margin`, in radians.

    Deng et al. 2019: cos(θ + m). Where θ + m is beyond π, and that would rise again, it is cos θ − m · sin m, as in their
    code.
    """

    def harder(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        logits = tf.cast(logits, tf.float32)
        cosine = tf.gather(logits, labels, batch_dims=1) / scale
        sine = tf.sqrt(tf.maximum(1.0 - cosine * cosine, _LEAST_SINE**2))
        moved = tf.where(cosine > -math.cos(margin), cosine * math.cos(margin) - sine * math.sin(margin),
                         cosine - margin * math.sin(margin))
        less = scale * (moved - cosine)
        return loss(labels, logits + tf.one_hot(labels, logits.shape[-1]) * less[:, tf.newaxis])

    return harder


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
    ARCFACE: lambda stage: softmax_cross_entropy(stage.label_smoothing),  # make_training adds the margin
    "sigmoid": lambda stage: sigmoid_cross_entropy(stage.label_smoothing),
    "focal": lambda stage: focal_cross_entropy(stage.focal_alpha, stage.focal_gamma, stage.label_smoothing),
}
