"""Checkpoints of a stage: `last`, to go on from, `best`, and epochs that are kept. --keep says which of the first two the
next stage starts from and predict.py takes.

Of `last` the newest two stand (see saved). In each of them `model` is what the stage is worth: the averaged weights where it
averages them.
"""

import math
import os
from typing import Any, Mapping, Optional, Protocol, Sequence

from absl import logging
import tensorflow as tf

from pipeline import files
from pipeline.errors import UserError, unknown
from pipeline.models import classifier as classifiers, weights, zoo
from pipeline.models.classifier import Classifier
from pipeline.runs import patterns, saved
from pipeline.runs.run import Plan
from pipeline.runs.stages import parse_epochs

BEST, LAST = "best", "last"
_KEPT = "kept"  # folder of the epochs that are kept


def better(monitor: str, value: float, best: Optional[float]) -> bool:
    """Losses fall, everything else rises; what is no number is never better, and any number is better than it."""
    if not math.isfinite(value):
        return False
    if best is None or not math.isfinite(best):
        return True
    return value < best if monitor.endswith("loss") else value > best


class Apart(Protocol):
    """Values that variables have by replica: taken into what is saved, given back from what was restored."""

    def take(self) -> None:
        ...

    def give(self) -> None:
        ...


class StageCheckpoints(tf.keras.callbacks.Callback):
    """Keeps a stage's checkpoints; as a Keras callback it saves after every epoch of Keras', a snapshot.

    What `last` holds is all that a stage goes on from: at any step, also one between two snapshots.
    """

    def __init__(self, stage_dir: str, classifier: Classifier, optimizer, monitor: str, plan: Plan,
                 keep_epochs: Sequence[float] = (), also: Optional[Mapping[str, Any]] = None,
                 write_dir: Optional[str] = None, apart: Optional[Apart] = None):
        """As a callback this one stands behind those that change what `also` names.

        Args:
          classifier: the network that the stage is worth.
          also: by name, what else `last` holds (what tf.train.Checkpoint takes).
          write_dir: where this process writes, if not into the stage's folder, which it restores from; see
            hosts.folder_to_write.
          apart: what each replica has for itself, whose state `also` holds.
        """
        super().__init__()
        self._apart = apart
        self._monitor = monitor if plan.validation_steps else None
        self._plan = plan
        self._keep_epochs = keep_epochs
        self._stage_dir = stage_dir
        self._write_dir = write_dir or stage_dir
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._snapshots = tf.Variable(0, dtype=tf.int64, trainable=False)
        # NaN stands for "none yet": a checkpoint holds tensors, not None.
        self._best_value = tf.Variable(float("nan"), dtype=tf.float32, trainable=False)
        state = tf.train.Checkpoint(model=classifier.model, base=classifier.base, head=classifier.head, optimizer=optimizer,
                                    steps=self._steps, snapshots=self._snapshots, best_value=self._best_value,
                                    **(also or {}))
        self._last = saved.Saved(state, os.path.join(self._write_dir, LAST), keep=2)
        self._weights = tf.train.Checkpoint(model=classifier.model, base=classifier.base, head=classifier.head)
        self._best = saved.Saved(self._weights, os.path.join(self._write_dir, BEST), keep=1)

    @property
    def steps(self) -> int:
        """How many of the stage the last checkpoint that was saved or restored holds."""
        return int(self._steps.numpy())

    @property
    def snapshots(self) -> int:
        """How many are done, with their validation."""
        return int(self._snapshots.numpy())

    @property
    def best_value(self) -> Optional[float]:
        value = float(self._best_value.numpy())
        return value if math.isfinite(value) else None

    @property
    def best_snapshot(self) -> int:
        """Number (from 1) of the snapshot that `best` holds; the last one where nothing is held out."""
        path = patterns.latest(os.path.join(self._write_dir, BEST))
        return int(path.rsplit("-", 1)[1]) if path else self.snapshots

    def restore(self) -> bool:
        """Restores the state of the newest checkpoint that is whole, if there is one.

        Raises UserError where there are some, all of them damaged.
        """
        folder, told = os.path.join(self._stage_dir, LAST), ""
        for name in saved.names(folder):
            path = os.path.join(folder, name)
            why = saved.fault(path)
            if why is None:
                self._last.forget_newer_than(name)
                self._read(path)
                if self._apart:
                    self._apart.give()
                logging.info("going on after epoch %g, from %s", self._epochs_done, path)
                return True
            told = told or f"checkpoint {path} is damaged ({why})"
            logging.warning("checkpoint %s is damaged (%s): trying the one before", path, why)
        if told:
            raise UserError(f"{told}, and no other is whole: delete the stage's folder to train the stage anew")
        return False

    @property
    def _epochs_done(self) -> float:
        return min(self.steps / self._plan.steps_per_epoch, self._plan.epochs)

    def _read(self, path: str) -> None:
        try:
            with patterns.plain_path(path) as plain:
                self._last.state.read(plain).assert_existing_objects_matched()
        except saved.UNREADABLE as error:
            raise UserError(f"checkpoint {path} is of another network or version ({saved.first_line(error)}): delete the "
                            "stage's folder to train the stage anew") from None

    def save(self, steps: int) -> None:
        """Saves where so many steps of the stage are done."""
        self._steps.assign(steps)
        if self._apart:
            self._apart.take()
        self._last.save()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        self._snapshots.assign(epoch + 1)
        if self._monitor:
            value = logs[self._monitor]
            if better(self._monitor, value, self.best_value):
                self._best_value.assign(value)
                self._best.save(epoch + 1)
        self._keep(self._plan.epochs_after(epoch + 1))
        self.save(self._plan.steps_after(epoch + 1))

    def _keep(self, epochs: float) -> None:
        for kept in self._keep_epochs:
            if math.isclose(kept, epochs):
                self._weights.write(_kept_path(self._write_dir, kept))


