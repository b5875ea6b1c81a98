"""Small Keras callbacks: the rate in the logs, progress; and the history that they write.

What Keras calls an epoch is what lies between two snapshots (see runs.Plan).
"""

import contextlib
import time
from typing import Any, Mapping, Optional

import tensorflow as tf

from pipeline import files, terminal
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


_NAMES = {"accuracy": "top-1"}  # of metrics, what people call them
_UNTOLD = ("lr", "top5")        # the rate stands further on; top-5 is in history.csv, and a line is short


def _told(logs: Mapping[str, Any]) -> str:
    """The scores of a snapshot, each of training and then of the validation."""
    names = dict.fromkeys(name.removeprefix("val_") for name in logs)
    pairs = {name: [f"{before}{float(logs[key]):.4g}" for before, key in (("", name), ("val ", f"val_{name}")) if key in logs]
             for name in names if name not in _UNTOLD}
    return ", ".join(f"{_NAMES.get(name, name)} {', '.join(pair)}" for name, pair in pairs.items())


class Progress(tf.keras.callbacks.Callback):
    """A bar until a snapshot, and then in its place a line: scores, rate, pictures a second, the time left of the stage and of
    all stages."""

    _supports_tf_logs = True  # without it Keras fetches the step's results to the host at every step

    def __init__(self, title: str, plan: Plan, batch_size: int, later_pictures: float = 0.0):
        """later_pictures: of the stages after this one, as so many of this one's."""
        super().__init__()
        self._title = title
        self._plan = plan
        self._batch_size = batch_size
        self._later = later_pictures
        self._open_bar = contextlib.ExitStack()  # Keras opens and closes an epoch in two calls
        self._bar = None
        self._step = 0
        self._of_snapshot, self._of_all = _Clock(), _Clock()

    def on_train_begin(self, logs=None) -> None:
        self._open_bar.close()  # of a snapshot that an error has ended

    def _where(self, snapshot: int) -> str:
        return f"{self._title}, epoch {self._plan.epochs_after(snapshot + 1):g}/{self._plan.epochs:g}"

    def _open(self, steps: int, description: str) -> None:
        self._open_bar.close()
        self._step = 0
        self._bar = self._open_bar.enter_context(progress(steps * self._batch_size, description, "pictures", leave=False))

    def _advance(self, batch: int) -> None:
        # With several steps an execution, Keras calls this once for all of them.
        self._bar.update((batch + 1 - self._step) * self._batch_size)
        self._step = batch + 1

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self._snapshot, self._of_snapshot = epoch, _Clock()
        self._open(self.params["steps"], self._where(epoch))

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        steps = batch + 1 - self._step
        self._advance(batch)
        for clock in (self._of_snapshot, self._of_all):
            clock.tick(steps)

    def on_test_begin(self, logs=None) -> None:  # a bar of its own: else the validation would stretch the rate
        self._open(self._plan.validation_steps, f"{self._where(self._snapshot)}, validation")

    def on_test_batch_end(self, batch: int, logs=None) -> None:
        self._advance(batch)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        self._open_bar.close()
        rate = f", rate {float(logs['lr']):.3g}" if "lr" in logs else ""
        print(f"{terminal.bold(self._where(epoch))}: {_told(logs)}{rate}{self._speed()}{self._left(epoch)}", flush=True)

    def _speed(self) -> str:
        a_step = self._of_snapshot.a_step()
        return f", {self._batch_size / a_step:.3g} images/s" if a_step else ""

    def _left(self, epoch: int) -> str:
        """By the time that a step has taken so far, validations and all."""
        a_step = self._of_all.a_step(time.monotonic())
        if not a_step:
            return ""
        left = self._plan.steps - self._plan.steps_after(epoch + 1)
        told = f", {duration(left * a_step)} to go" if left else ""
        with_later = (left + self._later / self._batch_size) * a_step
        return told + (f", all about {duration(with_later)}" if self._later else "")


class _Clock:
    """The time of a step, without the first ones, for which the step is traced and compiled."""

    def __init__(self):
        self._begun = self._last = time.monotonic()
        self._first: Optional[tuple[int, float]] = None
        self._steps = 0

    def tick(self, steps: int) -> None:
        """So many more are done."""
        self._steps += steps
        self._last = time.monotonic()
        self._first = self._first or (self._steps, self._last)

    def a_step(self, until: Optional[float] = None) -> Optional[float]:
        """Seconds, up to the last step or `until`; None: there was none."""
        if not self._steps:
            return None
        begin, seconds = self._first if self._steps > self._first[0] else (0, self._begun)
        return max((until or self._last) - seconds, 1e-9) / (self._steps - begin)
