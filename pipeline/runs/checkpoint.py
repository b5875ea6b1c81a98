"""Checkpoints of a stage: `last`, to go on from, `best`, and epochs that are kept. --keep says which of the first two the
next stage starts from and predict.py takes.

They are TensorFlow's own checkpoints (written whole, on gs:// too). An old one is deleted only after the new one stands.
In each of them `model` is what the stage is worth: the averaged weights where it averages them.
"""

import math
import os
from typing import Any, Mapping, Optional, Sequence

from absl import logging
import tensorflow as tf

from pipeline import files
from pipeline.errors import UserError, unknown
from pipeline.models import classifier as classifiers, weights, zoo
from pipeline.models.classifier import Classifier
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


class StageCheckpoints(tf.keras.callbacks.Callback):
    """Keeps a stage's checkpoints; as a Keras callback it saves after every epoch of Keras', a snapshot."""

    def __init__(self, stage_dir: str, classifier: Classifier, optimizer, monitor: str, plan: Plan,
                 keep_epochs: Sequence[float] = (), also: Optional[Mapping[str, Any]] = None,
                 write_dir: Optional[str] = None):
        """As a callback this one stands behind those that change what `also` names.

        Args:
          classifier: the network that the stage is worth.
          also: by name, what else `last` holds (what tf.train.Checkpoint takes).
          write_dir: where this process writes, if not into the stage's folder, which it restores from; see
            hosts.folder_to_write.
        """
        super().__init__()
        self._monitor = monitor if plan.validation_steps else None
        self._plan = plan
        self._keep_epochs = keep_epochs
        self._stage_dir = stage_dir
        self._write_dir = write_dir or stage_dir
        self._snapshots = tf.Variable(0, dtype=tf.int64, trainable=False)
        # NaN stands for "none yet": a checkpoint holds tensors, not None.
        self._best_value = tf.Variable(float("nan"), dtype=tf.float32, trainable=False)
        state = tf.train.Checkpoint(model=classifier.model, base=classifier.base, head=classifier.head,
                                    optimizer=optimizer, snapshots=self._snapshots, best_value=self._best_value,
                                    **(also or {}))
        self._last = tf.train.CheckpointManager(state, os.path.join(self._write_dir, LAST), max_to_keep=1)
        self._weights = tf.train.Checkpoint(model=classifier.model, base=classifier.base, head=classifier.head)
        self._best = tf.train.CheckpointManager(self._weights, os.path.join(self._write_dir, BEST), max_to_keep=1)

    @property
    def snapshots(self) -> int:
        """How many are done."""
        return int(self._snapshots.numpy())

    @property
    def best_value(self) -> Optional[float]:
        value = float(self._best_value.numpy())
        return value if math.isfinite(value) else None

    @property
    def best_snapshot(self) -> int:
        """Number (from 1) of the snapshot that `best` holds; the last one where nothing is held out."""
        path = self._best.latest_checkpoint
        return int(path.rsplit("-", 1)[1]) if path else self.snapshots

    def restore(self) -> bool:
        """Restores the state of the last snapshot, if there is one."""
        path = tf.train.latest_checkpoint(os.path.join(self._stage_dir, LAST))
        if path is None:
            return False
        try:
            self._last.checkpoint.restore(path).assert_existing_objects_matched()
        except _UNREADABLE as error:
            raise UserError(f"checkpoint {path} is damaged ({_first_line(error)}): delete the stage's folder to train "
                            "the stage anew") from None
        logging.info("going on after epoch %g, from %s", self._plan.epochs_after(self.snapshots), path)
        return True

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        self._snapshots.assign(epoch + 1)
        if self._monitor:
            value = logs[self._monitor]
            if better(self._monitor, value, self.best_value):
                self._best_value.assign(value)
                self._best.save(checkpoint_number=epoch + 1)
        self._keep(self._plan.epochs_after(epoch + 1))
        self._last.save(checkpoint_number=epoch + 1)

    def _keep(self, epochs: float) -> None:
        for kept in self._keep_epochs:
            if math.isclose(kept, epochs):
                self._weights.write(_kept_path(self._write_dir, kept))


def _kept_path(stage_dir: str, epochs: float) -> str:
    return os.path.join(stage_dir, _KEPT, f"epoch-{epochs:g}")


def _kept_epochs(stage_dir: str) -> list[str]:
    """As they stand in the names."""
    paths = files.glob(os.path.join(stage_dir, _KEPT, "epoch-*.index"))
    return sorted((os.path.basename(path)[len("epoch-"):-len(".index")] for path in paths), key=float)


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
        path = tf.train.latest_checkpoint(os.path.join(stage_dir, kind))
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
                              place_input=classifier.place is not None, seed=seed)
    read(path, other)
    weights.copy_weights(other.base, classifier.base)
    if with_head:
        classifier.head.set_weights(other.head.get_weights())
        if classifier.place is not None:
            classifier.place.set_weights(other.place.get_weights())


def read_into(path: str, wanted: tf.train.Checkpoint) -> None:
    """Reads all that is wanted; raises UserError where the checkpoint lacks some of it, or is damaged."""
    try:
        wanted.read(path).assert_existing_objects_matched().expect_partial()
    except _UNREADABLE as error:
        raise UserError(f"checkpoint {path} is not of this model, or is damaged: {_first_line(error)}") from None


# What TensorFlow raises for a checkpoint of other objects or shapes, or one that is cut short (IndexError).
_UNREADABLE = (AssertionError, IndexError, ValueError, tf.errors.OpError)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
