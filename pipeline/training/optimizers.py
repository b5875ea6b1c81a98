"""Optimizers by name, from Keras and, for LAMB, tensorflow-addons where it is at hand, each variable at a rate of its own.

A variable's rate is the optimizer's (its schedule, its warm-up) times a constant factor, multiplied inside the update:
one optimizer, one pass over the gradients, one global norm.
"""

import contextlib
from typing import Any, Iterable, Iterator, Optional, Sequence

import tensorflow as tf

from pipeline import addons
from pipeline.training import lamb


def _is_spared(variable: tf.Variable) -> bool:
    """Biases, norms' scales and offsets: decay would only fight the data there (He et al. 2019, "bag of tricks")."""
    return variable.shape.rank <= 1


class _OwnRates:
    """Mixed into a Keras optimizer: a rate for each variable, decoupled weight decay at that rate, L2 in the gradient.

    Keras' update rules read `learning_rate` for one variable at a time, so while a variable is updated it answers with
    that one's. (Keras' own decay is applied in a loop apart, at one rate for all, and left unused.)
    """

    def __init__(self, rate, variables: Sequence[tf.Variable], factors: Sequence[float], decays: Sequence[float],
                 l2s: Sequence[float], **arguments):
        """factors, decays, l2s: of each of the variables."""
        self._factor = 1.0  # of the variable being updated
        super().__init__(rate, **arguments)
        self._factors, self._decays, self._l2s = tuple(factors), tuple(decays), tuple(l2s)
        self.build(variables)  # now, so that a checkpoint finds its slots when it is restored

    @property
    def learning_rate(self):
        rate = super().learning_rate
        return rate if self._factor == 1.0 else rate * self._factor

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        index = self._index_dict[self._var_key(variable)]  # as Keras' own rules find their slots
        if self._l2s[index]:  # after the clipping, as PyTorch's optimizers do it
            gradient = gradient + self._l2s[index] * variable
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


class _NesterovRule(tf.keras.optimizers.SGD):
    """PyTorch's: v ← momentum · v + g, then w ← w − rate · (g + momentum · v) (Sutskever et al. 2013).

    Keras' own keeps the rate within v, so that a rate that falls takes effect only as v forgets the old one.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        gradient = tf.convert_to_tensor(gradient)  # an embedding's is sparse
        velocity = self.momentums[self._index_dict[self._var_key(variable)]]
        velocity.assign(self.momentum * velocity + gradient)
        variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * (gradient + self.momentum * velocity))


class _NesterovSgd(_OwnRates, _NesterovRule):
    pass


class _Adam(_OwnRates, tf.keras.optimizers.Adam):
    pass


class _Lamb(_OwnRates, lamb.Rule):
    pass


def own_lamb(stages: Iterable[Any]) -> dict[str, bool]:
    """What a run must not change between two starts: the two LAMBs have other slots, so none goes on where the other stopped."""
    own = any(stage.optimizer == "lamb" for stage in stages) and not addons.load()
    return {"lamb_without_tensorflow_addons": True} if own else {}


def build(name: str, rate, *, momentum: float, weight_decay: float, clip_norm: float,
          variables: Sequence[tf.Variable], factors: Optional[Sequence[float]] = None, nesterov: bool = False,
          l2: float = 0.0, decay_all: bool = False):
    """Makes the optimizer for `variables`.

    Args:
      name: sgd, adam, adamw (which is adam, as both take the decoupled decay) or lamb.
      rate: a learning-rate schedule, or a number, which then becomes a variable of the optimizer.
      momentum: of sgd; the others keep their own defaults.
      weight_decay: decoupled (Loshchilov & Hutter 2019: each step takes rate · weight_decay off a weight, at the
        variable's own rate).
      clip_norm: the gradients' global norm, over all variables whatever their rate, is clipped to it; 0: not.
      factors: what the rate is multiplied by for each of `variables`; None: 1 for all.
      nesterov: of sgd, as PyTorch has it.
      l2: so many times the weight is added to its gradient, after the clipping (PyTorch's weight_decay).
      decay_all: weight_decay and l2 take vectors and scalars (biases, norms' scales and offsets) too, which are spared else.
    """
    factors = [1.0] * len(variables) if factors is None else factors
    spared = [variable for variable in variables if _is_spared(variable) and not decay_all]
    left_out = {variable.ref() for variable in spared}
    decays, l2s = ([0.0 if variable.ref() in left_out else amount for variable in variables] for amount in (weight_decay, l2))
    library = addons.load() if name == "lamb" else None
    if library:
        return lamb.of_addons(library, rate, weight_decay, clip_norm, variables, factors, l2s, spared)
    clip = {"global_clipnorm": clip_norm or None}
    if name == "lamb":
        trusted = [variable.ref() not in left_out for variable in variables]
        return _Lamb(rate, variables, factors, [0.0] * len(variables), l2s, trusted=trusted, trusted_decay=weight_decay, **clip)
    if name == "sgd":
        return (_NesterovSgd if nesterov else _Sgd)(rate, variables, factors, decays, l2s, momentum=momentum, **clip)
    return _Adam(rate, variables, factors, decays, l2s, **clip)
