"""What each replica has for itself, for the checkpoint: its sums of metrics, its moving statistics of BatchNorm.

A checkpoint of the variables alone holds their sum or mean over the replicas; a run that went on from that would be rounded
otherwise from there on.
"""

from typing import Sequence

import tensorflow as tf

from pipeline.devices import steps


def of_replicas(model: tf.keras.Model) -> list[tf.Variable]:
    """The variables of a network that each replica has for itself, however many there are."""
    return [one for one in model.weights if one.synchronization == tf.VariableSynchronization.ON_READ]


class ReplicaValues:
    """The values of some variables by replica.

    Attributes:
      state: belongs into the checkpoint.
    """

    def __init__(self, variables: Sequence[tf.Variable], strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._variables = list(variables)
        # On a TPU a metric's variable is the same on all replicas.
        self._apart = [strategy.num_replicas_in_sync > 1 and one.synchronization == tf.VariableSynchronization.ON_READ
                       for one in self._variables]
        # [replicas, …]: another start may have more of them, or fewer.
        self._kept = [tf.Variable(tf.zeros([1, *one.shape], one.dtype), shape=[None, *one.shape], trainable=False)
                      for one in self._variables]
        self.state = tf.train.Checkpoint(sums=self._kept)
        self._gather = steps.on_replicas(strategy, self._gather_replica)
        self._give = steps.on_replicas(strategy, self._give_replica)

    def take(self) -> None:
        """Puts the variables' values into `state`; between steps, of several hosts on all at once."""
        gathered = iter(self._strategy.experimental_local_results(self._gather())[0] if any(self._apart) else ())
        for one, kept, apart in zip(self._variables, self._kept, self._apart):
            kept.assign(next(gathered) if apart else tf.convert_to_tensor(one)[tf.newaxis])

    def give(self) -> None:
        """Puts what is in `state` into the variables. Of another number of replicas that is its sum, or nothing where the
        variable is a mean, which the checkpoint has restored."""
        replicas, given = self._strategy.num_replicas_in_sync, []
        for one, kept, apart in zip(self._variables, self._kept, self._apart):
            values, is_sum = kept.read_value(), one.aggregation == tf.VariableAggregation.SUM
            if apart and values.shape[0] != replicas:
                values = tf.pad(tf.reduce_sum(values, axis=0, keepdims=True),
                                [[0, replicas - 1], *[[0, 0]] * (values.shape.rank - 1)]) if is_sum else None
            if apart:
                given.append(tf.stack([one] * replicas) if values is None else values)
            elif is_sum or values.shape[0] == 1:
                one.assign(tf.reduce_sum(values, axis=0))
        if given:
            self._give(*given)

    def _gather_replica(self) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        return [context.all_gather(tf.convert_to_tensor(one)[tf.newaxis], axis=0)
                for one, apart in zip(self._variables, self._apart) if apart]

    def _give_replica(self, *values: tf.Tensor) -> None:
        own = tf.distribute.get_replica_context().replica_id_in_sync_group
        apart = [one for one, apart in zip(self._variables, self._apart) if apart]
        for one, each in zip(apart, values):
            one.assign(each[own])
