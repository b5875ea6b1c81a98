"""What a model's metrics have summed up within an epoch, for the checkpoint of a step in the middle of it."""

from typing import Sequence

import tensorflow as tf


class MetricSums:
    """Each replica sums for itself, and so its sum is kept for itself: added up before, the mean would be rounded otherwise.

    Attributes:
      state: belongs into the checkpoint.
    """

    def __init__(self, metrics: Sequence[tf.keras.metrics.Metric], strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._sums = [variable for metric in metrics for variable in metric.variables]
        # On a TPU a metric's variable is the same on all replicas.
        self._by_replica = strategy.num_replicas_in_sync > 1 and not isinstance(strategy, tf.distribute.TPUStrategy)
        # [replicas, …]: another start may have more of them, or fewer.
        self._kept = [tf.Variable(tf.zeros([1, *one.shape], one.dtype), shape=[None, *one.shape], trainable=False)
                      for one in self._sums]
        self.state = tf.train.Checkpoint(sums=self._kept)
        self._gather = tf.function(lambda: strategy.run(self._gather_replica))
        self._give = tf.function(lambda *kept: strategy.run(self._give_replica, args=kept))

    def take(self) -> None:
        """Puts the metrics' sums into `state`; between steps, of several hosts on all at once."""
        if self._by_replica:
            sums = self._strategy.experimental_local_results(self._gather())[0]
        else:
            sums = [tf.convert_to_tensor(one)[tf.newaxis] for one in self._sums]
        for kept, value in zip(self._kept, sums):
            kept.assign(value)

    def give(self) -> None:
        """Puts what is in `state` into the metrics."""
        kept = [one.read_value() for one in self._kept]
        if not self._by_replica:
            for one, values in zip(self._sums, kept):
                one.assign(tf.reduce_sum(values, axis=0))
            return
        replicas = self._strategy.num_replicas_in_sync
        if kept[0].shape[0] != replicas:
            kept = [tf.pad(tf.reduce_sum(one, axis=0, keepdims=True), [[0, replicas - 1], *[[0, 0]] * (one.shape.rank - 1)])
                    for one in kept]
        self._give(*kept)

    def _gather_replica(self) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        return [context.all_gather(tf.convert_to_tensor(one)[tf.newaxis], axis=0) for one in self._sums]

    def _give_replica(self, *kept: tf.Tensor) -> None:
        own = tf.distribute.get_replica_context().replica_id_in_sync_group
        for one, values in zip(self._sums, kept):
            one.assign(values[own])