def _kept_path(stage_dir: str, epochs: float) -> str:
    return os.path.join(stage_dir, _KEPT, f"epoch-{epochs:g}")


def _kept_epochs(stage_dir: str) -> list[str]:
    """As they stand in the names."""
    paths = files.glob(os.path.join(files.escape(stage_dir), _KEPT, "epoch-*.index"))
    return sorted((os.path.basename(path)[len("epoch-"):-len(".index")] for path in paths), key=float)


def steps_done(stage_dir: str) -> Optional[int]:
    """How many steps of a stage its newest whole checkpoint holds, without the network that it is of; None: there is none."""
    folder = os.path.join(stage_dir, LAST)
    for name in saved.names(folder):
        path = os.path.join(folder, name)
        if saved.fault(path) is None:
            with patterns.plain_path(path) as plain:
                return int(tf.train.load_variable(plain, "steps/.ATTRIBUTES/VARIABLE_VALUE"))
    return None


def choose(stage_dir: str, wanted: str) -> list[str]:
    """The checkpoints of a stage that --checkpoint means: best, last, or those of kept epochs (18:21:24).

    Raises UserError for a name that is none of these, and for epochs that were not kept.
    """
    if wanted in (BEST, LAST):
        return [find(stage_dir, wanted)]
    if not wanted[:1].isdigit():
        raise unknown("--checkpoint", wanted, [BEST, LAST, "numbers of epochs as in 18:21:24"])
    epochs, kept = parse_epochs("--checkpoint", wanted), _kept_epochs(stage_dir)
    missing = ", ".join(f"{one:g}" for one in epochs if f"{one:g}" not in kept)
    if missing:
        raise UserError(f"--checkpoint={wanted}: {stage_dir} has not kept epoch {missing}; kept: "
                        f"{', '.join(kept) or 'none'} (multi_stage_train.py --keep_epochs keeps some)")
    return [_kept_path(stage_dir, one) for one in epochs]


def find(stage_dir: str, keep: str = BEST) -> str:
    """The checkpoint that a stage is represented by: its best (its last where nothing was held out), or its last."""
    for kind in (BEST, LAST) if keep == BEST else (LAST,):
        path = patterns.latest(os.path.join(stage_dir, kind))
        if path is not None:
            return path
    raise UserError(f"{stage_dir} holds no checkpoint")


def load(path: str, classifier: Classifier) -> None:
    """Reads all weights of the classifier; raises UserError where they are another model's."""
    read_into(path, tf.train.Checkpoint(model=classifier.model))


def load_base(path: str, classifier: Classifier) -> None:
    """Reads the weights of the base alone, for a model with other classes."""
    read_into(path, tf.train.Checkpoint(base=classifier.base))


def load_at_size(path: str, classifier: Classifier, model: str, size: int, seed: int = 0,
                 with_head: bool = True) -> None:
    """`load`, or without the head `load_base`, of a checkpoint of pictures of `size` px for a classifier of any size.

    Where weights depend on the size (BEiT's tables of relative positions), the checkpoint is read into the same network
    built at its own size, and its tables are interpolated.

    Args:
      model: the classifier's name in the zoo.
      seed: the global generators are reset to it, as by classifiers.build, where another network is built.
      with_head: False reads the base alone.
    """
    read = load if with_head else load_base
    if zoo.find(model).any_size or classifier.model.input["image"].shape[1] == size:
        read(path, classifier)
        return
    other = classifiers.build(model, size, classifier.head.units, base_training=False,
                              place_input=classifier.place is not None, seed=seed, top=classifier.top)
    read(path, other)
    weights.copy_weights(other.base, classifier.base)
    for layer in other.model.layers if with_head else ():
        if layer is not other.base:
            classifier.model.get_layer(layer.name).set_weights(layer.get_weights())


def read_into(path: str, wanted: tf.train.Checkpoint) -> None:
    """Reads all that is wanted; raises UserError where the checkpoint lacks some of it, or is damaged."""
    try:
        with patterns.plain_path(path) as plain:
            wanted.read(plain).assert_existing_objects_matched().expect_partial()
    except saved.UNREADABLE as error:
        raise UserError(f"checkpoint {path} is not of this model, or is damaged: {saved.first_line(error)}") from None
