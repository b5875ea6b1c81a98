"""The training and validation steps: pure functions of a batch, with Keras' fit and callbacks around them."""

from typing import Optional

import tensorflow as tf

from pipeline.losses import Loss
from pipeline.step_metrics import MultiLabelMetrics, SingleLabelMetrics
from pipeline.weight_average import WeightAverage


def apply(classifier: tf.keras.Model, features: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
    """Logits [batch, classes]; only the features that the classifier was built for are given to it."""
    return classifier({name: features[name] for name in classifier.input}, training=training)


class TrainableClassifier(tf.keras.Model):
    """A classifier with its loss, trained by `fit` on (features, labels) and validated on (features, labels, weights).

    Labels are class indices [batch] (in training perhaps mixing.MixedLabels) or, with multi_label, targets
    [batch, classes].

    The mean is taken over the global batch, so the gradient does not depend on the number of replicas; validation
    averages over the examples that count (weight 1), so padding changes nothing. With an average of the weights, that
    is what is validated.
    """

    def __init__(self, classifier: tf.keras.Model, loss: Loss, global_batch_size: int, multi_label: bool = False,
                 average: Optional[WeightAverage] = None, training_loss: Optional[Loss] = None):
        """`training_loss` takes the place of `loss` in training, not in validation."""
        super().__init__()
        self.classifier = classifier
        self._average = average
        self._loss = loss
        self._training_loss = training_loss or loss
        self._global_batch_size = global_batch_size
        self._scores = MultiLabelMetrics() if multi_label else SingleLabelMetrics()

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """Reset by Keras at the start of each epoch."""
        return self._scores.metrics

    def call(self, features, training=False):
        return apply(self.classifier, features, training=training)

    def train_step(self, data):
        features, labels = data
        with tf.GradientTape() as tape:
            logits = apply(self.classifier, features, training=True)
            losses = self._training_loss(labels, logits)
            loss = tf.reduce_sum(losses) / self._global_batch_size
        # Keras' minimize also scales the loss under mixed_float16 and sums the gradients over the replicas.
        self.optimizer.minimize(loss, self.classifier.trainable_variables, tape=tape)
        if self._average:
            self._average.update(self.optimizer.iterations)
        return self._scores.update(losses, labels, logits, None)

    def test_step(self, data):
        features, labels, weights = data
        validated = self._average.model if self._average else self.classifier
        logits = apply(validated, features, training=False)
        return self._scores.update(self._loss(labels, logits), labels, logits, weights)
