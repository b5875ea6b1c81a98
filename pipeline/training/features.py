"""What the head sees of the training pictures, computed once and kept in the stage's folder."""

import hashlib
import io
import os
import time
from typing import Any, Iterator

from absl import logging
import numpy as np
import tensorflow as tf

from pipeline import command, files, preemption
from pipeline.errors import WorkError
from pipeline.models.classifier import Classifier
from pipeline.ops import tta
from pipeline.progress import progress
from pipeline.records import dataset as datasets, input as inputs
from pipeline.runs import run as runs
from pipeline.runs.run import Run
from pipeline.runs.stages import Stage
from pipeline.training import bad_records
from pipeline.training.step import apply

FOLDER = "features"      # in the stage's
META_FILE = "meta.json"  # what they were made of
SAVE_SECONDS = 60.0      # between two pieces
_DAMAGED = (OSError, ValueError, EOFError, TypeError)  # what NumPy raises for a file that is no array


def of_training_part(run: Run, stage: Stage, data: datasets.Dataset, built: Classifier, strategy: tf.distribute.Strategy,
                     folder: str) -> tuple[np.ndarray, np.ndarray]:
    """(rows int64 [n], features float32 [n, features]) of what the run learns from, in file order.

    The features are the mean over the recipe's views (--tta) of the pictures as evaluation sees them: a head's logits of
    it are the mean of its logits of the views. They are kept in `folder` piece by piece, and none is computed twice there.

    Raises Preempted where the process was asked to end, with what it had saved; WorkError for features that are no numbers,
    and for a damaged record.
    """
    part = runs.training_part(run, data)
    store = _Store(os.path.join(folder, FOLDER), _made_of(run, stage, part, built))
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
    weights = hashlib.sha256()
    for one in built.base.weights:
        weights.update(one.numpy().tobytes())
    return {"model": run.model, "weights": weights.hexdigest(), "scaling": built.model.get_layer("scaling").get_config(),
            "size": stage.size, "eval_resize": stage.eval_resize, "antialias": stage.antialias, "tta": run.tta,
            "precision": run.precision, "boxes": part.boxes and part.data.boxes(part.boxes).digest,
            "dataset": part.data.identity(run.train_split), "held_out_fold": run.fold, "lost": sorted(part.data.lost),
            **({"left_out": sorted(part.left_out)} if part.left_out else {})}


def _compute(run: Run, stage: Stage, part: datasets.Part, built: Classifier, strategy: tf.distribute.Strategy,
             store: "_Store", count: int) -> None:
    """Fills the store up to `count` pictures, or until the process is asked to end."""
    views = tta.parse(run.tta)
    batches = inputs.predict_batches(part, stage.size, views, stage.eval_resize, stage.batch_size, antialias=stage.antialias,
                                     done=store.count)
    with strategy.scope():
        extractor = tf.keras.Model(built.model.input, built.head.input)
    # Rows and masks come back with the features, so that they can't get out of line.
    step = tf.function(lambda batch: strategy.run(
        lambda one: (_features(extractor, one, views), one["row"], one["mask"]), args=(batch,)))
    saved = time.monotonic()
    with progress(count - store.count, f"stage {stage.name}, features", "pictures") as bar:
        for batch in strategy.experimental_distribute_dataset(batches):
            found, rows, mask = (tf.concat(strategy.experimental_local_results(one), axis=0).numpy() for one in step(batch))
            real = mask > 0
            store.append(rows[real], found[real])
            bar.update(int(real.sum()))
            asked = preemption.asked()
            if asked or store.count >= count or time.monotonic() - saved > SAVE_SECONDS:
                store.save()
                saved = time.monotonic()
            if asked or store.count >= count:
                return


def _features(extractor: tf.keras.Model, batch: dict[str, tf.Tensor], views: tta.Views) -> tf.Tensor:
    """float32 [batch, features], the mean over the views."""
    images = views.on_device(batch["image"])
    flat = tf.reshape(images, [-1, *images.shape[2:]])
    found = apply(extractor, {"image": flat}, training=False)
    return tf.reduce_mean(tf.reshape(found, [-1, views.total, found.shape[-1]]), axis=1)


class _Store:
    """Features in pieces on the disk: rows-N.npy and, written after it, features-N.npy, N the number of those before.

    Attributes:
      folder: where they are.
      count: how many there are, with those that are not saved yet.
    """

    def __init__(self, folder: str, made_of: dict[str, Any]):
        """Takes what stands there, where that was made of the same."""
        self.folder = folder
        self._pieces: list[tuple[np.ndarray, np.ndarray]] = []
        self._unsaved: list[tuple[np.ndarray, np.ndarray]] = []
        self.count = 0
        meta = os.path.join(folder, META_FILE)
        if not files.exists(meta) or files.read_json(meta) != made_of:
            files.make_dirs(folder)
            for path in self._paths("*"):
                files.remove(path)
            files.write_json(meta, made_of)
        for piece in self._standing():
            self._pieces.append(piece)
            self.count += len(piece[0])

    def _paths(self, kind: str) -> list[str]:
        """Sorted; `kind`: rows or features, or * for both."""
        return sorted(files.glob(os.path.join(files.escape(self.folder), f"{kind}-*.npy")))

    def _path(self, kind: str, first: int) -> str:
        return os.path.join(self.folder, f"{kind}-{first:09d}.npy")

    def _standing(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The pieces up to the first that is missing or damaged."""
        first = 0
        while files.exists(self._path("features", first)):
            try:
                rows, features = (_read(self._path(kind, first)) for kind in ("rows", "features"))
            except _DAMAGED as error:
                logging.warning("%s is damaged (%s): computed anew", self._path("features", first), error)
                return
            if not len(rows) or len(rows) != len(features):
                return
            yield rows, features
            first += len(rows)

    def append(self, rows: np.ndarray, features: np.ndarray) -> None:
        self._unsaved.append((rows, features))
        self.count += len(rows)

    def save(self) -> None:
        """Writes what is not saved as a piece."""
        rows, features = (np.concatenate(one) for one in zip(*self._unsaved))
        for kind, values in (("rows", rows), ("features", features)):
            path = self._path(kind, self.count - len(rows))
            with files.replacing(path) as temporary, files.open_file(temporary, "wb") as file:
                np.save(file, values, allow_pickle=False)
        self._pieces.append((rows, features))
        self._unsaved = []

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, features) of all that are saved."""
        rows, features = zip(*self._pieces)
        return np.concatenate(rows), np.concatenate(features)


def _read(path: str) -> np.ndarray:
    with files.open_file(path, "rb") as file:
        return np.load(io.BytesIO(file.read()), allow_pickle=False)
