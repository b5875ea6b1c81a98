"""A restored stage to its last step: Keras' fit, entered at any step, and gone back where it diverged."""

import dataclasses
import os
from typing import Any, Sequence
import zlib

from absl import logging
import tensorflow as tf

from pipeline import command, files, preemption
from pipeline.devices import hosts
from pipeline.errors import WorkError
from pipeline.ops import mixing
from pipeline.records import cache as caches, dataset as datasets, input as inputs, training_picture
from pipeline.runs import run as runs
from pipeline.runs.checkpoint import StageCheckpoints
from pipeline.runs.run import Plan, Run
from pipeline.runs.stages import Stage
from pipeline.training import bad_records, callbacks, patience, schedules
from pipeline.training.step import TrainableClassifier
from pipeline.training.watch import Diverged

HISTORY_FILE = "history.csv"
BROKEN_FILE = "broken_batch.json"  # what a stage has last diverged on
MOST_ROLLBACKS = 3
_TOLD_IDS = 4  # of a batch's, in the line that tells of it


class RateFactor:
    """What the rate is multiplied by, in a variable that the checkpoint holds: 1, halved at each rollback."""

    def __init__(self, rate: schedules.Rate):
        """Made in the strategy's scope. `rate`: a schedule, or a number, which becomes the optimizer's variable."""
        self.variable = tf.Variable(1.0, dtype=tf.float32, trainable=False, name="rate_factor")
        self._is_schedule = callable(rate)
        self.rate = schedules.Scaled(rate, self.variable) if self._is_schedule else rate

    def lower(self, factor: float, optimizer) -> None:
        """After a checkpoint was restored, which holds another one."""
        if not self._is_schedule:
            optimizer.learning_rate.assign(optimizer.learning_rate * factor / self.value)
        self.variable.assign(factor)

    def at(self, step: int, optimizer) -> float:
        """The rate of a step, counted from 1."""
        return float(self.rate(step - 1) if self._is_schedule else optimizer.learning_rate.numpy())

    @property
    def value(self) -> float:
        return float(self.variable.numpy())


