"""LAMB (You et al. 2020): by tensorflow-addons where it is at hand, else as a rule of Keras' present kind of optimizer."""

import re
import types
from typing import Sequence

import tensorflow as tf

EPSILON = 1e-6  # as in tensorflow-addons
_REPLICA = r"/replica_[0-9]+"  # what the names of the other replicas' copies of a variable have more


def of_addons(library: types.ModuleType, rate, weight_decay: float, clip_norm: float, variables: Sequence[tf.Variable],
              factors: Sequence[float], l2s: Sequence[float], spared: Sequence[tf.Variable]):
    """What is spared the decay is spared the trust ratio too. The other arguments are optimizers.build's."""
    own_of = {variable.name: numbers for variable, *numbers in zip(variables, factors, l2s)}

    class Lamb(library.optimizers.LAMB):
        """An optimizer of Keras' older kind, whose rule takes the rate from `apply_state`, by device and dtype."""

        def _resource_apply_dense(self, grad, var, apply_state=None):
            place, (factor, l2) = (var.device, var.dtype.base_dtype), own_of[re.sub(_REPLICA, "", var.name)]
            own = {**apply_state[place], "lr_t": apply_state[place]["lr_t"] * factor}
            return super()._resource_apply_dense(grad + l2 * var if l2 else grad, var, {**apply_state, place: own})

    # Names go into regular expressions; with none to spare, a pattern that nothing matches.
    names = [variable.name.removesuffix(":0") for variable in spared]
    patterns = [f"^{re.escape(name)}({_REPLICA})?:0$" for name in names] or ["^$"]
    clip = {"global_clipnorm": clip_norm} if clip_norm else {}
    optimizer = Lamb(rate, weight_decay=weight_decay, exclude_from_weight_decay=patterns, name="LAMB", **clip)
    # It makes its counter when that is first read: within a step, of several replicas, that would be too late.
    assert optimizer.iterations is not None
    return optimizer


class Rule(tf.keras.optimizers.Adam):
    """The same on the slots of Keras' Adam.

    Args:
      trusted: of each variable that the optimizer is built for, whether its step has the norm that the trust ratio gives it,
        and its decay. The others step as Adam's do.
      trusted_decay: the decay, within the step whose norm is taken.
    """

    def __init__(self, rate, trusted: Sequence[bool], trusted_decay: float, **arguments):
        super().__init__(rate, epsilon=EPSILON, **arguments)
        self._trusted, self._trusted_decay = tuple(trusted), trusted_decay

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        index = self._index_dict[self._var_key(variable)]
        step = self._adam_step(tf.convert_to_tensor(gradient), self._momentums[index], self._velocities[index])
        if self._trusted[index]:
            step += self._trusted_decay * variable
            step *= _trust_ratio(tf.norm(variable), tf.norm(step))
        variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * step)

    def _adam_step(self, gradient: tf.Tensor, mean: tf.Variable, square: tf.Variable) -> tf.Tensor:
        """Without the rate."""
        count = tf.cast(self.iterations + 1, gradient.dtype)
        mean.assign(self.beta_1 * mean + (1.0 - self.beta_1) * gradient)
        square.assign(self.beta_2 * square + (1.0 - self.beta_2) * tf.square(gradient))
        unbiased_mean = mean / (1.0 - tf.pow(self.beta_1, count))
        unbiased_square = square / (1.0 - tf.pow(self.beta_2, count))
        return unbiased_mean / (tf.sqrt(unbiased_square) + self.epsilon)


def _trust_ratio(weight_norm: tf.Tensor, step_norm: tf.Tensor) -> tf.Tensor:
    """1 where either is 0."""
    return tf.where((weight_norm > 0) & (step_norm > 0), tf.math.divide_no_nan(weight_norm, step_norm), 1.0)
