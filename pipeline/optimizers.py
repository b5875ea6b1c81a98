"""Optimizers by name, from Keras and, for LAMB, tensorflow-addons."""

import re
from typing import Sequence

import tensorflow as tf

from pipeline import addons


def _is_spared(variable: tf.Variable) -> bool:
    """Biases, norms' scales and offsets: decay would only fight the data there (He et al. 2019, "bag of tricks")."""
    return variable.shape.rank <= 1


def _keras_optimizer(name: str, rate, momentum: float, common: dict) -> tf.keras.optimizers.Optimizer:
    if name == "sgd":
        return tf.keras.optimizers.SGD(rate, momentum=momentum, **common)
    if name == "adam":
        return tf.keras.optimizers.Adam(rate, **common)
    return tf.keras.optimizers.AdamW(rate, **common)


def _lamb(rate, weight_decay: float, clip_norm: float, spared: Sequence[tf.Variable]):
    """You et al. 2020."""
    # Names go into a regular expression; with none to spare, a pattern that nothing matches.
    patterns = [f"^{re.escape(variable.name)}$" for variable in spared] or ["^$"]
    clip = {"global_clipnorm": clip_norm} if clip_norm else {}
    optimizers = addons.load("--optimizer=lamb").optimizers
    return optimizers.LAMB(rate, weight_decay=weight_decay, exclude_from_weight_decay=patterns, **clip)


def build(name: str, rate, *, momentum: float, weight_decay: float, clip_norm: float,
          variables: Sequence[tf.Variable]):
    """Makes the optimizer for `variables`.

    Args:
      name: sgd, adam, adamw or lamb.
      rate: a learning-rate schedule, or a number, which then becomes a variable of the optimizer.
      momentum: of sgd; the others keep their own defaults.
      weight_decay: decoupled (each step takes rate · weight_decay off a weight); vectors and scalars are spared.
      clip_norm: the gradients' global norm is clipped to it; 0: not.
    """
    spared = [variable for variable in variables if _is_spared(variable)]
    if name == "lamb":
        return _lamb(rate, weight_decay, clip_norm, spared)
    # AdamW's own default decay (0.004) is not what --weight_decay=0 asks for, so 0 is passed on, not left out.
    decay = weight_decay if weight_decay or name == "adamw" else None
    optimizer = _keras_optimizer(name, rate, momentum, {"weight_decay": decay, "global_clipnorm": clip_norm or None})
    if decay is not None:
        optimizer.exclude_from_weight_decay(var_list=spared)
    optimizer.build(variables)  # now, so that a checkpoint finds its slots when it is restored
    return optimizer