@dataclasses.dataclass
class Fitting:
    """All that trains a stage; `callbacks` in the order in which they are called."""

    run: Run
    stage: Stage
    plan: Plan
    data: datasets.Dataset
    model: TrainableClassifier
    factor: RateFactor
    waiting: dict[str, Any]
    checkpoints: StageCheckpoints
    callbacks: Sequence[tf.keras.callbacks.Callback]
    folder: str              # where this process writes

    @property
    def _history(self) -> str:
        return os.path.join(self.folder, HISTORY_FILE)

    def fit(self) -> None:
        """Trains from the checkpoint to the end, or until there is no patience left.

        Raises Preempted where the process was asked to end, what it had saved; WorkError where the loss is no number any
        more, or a record is damaged.
        """
        with preemption.held():
            if self.run.on_nan == "rollback" and not self.checkpoints.steps:
                self.checkpoints.save(0)  # what the first steps go back to
            while True:
                callbacks.forget_rows_after(self._history, self.checkpoints.snapshots)
                try:
                    self._fit_to_the_end()
                    return
                except Diverged as error:
                    line = self._tell(error)
                    if self.run.on_nan != "rollback" or self.factor.value <= 0.5**MOST_ROLLBACKS:
                        raise WorkError(line) from None
                self._roll_back(line)

    def _roll_back(self, line: str) -> None:
        factor = self.factor.value / 2
        self.checkpoints.restore()
        self.factor.lower(factor, self.model.optimizer)
        self.model.forget_broken()
        logging.warning("%s; going back to step %d with %g of the rate", line, self.checkpoints.steps, factor)

    def _fit_to_the_end(self) -> None:
        if patience.is_over(self.waiting):
            return
        plan, done = self.plan, self.checkpoints.snapshots
        begun = self.checkpoints.steps - plan.steps_after(done)
        if begun:
            left = plan.steps_after(done + 1) - self.checkpoints.steps
            if left:
                self._fit_snapshots(done, done + 1, left)
            else:
                self._validate_snapshot(done)
            done += 1
            if self.model.stop_training:
                return
        whole, rest = divmod(plan.steps, plan.steps_per_snapshot)
        for end, steps in ((whole, plan.steps_per_snapshot), (plan.snapshots, rest)):
            # To Keras all epochs of a call are of one length; a shorter last one is a call of its own.
            if done < end:
                self._fit_snapshots(done, end, steps)
                done = end
                if self.model.stop_training:
                    return

    def _fit_snapshots(self, begin: int, end: int, steps: int) -> None:
        """Trains the snapshots `begin` to `end` (without it), from the checkpoint's step on; `steps` each."""
        strategy = self.model.distribute_strategy
        start = max(self.checkpoints.steps, self.plan.steps_after(begin))
        batches = hosts.distribute(strategy, lambda host: training_batches(self.run, self.stage, self.data, start, host),
                                   self.stage.batch_size)
        command.begin_work()
        with bad_records.named(self.run, self.data):
            self.model.fit(batches, epochs=end, initial_epoch=begin, steps_per_epoch=steps, validation_data=self._held_out(),
                           validation_steps=self.plan.validation_steps or None, callbacks=list(self.callbacks), verbose=0)

    def _validate_snapshot(self, snapshot: int) -> None:
        """Ends a snapshot all of whose steps are done, as fit does."""
        calls = tf.keras.callbacks.CallbackList(list(self.callbacks), model=self.model, epochs=snapshot + 1, steps=0,
                                                verbose=0)
        self.model.stop_training = False
        calls.on_train_begin()
        calls.on_epoch_begin(snapshot)
        logs = {metric.name: float(metric.result()) for metric in self.model.metrics}
        command.begin_work()
        if self.plan.validation_steps:
            with bad_records.named(self.run, self.data):
                scores = self.model.evaluate(self._held_out(), steps=self.plan.validation_steps, callbacks=calls, verbose=0,
                                             return_dict=True)
            logs |= {f"val_{name}": value for name, value in scores.items()}
        calls.on_epoch_end(snapshot, logs)
        calls.on_train_end()

    def _held_out(self):
        if not self.plan.validation_steps:
            return None
        return hosts.distribute(self.model.distribute_strategy, lambda host: validation_batches(
            self.run, self.stage, self.data, host).take(self.plan.validation_steps), self.stage.batch_size)

    def _tell(self, error: Diverged) -> str:
        """The line about it; what is known of its batch goes into a file too."""
        fold = "" if self.run.fold is None else f", fold {self.run.fold}"
        at = "" if error.step is None else f" {self._tell_step(error.step)}"
        stands = f"; the checkpoint of step {self.checkpoints.steps} stands" if self.checkpoints.steps else ""
        epoch = self.plan.epochs_after(error.snapshot + 1)
        return (f"stage {self.stage.name}{fold}: {error.what} in epoch {epoch:g}{at}{stands}. "
                "Try a lower lr, a longer --warmup_epochs, --clip_norm or --on_nan=rollback")

    def _tell_step(self, step: int) -> str:
        rate = self.factor.at(step, self.model.optimizer)
        told = f"at step {step}, rate {rate:.3g}"
        if self.run.unordered:
            return told
        rows, ids = self._batch_of(step)
        path = os.path.join(self.folder, BROKEN_FILE)
        files.write_json(path, {"step": step, "rate": rate, "rows": rows, "ids": ids})
        more = f" and {len(ids) - _TOLD_IDS} more ({path})" if len(ids) > _TOLD_IDS else ""
        return f"{told}, with {', '.join(ids[:_TOLD_IDS])}{more}"

    def _batch_of(self, step: int) -> tuple[list[int], list[str]]:
        """The rows and the ids of a step's pictures, on all hosts."""
        part, count = runs.training_part(self.run, self.data), hosts.count(self.model.distribute_strategy)
        rows = [row for index in range(count) for row in inputs.batch_rows(
            part, self.stage.batch_size, stage_seed(self.run, self.stage), step - 1, self.stage.class_balance,
            inputs.Host(index, count))]
        table = self.data.identifiers(part.split, ["row"])
        named = dict(zip(table["row"].astype("int64"), table["id"]))
        return rows, [named[row] for row in rows]


def stage_seed(run: Run, stage: Stage) -> int:
    """Every stage sees the pictures in an order, and in crops, of its own."""
    return zlib.crc32(f"{run.random_seed}/{stage.name}".encode())


def training_batches(run: Run, stage: Stage, data: datasets.Dataset, start_step: int, host: inputs.Host) -> tf.data.Dataset:
    """Those of a stage from a step on."""
    pictures, part = training_picture.pictures_of(stage), runs.training_part(run, data)
    budget = round(run.ram_budget * caches.GIB)
    cache = caches.make(part, run.cache, budget)
    return inputs.train_batches(
        part, pictures, stage.batch_size, stage_seed(run, stage), start_step,
        ordered=not run.unordered, class_balance=stage.class_balance, host=host, cache=cache,
        ram_budget=caches.left(budget, part) if cache else budget, mix=mixing.Alphas(stage.mixup, stage.cutmix, stage.mixup_draw))


def validation_batches(run: Run, stage: Stage, data: datasets.Dataset, host: inputs.Host) -> tf.data.Dataset:
    """Those of what the run is validated on, of which there is something, as the stage sees them."""
    return inputs.validation_batches(runs.validation_part(run, data), stage.size, stage.eval_resize, stage.batch_size, host,
                                     stage.antialias)
