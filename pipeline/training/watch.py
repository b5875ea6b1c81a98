"""What is looked at between steps: whether the loss is still a number, whether to save, whether to end.

What Keras calls an epoch is what lies between two snapshots (see runs.Plan).
"""

import math
import time
from typing import Optional, Sequence

import numpy as np
import tensorflow as tf

from pipeline import preemption
from pipeline.devices import hosts
from pipeline.errors import Preempted, WorkError
from pipeline.runs.checkpoint import StageCheckpoints
from pipeline.runs.run import Plan
from pipeline.training.replica_values import ReplicaValues
from pipeline.training.step import TrainableClassifier

_LOOK_SECONDS = 10  # between two looks at the step's own variable, which wait for the device
_MEET_EVERY = 8     # executions, between two meetings of several hosts
_NAMES = {"loss": "the loss", "val_loss": "the validation's loss"}


class Diverged(WorkError):
    """A stage's numbers are none any more, and its checkpoint is as it was before.

    Attributes:
      what: what became of what, in words.
      snapshot: in which it was found, counted from 0.
      step: of the stage, counted from 1, whose loss was the first; None where it is not known.
    """

    def __init__(self, what: str, snapshot: int, step: Optional[int] = None):
        super().__init__(what)
        self.what, self.snapshot, self.step = what, snapshot, step


class Watch(tf.keras.callbacks.Callback):
    """Saves within a snapshot, ends where the process is asked to, and raises Diverged before a broken step is saved.

    Several hosts agree about each of these at the same step.
    """

    _supports_tf_logs = True  # without it Keras fetches the step's results to the host at every step

    def __init__(self, model: TrainableClassifier, trained: tf.keras.Model, plan: Plan, checkpoints: StageCheckpoints,
                 sums: ReplicaValues, save_minutes: float):
        """As a callback this one stands before all that write. `sums`: of the model's metrics."""
        super().__init__()
        self._trainable = model
        self._trained = trained
        self._plan = plan
        self._checkpoints = checkpoints
        self._sums = sums
        self._save_seconds = save_minutes * 60 or math.inf
        self._meeting = hosts.Meeting(model.distribute_strategy, 3)
        self._is_chief = hosts.is_chief(model.distribute_strategy)
        self._begun = self._steps = self._snapshot = self._executions = 0
        self._validating = False
        self._saved = self._looked = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self._snapshot, self._validating = epoch, False
        self._begun = self._steps = max(self._checkpoints.steps, self._plan.steps_after(epoch))
        if self._steps > self._plan.steps_after(epoch):  # Keras has just set the metrics to 0
            self._sums.give()

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        # With several steps an execution, Keras calls this once for all of them.
        self._steps = self._begun + batch + 1
        self._between_executions()

    def on_test_begin(self, logs=None) -> None:
        self._sums.take()  # Keras sets the metrics to 0 next
        self._validating = True

    def on_test_batch_end(self, batch: int, logs=None) -> None:
        self._between_executions()

    def _between_executions(self) -> None:
        now = time.monotonic()
        self._executions += 1
        if not self._meeting.is_of_several:
            broken = now - self._looked > _LOOK_SECONDS and self._is_broken(now)
            ends, saves = bool(preemption.asked()), now - self._saved > self._save_seconds
        elif self._executions % _MEET_EVERY:
            return
        else:
            own = preemption.asked(), self._is_chief and now - self._saved > self._save_seconds, self._is_broken(now)
            ends, saves, broken = (total > 0 for total in self._meeting([float(bool(one)) for one in own]))
        if broken or ((ends or saves) and self._is_broken(now)):
            raise self._diverged()
        if ends or saves:
            self._save()
        if ends:
            # Of several hosts another may have been asked.
            raise Preempted(f"ended by {preemption.asked() or 'another host'} after step {self._steps} of the stage, which "
                            "is saved; the same command goes on")

    def _save(self) -> None:
        if not self._validating:
            self._sums.take()
        self._checkpoints.save(self._steps)
        self._saved = time.monotonic()

    def _is_broken(self, now: float) -> bool:
        self._looked = now
        return self._trainable.broken_step() is not None

    def _diverged(self) -> Diverged:
        value = float(self._trainable.metrics[0].result())
        value = math.nan if math.isfinite(value) else value  # another host's, or the validation's metrics by now
        return Diverged(f"the loss became {value}", self._snapshot, self._trainable.broken_step())

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """The loss of an epoch is finite also where its last step broke the weights: then that of the validation is not, and
        where nothing is held out the weights themselves are looked at."""
        broken = [f"{_NAMES.get(name, name)} became {value}" for name, value in logs.items() if not math.isfinite(value)]
        if not broken and "val_loss" not in logs and not are_numbers(self._trained.weights):
            broken = ["the weights became NaN or infinite"]
        if broken:
            raise Diverged(broken[0], epoch, self._trainable.broken_step())
        self._saved = time.monotonic()  # the next callbacks save


def are_numbers(weights: Sequence[tf.Variable]) -> bool:
    """Whether none of them holds a NaN or an infinity."""
    return all(np.isfinite(weight.numpy()).all() for weight in weights if weight.dtype.is_floating)
