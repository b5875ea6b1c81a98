"""An exponential moving average of the weights, in a second network of the same build.

Polyak & Juditsky 1992; as in the EfficientNets' training, BatchNorm's statistics are averaged too, and the average warms
up: early on it would be mostly initial values.
"""

import tensorflow as tf


class WeightAverage:
    """The averages are the weights of `model`; those being trained are the weights of `source`, of the same build."""

    def __init__(self, model: tf.keras.Model, source: tf.keras.Model, decay: float):
        self.model = model
        self._pairs = list(zip(model.weights, source.weights))
        self._decay = decay

    def start(self) -> None:
        """Makes the averages what the weights are; between steps."""
        for average, weight in self._pairs:
            average.assign(weight)

    def update(self, steps: tf.Tensor) -> None:
        """Takes the weights into the averages; in the step, which may be compiled and on several replicas.

        average ← d · average + (1 − d) · weight with d = min(decay, (1 + steps)/(10 + steps)), where `steps` (int
        scalar) are the steps done, this one included.
        """
        steps = tf.cast(steps, tf.float32)
        share = 1.0 - tf.minimum(self._decay, (1.0 + steps) / (10.0 + steps))
        # Each replica's copy from its own copy of the weight: no traffic between them.
        tf.distribute.get_replica_context().merge_call(self._update_on_replicas, args=(share,))

    def _update_on_replicas(self, strategy: tf.distribute.Strategy, share: tf.Tensor) -> None:
        for average, weight in self._pairs:
            strategy.extended.update(average, _move, args=(weight, share), group=False)


def _move(average: tf.Variable, weight: tf.Variable, share: tf.Tensor) -> None:
    average.assign_sub(share * (average - weight))
