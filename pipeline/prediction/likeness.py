"""--neighbours: pictures are answered by the labels of the train pictures that look most like them to a network."""

import dataclasses
import functools
import os
from typing import Any, Callable, Mapping, Optional

from absl import logging
import numpy as np
import pandas as pd
import scipy.sparse
import tensorflow as tf

from pipeline import command, lock, preemption
from pipeline.errors import UserError, WorkError
from pipeline.models import arcface
from pipeline.models.classifier import Classifier
from pipeline.ops import tta
from pipeline.prediction import loading, neighbours
from pipeline.records import class_prior, damage, dataset as datasets, input as inputs
from pipeline.runs import record as run_record
from pipeline.tasks import label_matrix
from pipeline.training import feature_store, features

AT_ONCE = 2 * neighbours.QUERIES  # pictures that are compared with all others together: fewer read those as often
FOLDER = "neighbours"  # in a stage's: the features of what it was trained on


@dataclasses.dataclass(frozen=True)
class Reading:
    """How pictures go through the network."""

    size: int          # pixels
    views: tta.Views
    batch_size: int
    strategy: tf.distribute.Strategy


def make_step(built: Classifier, views: tta.Views) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    """A batch of predict_batches → what likeness is judged by, float32 [batch, D] of length 1: the mean over the views, each
    of length 1. Pure, so that XLA can compile it."""
    extractor = tf.keras.Model(built.model.input, built.likeness)
    return lambda batch: mean_direction(features.of_views(extractor, batch, views))


def mean_direction(by_view: tf.Tensor) -> tf.Tensor:
    """[batch, views, D] → [batch, D] of length 1: the mean over the views, each of length 1."""
    return arcface.unit(tf.reduce_mean(arcface.unit(by_view), axis=1))


def told(meta: dict[str, Any], count: int, part: datasets.Part) -> dict[str, Any]:
    """meta.json of predictions, when so many neighbours made them: they vote as frequently as train has their classes,
    whatever the network was shown or told of that."""
    seen = meta["seen"]
    if seen and part.data.task.exclusive:
        seen = {**seen, "prior_power": class_prior.prior_power("none", 0.0)}
    return {**meta, "neighbours": count, "seen": seen}


@dataclasses.dataclass(frozen=True)
class Voters:
    """The labelled pictures that a network was trained on.

    Attributes:
      pictures: float32 [m, D], of length 1.
      labels: float32 [m, classes], 1 at each label.
      same: int64 [m], the same number for copies of one picture.
      same_of: by row, the number of a picture that is predicted and may be among them.
      count: of those that vote.
      exclusive: whether a picture has one label.
    """

    pictures: np.ndarray
    labels: scipy.sparse.csr_matrix
    same: np.ndarray
    same_of: Mapping[int, int]
    count: int
    exclusive: bool

    @classmethod
    def of(cls, built: Classifier, part: datasets.Part, fold: Optional[int], record: dict[str, Any], reading: Reading,
           folder: str, count: int) -> "Voters":
        """Those of a fold's network, for the pictures of a part; their features are computed where `folder`, its stage's,
        has none of this network by these views. Raises UserError, WorkError, Preempted."""
        train_split = record["same"]["train_split"]
        trained = loading.cropped(loading.trained_part(part.data, record["same"], fold, "--neighbours"), record)
        rows, found = trained_features(built, trained, fold, record, reading, folder)
        examples = trained.examples().set_index("row").loc[rows].reset_index()
        labelled = np.array([len(one) > 0 for one in examples["labels"]])
        if count > labelled.sum():
            raise UserError(f"--neighbours={count}: {train_split} has {labelled.sum()} pictures that may vote")
        examples, exclusive = examples[labelled], part.data.task.exclusive
        among = set(part.split.split("+")) <= set(train_split.split("+"))
        predicted = part.examples() if among else None
        found = found if labelled.all() else found[labelled]  # which would be a second copy
        return cls(found, label_matrix.of(examples["labels"], len(part.data.class_ids), exclusive),
                   _numbers(examples, part.data), dict(zip(predicted["row"], _numbers(predicted, part.data))) if among else {},
                   count, exclusive)

    def log_probabilities(self, rows: np.ndarray, found: np.ndarray) -> np.ndarray:
        """float32 [n, classes], of the pictures at these rows with these features, [n, D] of length 1.

        A picture that they were trained on is not asked itself, nor is a copy of it. What is no number stays so.
        """
        broken = ~np.isfinite(found).all(axis=1, keepdims=True)
        found = np.where(broken, np.float32(0), found)
        own = np.array([self.same_of.get(row, -1) for row in rows.tolist()], np.int64)
        asked = self.count + (self._most_copies if (own >= 0).any() else 0)
        cosines, positions = neighbours.nearest(found, self.pictures, min(asked, len(self.pictures)))
        others = self.same[positions] != own[:, np.newaxis]
        allowed = others & (np.cumsum(others, axis=1) <= self.count)
        logs = np.log(neighbours.vote(cosines, positions, self.labels, allowed, self.exclusive)).astype(np.float32)
        return np.where(broken, np.float32(np.nan), logs)

    @functools.cached_property
    def _most_copies(self) -> int:
        """Of one picture, itself among them."""
        return int(np.unique(self.same, return_counts=True)[1].max())


def _numbers(examples: pd.DataFrame, data: datasets.Dataset) -> np.ndarray:
    """int64 [n], the same for copies of one picture."""
    copies = {one: number for number, group in enumerate(data.manifest.duplicates) for one in group}
    return np.array([copies.get(one, len(copies) + row) for one, row in zip(examples["id"], examples["row"])], np.int64)


def trained_features(built: Classifier, part: datasets.Part, fold: Optional[int], record: dict[str, Any], reading: Reading,
                     stage_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """(rows int64 [m], features float32 [m, D]) of the part that a network was trained on, as make_step computes them; those
    that stand in its stage's folder are taken. Raises WorkError, Preempted."""
    stage, folder = run_record.last_stage(record), os.path.join(stage_dir, FOLDER)
    antialias = stage.get("antialias", True)
    with lock.held(folder):  # val and test may be predicted side by side
        store = feature_store.Store(folder, {
            "model": record["same"]["model"], "weights": features.digest(built.model), "size": reading.size,
            "eval_resize": stage["eval_resize"], "antialias": antialias, "tta": reading.views.name,
            "precision": record["same"]["precision"], "boxes": part.boxes and part.data.boxes(part.boxes).digest,
            "dataset": part.data.identity(part.split), "held_out_fold": fold})
        if store.count < part.size:
            command.begin_work()
            batches = inputs.predict_batches(part, reading.size, reading.views, stage["eval_resize"], reading.batch_size,
                                             antialias=antialias, done=store.count)
            _fill(store, part, batches, make_step(built, reading.views), reading.strategy)
        else:
            logging.info("features of %d train pictures stand in %s", store.count, folder)
        rows, found = store.read()
    if not np.isfinite(found).all():
        raise WorkError(f"the network's features are no numbers, in {folder}: is it broken, or --precision too coarse?")
    return rows, found


def _fill(store: feature_store.Store, part: datasets.Part, batches: tf.data.Dataset,
          step: Callable[[dict[str, tf.Tensor]], tf.Tensor], strategy: tf.distribute.Strategy) -> None:
    try:
        with preemption.held():
            feature_store.fill(store, part.size, batches, step, strategy, "features of train pictures")
    except tf.errors.DataLossError:
        raise damage.name(part) from None
