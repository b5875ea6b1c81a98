"""What waits for --monitor to improve: the rate that falls on a plateau, and early stopping.

Keras' own callbacks, with their counters in variables that a stage's `last` checkpoint holds: Keras forgets them with
the process, and a run that is killed once an epoch would then never get to the end of its patience.
"""

import math
from typing import Any, Mapping

from absl import logging
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.runs.stages import Stage
from pipeline.training import schedules

MIN_DELTA = 1e-4    # what counts as an improvement, for both
LOWEST_RATE = 1e-8  # of the rate on plateaus


def mode(monitor: str) -> str:
    """Keras' word for the direction in which a score gets better; its own guess takes val_top5 for a loss."""
    return "min" if monitor.endswith("loss") else "max"


class _Resumable:
    """Mixed into a Keras callback with the attributes `wait` and `best`: keeps them in `state`.

    The callback must stand before the one that saves the checkpoint. A stage that was killed in an epoch goes on with
    the counters of the end of the epoch before.
    """

    def __init__(self, **arguments: Any):
        super().__init__(min_delta=MIN_DELTA, **arguments)
        # NaN: no epoch yet. Losses and accuracies come as float32, so float32 keeps them exactly.
        self.state = tf.train.Checkpoint(wait=tf.Variable(0, dtype=tf.int64, trainable=False),
                                         best=tf.Variable(math.nan, dtype=tf.float32, trainable=False))

    def on_train_begin(self, logs=None) -> None:
        super().on_train_begin(logs)  # resets both
        best = float(self.state.best.numpy())
        if not math.isnan(best):
            self.wait, self.best = int(self.state.wait.numpy()), best

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        super().on_epoch_end(epoch, self._without_broken(logs))
        self.state.wait.assign(self.wait)
        self.state.best.assign(self.best)


    def _without_broken(self, logs):
        """The logs, in which a score that is no number became the worst there is, and so no improvement."""
        if math.isfinite((logs or {}).get(self.monitor, 0.0)):
            return logs
        return {**logs, self.monitor: math.inf if mode(self.monitor) == "min" else -math.inf}


class ReduceOnPlateau(_Resumable, tf.keras.callbacks.ReduceLROnPlateau):
    """Multiplies the optimizer's rate, which must be a variable, so that the checkpoint of the optimizer holds it."""


class StopEarly(_Resumable, tf.keras.callbacks.EarlyStopping):
    """Ends the stage after `patience` validations without a better score."""

    def on_train_end(self, logs=None) -> None:
        super().on_train_end(logs)
        if self.stopped_epoch:
            logging.info("stopped after validation %d: no better %s than %.6g in the last %d", self.stopped_epoch + 1,
                         self.monitor, self.best, self.wait)


def check(stage: Stage, has_validation: bool) -> None:
    """Raises UserError where the stage's schedule is unknown or waits for a score that nobody takes."""
    schedule = schedules.parse(stage.lr_schedule)
    if stage.warmup_epochs and not schedule.takes_warmup:
        raise UserError(f"stage {stage.name}: warmup_epochs={stage.warmup_epochs:g} does not go with "
                        f"lr_schedule={stage.lr_schedule}; set it to 0")
    waiting = ([f"lr_schedule={stage.lr_schedule}"] if schedule.kind == "plateau" else []) + (
        [f"early_stop={stage.early_stop}"] if stage.early_stop else [])
    if waiting and not has_validation:
        raise UserError(f"stage {stage.name}: {' and '.join(waiting)} wait for {stage.monitor}, but nothing is held "
                        "out to measure it on; train on fewer splits, or take another lr_schedule and --early_stop=0")


def make(stage: Stage) -> dict[str, tf.keras.callbacks.Callback]:
    """The stage's callbacks of this module by name; their `state` belongs into its checkpoint."""
    made: dict[str, tf.keras.callbacks.Callback] = {}
    schedule = schedules.parse(stage.lr_schedule)
    watched = {"monitor": stage.monitor, "mode": mode(stage.monitor)}
    if schedule.kind == "plateau":
        made["reduce_on_plateau"] = ReduceOnPlateau(factor=schedule.factor, patience=schedule.patience,
                                                    min_lr=LOWEST_RATE, **watched)
    if stage.early_stop:
        made["stop_early"] = StopEarly(patience=stage.early_stop, **watched)
    return made


def is_over(made: Mapping[str, tf.keras.callbacks.Callback]) -> bool:
    """Whether a restored stage had run out of patience already, and was killed before it could say so."""
    stop_early = made.get("stop_early")
    return stop_early is not None and int(stop_early.state.wait.numpy()) >= stop_early.patience
