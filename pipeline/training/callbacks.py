"""Small Keras callbacks: the rate in the logs, progress; and the history that they write.

What Keras calls an epoch is what lies between two snapshots (see runs.Plan).
"""

import contextlib
import time
from typing import Optional

import tensorflow as tf

from pipeline import files
from pipeline.progress import duration, progress
from pipeline.runs.run import Plan


def forget_rows_after(history_path: str, snapshots: int) -> None:
    """Drops rows that were written but whose checkpoint was not, so that none stands twice in history.csv."""
    if not files.exists(history_path):
        return
    with files.open_file(history_path, "r") as file:
        lines = file.read().splitlines(keepends=True)
    # A process that was killed may have cut the last line short, 12 to 1.
    kept = [line for line in lines[1:] if line.endswith("\n") and line.split(",")[0].isdigit()
            and int(line.split(",")[0]) < snapshots]
    if not kept:  # the head too, which may be cut short
        files.remove(history_path)
        return
    files.write_whole(history_path, "".join([lines[0], *kept]))


class LogLearningRate(tf.keras.callbacks.Callback):
    """Adds the rate of the epoch's last step to the logs, so that history.csv and TensorBoard have it.

    `rate` is what the optimizer was built with: a schedule, or the number that its variable began with. Stands before
    what changes that variable between epochs.
    """

    def __init__(self, rate):
        super().__init__()
        self._rate = rate

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        optimizer = self.model.optimizer
        rate = self._rate(optimizer.iterations - 1) if callable(self._rate) else optimizer.learning_rate
        logs["lr"] = float(rate.numpy())


class Progress(tf.keras.callbacks.Callback):
    """Pictures done, rate and time left until a snapshot, and then its scores and the time left of the stage."""

    _supports_tf_logs = True  # without it Keras fetches the step's results to the host at every step

    def __init__(self, title: str, plan: Plan, batch_size: int):
        super().__init__()
        self._title = title
        self._plan = plan
        self._batch_size = batch_size
        self._open_bar = contextlib.ExitStack()  # Keras opens and closes an epoch in two calls
        self._bar = None
        self._step = 0
        self._started = time.monotonic()
        self._first: Optional[int] = None  # a stage that goes on does not begin with snapshot 0

    def on_train_begin(self, logs=None) -> None:
        self._open_bar.close()  # of a snapshot that an error has ended

    def _where(self, snapshot: int) -> str:
        return f"{self._title}, epoch {self._plan.epochs_after(snapshot + 1):g}/{self._plan.epochs:g}"

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self._step = 0
        self._bar = self._open_bar.enter_context(
            progress(self.params["steps"] * self._batch_size, self._where(epoch), "pictures"))

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        # With several steps an execution, Keras calls this once for all of them.
        self._bar.update((batch + 1 - self._step) * self._batch_size)
        self._step = batch + 1

    def on_test_begin(self, logs=None) -> None:
        self._open_bar.close()  # else the validation would stretch the rate

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        self._open_bar.close()
        scores = ", ".join(f"{name} {float(value):.4g}" for name, value in logs.items())
        now = time.monotonic()
        self._first = self._first if self._first is not None else epoch
        left = (now - self._started) / (epoch + 1 - self._first) * (self._plan.snapshots - epoch - 1)
        to_go = f", {duration(left)} to go" if left else ""
        print(f"{self._where(epoch)}: {scores}{to_go}", flush=True)
