"""Losses as functions (labels, logits) → float32 [batch], one value an example; the step averages them."""

from typing import Callable

import numpy as np
import tensorflow as tf

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


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
