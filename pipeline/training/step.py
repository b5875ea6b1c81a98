"""The training and validation steps: pure functions of a batch, with Keras' fit and callbacks around them."""

from typing import Any, Callable, Optional, Sequence

import tensorflow as tf

from pipeline.models import draws
from pipeline.tasks import registry as tasks
from pipeline.tasks.task import Task, lookup
from pipeline.training import accumulation, step_metrics
from pipeline.training.losses import Loss
from pipeline.training.weight_average import WeightAverage


Augment = Callable[[dict[str, Any], Any], tuple[dict[str, Any], Any]]  # (features, labels) → the same


def apply(classifier: tf.keras.Model, features: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
    """Logits [batch, classes]; only the features that the classifier was built for are given to it."""
    return classifier({name: features[name] for name in classifier.input}, training=training)


class TrainableClassifier(tf.keras.Model):
    """A classifier with its loss, trained by `fit` on (features, labels) and validated on (features, labels, weights).

    Labels are as the task encodes them: class indices [batch] (in training perhaps mixing.MixedLabels) or targets
    [batch, classes].

    The mean is taken over the global batch, so the gradient does not depend on the number of replicas; validation
    averages over the examples that count (weight 1), so padding changes nothing. With an average of the weights, that
    is what is validated.
    """

    def __init__(self, classifier: tf.keras.Model, loss: Loss, global_batch_size: int, task: Task = tasks.SINGLE_LABEL,
                 average: Optional[WeightAverage] = None, training_loss: Optional[Loss] = None, accumulate: int = 1,
                 stepped: Optional[Sequence[tf.Variable]] = None, augment: Optional[Augment] = None, seed: int = 0):
        """
        Args:
          training_loss: takes the place of `loss` in training, not in validation.
          accumulate: so many micro-batches make up the gradients of a step; each replica's batch is a multiple of it.
          stepped: the variables that steps change; None: all of the classifier's that train.
          augment: what is done to a training batch first, on the device.
          seed: what layers draw (dropout, drop-connect) is a function of it and the step.
        """
        super().__init__()
        self.classifier = classifier
        self._average = average
        self._loss = loss
        self._training_loss = training_loss or loss
        self._global_batch_size = global_batch_size
        self._accumulate = accumulate
        self._stepped = stepped
        self._augment = augment
        self._seed = seed
        self._scores = lookup(step_metrics.BY_KIND, task)()
        # Each replica notes the first step, counted from 1, at which a loss of its own was no number; 0: none so far.
        self._broken_at = tf.Variable(0, dtype=tf.int64, trainable=False, name="broken_at",
                                      synchronization=tf.VariableSynchronization.ON_READ,
                                      aggregation=tf.VariableAggregation.SUM)

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """Reset by Keras at the start of each epoch."""
        return self._scores.metrics

    def call(self, features, training=False):
        return apply(self.classifier, features, training=training)

    @tf.autograph.experimental.do_not_convert  # what Keras puts around it is; this has no Python of a tensor
    def train_step(self, data):
        features, labels = self._augment(*data) if self._augment else data
        variables = self._variables
        if self._accumulate == 1:
            gradients, losses, logits = self._gradients(features, labels)
        else:
            gradients, losses, logits = accumulation.in_micro_batches(
                self._gradients, features, labels, self._accumulate, variables, self.classifier.output.shape[-1])
        self._note_broken(losses)
        # Keras sums them over the replicas, and clips the sum.
        self.optimizer.apply_gradients(zip(gradients, variables))
        if self._average:
            self._average.update(self.optimizer.iterations)
        return self._scores.update(losses, labels, logits, None)

    def _note_broken(self, losses: tf.Tensor) -> None:
        """Before the step is counted. Nothing is fetched to the host for it, which looks when it likes (`broken_step`)."""
        known = tf.convert_to_tensor(self._broken_at)
        whole = tf.reduce_all(tf.math.is_finite(losses)) | (known > 0)
        self._broken_at.assign(tf.where(whole, known, tf.cast(self.optimizer.iterations, tf.int64) + 1))

    def broken_step(self) -> Optional[int]:
        """The first step of the optimizer, counted from 1, whose loss was no number on a replica of this process."""
        steps = [int(one) for one in self.distribute_strategy.experimental_local_results(self._broken_at)]
        return min((step for step in steps if step), default=None)

    def forget_broken(self) -> None:
        """After a checkpoint of before was restored."""
        self._broken_at.assign(0)

    def _gradients(self, features, labels, part=0):
        """What a batch, or a part of one, adds to the step's gradients; its losses [n] and logits [n, classes]."""
        seed = draws.step_seed(self._seed, self.optimizer.iterations, part)
        # What lies before the first variable that steps is not gone back through.
        with draws.seeded(seed), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._variables)
            logits = apply(self.classifier, features, training=True)
            losses = self._training_loss(labels, logits)
            loss = tf.reduce_sum(losses) / self._global_batch_size
            scaled = self.optimizer.get_scaled_loss(loss) if self._scales_loss else loss
        gradients = tape.gradient(scaled, self._variables)
        return self.optimizer.get_unscaled_gradients(gradients) if self._scales_loss else gradients, losses, logits

    @property
    def _variables(self) -> Sequence[tf.Variable]:
        return self.classifier.trainable_variables if self._stepped is None else self._stepped

    @property
    def _scales_loss(self) -> bool:
        return isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data):
        features, labels, weights = data
        validated = self._average.model if self._average else self.classifier
        logits = apply(validated, features, training=False)
        return self._scores.update(self._loss(labels, logits), labels, logits, weights)
