"""What the head sees of the training pictures, computed once and kept in the stage's folder."""

import hashlib
import os
from typing import Any

from absl import logging
import numpy as np
import tensorflow as tf

from pipeline import command, preemption
from pipeline.errors import WorkError
from pipeline.models import pooling
from pipeline.models.classifier import Classifier
from pipeline.models.top import Top
from pipeline.ops import tta
from pipeline.records import dataset as datasets, input as inputs
from pipeline.runs import run as runs
from pipeline.runs.run import Run
from pipeline.runs.stages import Stage
from pipeline.training import bad_records, feature_store
from pipeline.training.feature_store import Store
from pipeline.training.step import apply

FOLDER = "features"  # in the stage's


def of_training_part(run: Run, stage: Stage, data: datasets.Dataset, built: Classifier, strategy: tf.distribute.Strategy,
                     folder: str) -> tuple[np.ndarray, np.ndarray]:
    """(rows int64 [n], features float32 [n, features]) of what the run learns from, in file order.

    The features are the mean over the recipe's views (--tta) of the pictures as evaluation sees them: a head's logits of
    it are the mean of its logits of the views. They are kept in `folder` piece by piece, and none is computed twice there.

    Raises Preempted where the process was asked to end, with what it had saved; WorkError for features that are no numbers,
    and for a damaged record.
    """
    part = runs.training_part(run, data)
    store = Store(os.path.join(folder, FOLDER), _made_of(run, stage, part, built))
    count = min(part.size, run.max_steps * stage.batch_size) if run.max_steps else part.size
    if store.count < count:
        command.begin_work()
        with preemption.held(), bad_records.named(run, data):
            _compute(run, stage, part, built, strategy, store, count)
    else:
        logging.info("features of %d pictures stand in %s", store.count, store.folder)
    rows, features = store.read()
    if not np.isfinite(features).all():
        raise WorkError(f"stage {stage.name}: the network's features are no numbers: is it broken, or --precision too "
                        "coarse?")
    return rows[:count], features[:count]


def _made_of(run: Run, stage: Stage, part: datasets.Part, built: Classifier) -> dict[str, Any]:
    """All that the features depend on, as JSON."""
    return {"model": run.model, "weights": digest(built.base), **_pooling(run, built),
            "scaling": built.model.get_layer("scaling").get_config(), "size": stage.size,
            "eval_resize": stage.eval_resize, "antialias": stage.antialias, "tta": run.tta,
            "precision": run.precision, "boxes": part.boxes and part.data.boxes(part.boxes).digest,
            "dataset": part.data.identity(run.train_split), "held_out_fold": run.fold, "lost": sorted(part.data.lost),
            **({"left_out": sorted(part.left_out)} if part.left_out else {})}


def _pooling(run: Run, built: Classifier) -> dict[str, Any]:
    """Beside the mean, which was all there was, and has nothing that is learned."""
    return {} if run.top == Top() else {"pool": digest(built.model.get_layer(pooling.NAME))}


def digest(network: tf.keras.layers.Layer) -> str:
    """Hexadecimal, of all weights."""
    weights = hashlib.sha256()
    for one in network.weights:
        weights.update(one.numpy().tobytes())
    return weights.hexdigest()


def _compute(run: Run, stage: Stage, part: datasets.Part, built: Classifier, strategy: tf.distribute.Strategy,
             store: Store, count: int) -> None:
    """Fills the store up to `count` pictures, or until the process is asked to end."""
    views = tta.parse(run.tta)
    batches = inputs.predict_batches(part, stage.size, views, stage.eval_resize, stage.batch_size, antialias=stage.antialias,
                                     done=store.count)
    with strategy.scope():
        extractor = tf.keras.Model(built.model.input, built.head.input)
    feature_store.fill(store, count, batches, lambda batch: tf.reduce_mean(of_views(extractor, batch, views), axis=1),
                       strategy, f"stage {stage.name}, features")


def of_views(extractor: tf.keras.Model, batch: dict[str, tf.Tensor], views: tta.Views) -> tf.Tensor:
    """float32 [batch, views, features] of a batch of input.predict_batches."""
    found = apply(extractor, views.of_batch(batch), training=False)
    return tf.reshape(found, [-1, views.total, found.shape[-1]])
