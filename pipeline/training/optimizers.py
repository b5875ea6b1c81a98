"""Optimizers by name, from Keras and, for LAMB, tensorflow-addons, each variable at a rate of its own.

A variable's rate is the optimizer's (its schedule, its warm-up) times a constant factor, multiplied inside the update:
one optimizer, one pass over the gradients, one global norm.
"""

import contextlib
import re
from typing import Iterator, Optional, Sequence

import tensorflow as tf

from pipeline import addons


def _is_spared(variable: tf.Variable) -> bool:
    """Biases, norms' scales and offsets: decay would only fight the data there (He et al. 2019, "bag of tricks")."""
    return variable.shape.rank <= 1


class _OwnRates:
    """Mixed into a Keras optimizer: a rate for each variable, and decoupled weight decay at that rate.

    Keras' update rules read `learning_rate` for one variable at a time, so while a variable is updated it answers with
    that one's. (Keras' own decay is applied in a loop apart, at one rate for all, and left unused.)
    """

    def __init__(self, rate, weight_decay: float, variables: Sequence[tf.Variable], factors: Sequence[float],
                 **arguments):
        self._factor = 1.0  # of the variable being updated
        super().__init__(rate, **arguments)
        self._factors = tuple(factors)
        self._decays = tuple(0.0 if _is_spared(variable) else weight_decay for variable in variables)
        self.build(variables)  # now, so that a checkpoint finds its slots when it is restored

    @property
    def learning_rate(self):
        rate = super().learning_rate
        return rate if self._factor == 1.0 else rate * self._factor

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        index = self._index_dict[self._var_key(variable)]  # as Keras' own rules find their slots
        with self._at(self._factors[index]):
            if self._decays[index]:
                share = tf.cast(self.learning_rate * self._decays[index], variable.dtype)
                variable.assign_sub(share * variable)
            super().update_step(gradient, variable)

    @contextlib.contextmanager
    def _at(self, factor: float) -> Iterator[None]:
        self._factor = factor
        try:
            yield
        finally:
            self._factor = 1.0


class _Sgd(_OwnRates, tf.keras.optimizers.SGD):
    pass


class _Adam(_OwnRates, tf.keras.optimizers.Adam):
    pass


_REPLICA = r"/replica_[0-9]+"  # what the names of the other replicas' copies of a variable have more


def _lamb(rate, weight_decay: float, clip_norm: float, variables: Sequence[tf.Variable], factors: Sequence[float]):
    """You et al. 2020. What is spared the decay is spared the trust ratio too."""
    library = addons.load("--optimizer=lamb").optimizers
    factor_of = {variable.name: factor for variable, factor in zip(variables, factors)}

    class Lamb(library.LAMB):
        """An optimizer of Keras' older kind, whose rule takes the rate from `apply_state`, by device and dtype."""

        def _resource_apply_dense(self, grad, var, apply_state=None):
            place, factor = (var.device, var.dtype.base_dtype), factor_of[re.sub(_REPLICA, "", var.name)]
            own = {**apply_state[place], "lr_t": apply_state[place]["lr_t"] * factor}
            return super()._resource_apply_dense(grad, var, {**apply_state, place: own})

    # Names go into regular expressions; with none to spare, a pattern that nothing matches.
    spared = [variable.name.removesuffix(":0") for variable in variables if _is_spared(variable)]
    patterns = [f"^{re.escape(name)}({_REPLICA})?:0$" for name in spared] or ["^$"]
    clip = {"global_clipnorm": clip_norm} if clip_norm else {}
    return Lamb(rate, weight_decay=weight_decay, exclude_from_weight_decay=patterns, name="LAMB", **clip)


def build(name: str, rate, *, momentum: float, weight_decay: float, clip_norm: float,
          variables: Sequence[tf.Variable], factors: Optional[Sequence[float]] = None):
    """Makes the optimizer for `variables`.

    Args:
      name: sgd, adam, adamw (which is adam, as both take the decoupled decay) or lamb.
      rate: a learning-rate schedule, or a number, which then becomes a variable of the optimizer.
      momentum: of sgd; the others keep their own defaults.
      weight_decay: decoupled (Loshchilov & Hutter 2019: each step takes rate · weight_decay off a weight, at the
        variable's own rate); vectors and scalars are spared.
      clip_norm: the gradients' global norm, over all variables whatever their rate, is clipped to it; 0: not.
      factors: what the rate is multiplied by for each of `variables`; None: 1 for all.
    """
    factors = [1.0] * len(variables) if factors is None else factors
    if name == "lamb":
        return _lamb(rate, weight_decay, clip_norm, variables, factors)
    clip = {"global_clipnorm": clip_norm or None}
    if name == "sgd":
        return _Sgd(rate, weight_decay, variables, factors, momentum=momentum, **clip)
    return _Adam(rate, weight_decay, variables, factors, **clip)
