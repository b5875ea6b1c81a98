"""One model out of several checkpoints of a run: the mean of their weights.

After Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization": the mean has never seen
a picture, so its BatchNorm statistics are estimated anew.
"""

from typing import Sequence

import numpy as np
import tensorflow as tf

from pipeline.devices import steps
from pipeline.models import draws
from pipeline.models.classifier import Classifier
from pipeline.progress import progress
from pipeline.records import damage, dataset as datasets, input as inputs
from pipeline.runs import checkpoint
from pipeline.training.step import apply

BATCHES = 100  # that BatchNorm's statistics are the mean over, where train has as many


def load(paths: Sequence[str], built: Classifier, model: str, size: int) -> None:
    """Sets all weights to their mean over the checkpoints; arguments as of checkpoint.load_at_size."""
    totals = None
    for path in paths:
        checkpoint.load_at_size(path, built, model, size)
        weights = [weight.astype(np.float64) for weight in built.model.get_weights()]
        totals = weights if totals is None else [total + weight for total, weight in zip(totals, weights)]
    built.model.set_weights([total / len(paths) for total in totals])


def estimate_batch_norm(built: Classifier, part: datasets.Part, pictures: inputs.TrainPictures, batch_size: int,
                        strategy: tf.distribute.Strategy) -> None:
    """Makes BatchNorm's means and variances the plain mean of those of BATCHES batches, in training mode.

    Layers that the stage held in inference mode (frozen, or in a base built with base_training=False) keep theirs.
    Dropout is on, as it was when the weights were trained.

    Args:
      part: the pictures to take, in a random order that is always the same.
    """
    layers = [layer for layer in built.model.submodules if isinstance(layer, tf.keras.layers.BatchNormalization)]
    statistics = [one for layer in layers for one in (layer.moving_mean, layer.moving_variance)]
    if not statistics:
        return
    for layer in layers:
        layer.momentum = 0.0  # after each batch the moving statistics are that batch's
    with strategy.scope():
        totals = [tf.Variable(tf.zeros_like(one), trainable=False, synchronization=tf.VariableSynchronization.ON_READ,
                              aggregation=tf.VariableAggregation.MEAN) for one in statistics]

    def step(features: dict[str, tf.Tensor], number: tf.Tensor) -> None:
        with draws.seeded(draws.step_seed(0, number)):
            apply(built.model, features, training=True)
        for total, one in zip(totals, statistics):
            total.assign_add(one)

    distributed_step = steps.on_replicas(strategy, step)
    batches = min(BATCHES, max(part.size // batch_size, 1))
    dataset = inputs.train_batches(part, pictures, batch_size, seed=0).map(lambda features, labels: features)
    with progress(batches * batch_size, "BatchNorm's statistics", "pictures") as bar:
        try:
            for number, features in enumerate(strategy.experimental_distribute_dataset(dataset.take(batches))):
                distributed_step(features, tf.constant(number, tf.int64))
                bar.update(batch_size)
        except tf.errors.DataLossError:
            raise damage.name(part) from None
    with strategy.scope():
        for total, one in zip(totals, statistics):
            one.assign(total / batches)
