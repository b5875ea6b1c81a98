"""Training of the geo prior: epochs of compiled steps, a checkpoint after each, and scores on val at the end."""

import hashlib
import json
import os
import statistics
import time
from typing import Any, Sequence

from absl import logging
import numpy as np
import tensorflow as tf

from pipeline import command, files, lock
from pipeline.errors import UserError, WorkError
from pipeline.geo import losses as geo_losses, prior as geo_prior, records as geo_records
from pipeline.geo.records import Records
from pipeline.geo.runs import GeoRun
from pipeline.geo.step import Trainer
from pipeline.metrics import single_label as metrics
from pipeline.progress import duration, progress
from pipeline.runs import checkpoint, patterns, record as run_record, run as runs
from pipeline.training.callbacks import forget_rows_after
from pipeline.training.watch import are_numbers

HISTORY_FILE = "history.csv"
SCORES_FILE = "scores.json"
_COLUMNS = ("epoch", "loss", "lr", "records_per_second")
_SCORED_AT_ONCE = 4096  # records; with 10,000 classes 160 MB


class Training:
    """A run in its directory: the trainer, its last checkpoint and its history.

    A new object goes on where the last checkpoint was written.
    """

    def __init__(self, run: GeoRun, records: Records, num_classes: int):
        self._run = run
        self._records = records
        self._steps = geo_records.steps_per_epoch(records.label, run.batch_size, run.max_per_class)
        self.trainer = Trainer(run, records, num_classes, self._steps)
        self._epochs_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        state = tf.train.Checkpoint(**self.trainer.state(), epochs_done=self._epochs_done)
        folder = os.path.join(run.model_dir, geo_prior.LAST_DIR)
        self._last = patterns.manager(state, folder)
        standing = patterns.latest(folder)
        if standing:
            checkpoint.read_into(standing, state)
            logging.info("going on after epoch %d, from %s", self.epochs_done, standing)
        self._history_path = os.path.join(run.model_dir, HISTORY_FILE)
        forget_rows_after(self._history_path, self.epochs_done)

    @property
    def epochs_done(self) -> int:
        return int(self._epochs_done.numpy())

    def train_epoch(self) -> None:
        """One epoch, its checkpoint, its row of history.csv and its line; raises WorkError where the loss breaks."""
        epoch, started = self.epochs_done, time.monotonic()
        loss = self._train_steps(epoch)
        # The loss is of the weights before each step; the last step's own are seen by nobody yet.
        broken = f"the loss became {loss}" if not np.isfinite(loss) else ""
        if not broken and not are_numbers(self.trainer.variables_to_train):
            broken = "the weights became NaN or infinite"
        if broken:
            before = "; the checkpoint of the epoch before stands" if epoch else ""
            raise WorkError(f"{broken} in epoch {epoch + 1}{before}. Try a lower --lr")
        seconds = time.monotonic() - started
        speed = self._steps * self._run.batch_size / seconds
        # Before the checkpoint: a row too many is dropped at the next start, one too few would be missing for good.
        self._add_to_history(epoch, loss, self._run.lr * self._run.lr_decay**epoch, round(speed, 1))
        self._epochs_done.assign(epoch + 1)
        self._last.save(checkpoint_number=epoch + 1)
        left = seconds * (self._run.epochs - epoch - 1)
        to_go = f", {duration(left)} to go" if left else ""
        print(f"epoch {epoch + 1}/{self._run.epochs}: loss {loss:.4g}, {speed:.0f} records/s{to_go}", flush=True)

    def _train_steps(self, epoch: int) -> float:
        """The mean loss of an epoch."""
        run, at_once = self._run, self._run.steps_per_execution
        batches = geo_records.draw_epoch(self._records.label, run.batch_size, run.max_per_class, run.random_seed, epoch)
        losses = []
        with progress(self._steps * run.batch_size, f"epoch {epoch + 1}/{run.epochs}", "records") as bar:
            for first in range(0, self._steps, at_once):
                count = min(at_once, self._steps - first)
                # The last call has fewer steps to do, and the same shape.
                part = np.resize(batches[first:first + count], [at_once, run.batch_size])
                first_step = tf.constant(epoch * self._steps + first, tf.int64)
                losses.append(self.trainer.run_steps(tf.constant(part), tf.constant(count), first_step))
                bar.update(count * run.batch_size)
        return float(tf.add_n(losses)) / self._steps

    def _add_to_history(self, *row: Any) -> None:
        rows = _read_lines(self._history_path) or [",".join(_COLUMNS)]
        files.write_whole(self._history_path, "\n".join([*rows, ",".join(map(str, row))]) + "\n")

    def records_per_second(self) -> float:
        """The median over the epochs (the first one of a start has the compilation in it)."""
        rows = _read_lines(self._history_path)[1:]
        return round(statistics.median(float(row.split(",")[-1]) for row in rows), 1)


def _read_lines(path: str) -> list[str]:
    if not files.exists(path):
        return []
    with files.open_file(path, "r") as file:
        return file.read().splitlines()


def score(prior: geo_prior.GeoPrior, records: Records) -> dict[str, float]:
    """top1, top5 and top10 (shares), log_loss (nats, the mean over records of −log p) and examples; needs one record."""
    ranks, losses = [], []
    for start in range(0, len(records), _SCORED_AT_ONCE):
        part = slice(start, start + _SCORED_AT_ONCE)
        labels = records.label[part]
        found = prior.log_probabilities(records.latitude[part], records.longitude[part], records.date[part])
        ranks.append(metrics.label_ranks(labels, found))
        losses.append(-found[np.arange(len(labels)), labels].astype(np.float64))
    ranks = np.concatenate(ranks)
    return {**{f"top{k}": float((ranks < k).mean()) for k in (1, 5, 10)},
            "log_loss": float(np.concatenate(losses).mean()), "examples": len(records)}


def _check(run: GeoRun, records: Records) -> None:
    if run.photographers and records.photographers < 2:
        raise UserError(f"--photographers: the records of {run.data_dir} name {records.photographers} photographers "
                        "(user_id); it takes 2 and more")
    if run.date_input and np.isnan(records.date).all():
        raise UserError(f"no record of {run.data_dir} has a date that can be read; train without dates by --date_input=off")


def _claim(run: GeoRun, records: Records, class_ids: Sequence[str]) -> None:
    """Makes the model directory this run's, or finds that it is another's."""
    weight = geo_losses.positive_weight(run.geo_loss, len(class_ids), run.positive_weight)
    classes = hashlib.sha256(json.dumps(list(class_ids)).encode()).hexdigest()
    same = {**run.identity(), "positive_weight": weight, "records": records.digest(), "classes": classes}
    run_record.claim(run.model_dir, same, {"data_dir": run.data_dir, "class_ids": list(class_ids),
                                           "steps_per_execution": run.steps_per_execution}, geo_prior.PROGRAM)


def run_training(run: GeoRun, class_ids: Sequence[str], train: Records, val: Records) -> None:
    """Trains what is missing, writes MODEL_DIR/scores.json where there is something to score on, and tells the scores.

    Raises UserError for what the user can mend.
    """
    _check(run, train)
    with lock.held(run.model_dir):
        _claim(run, train, class_ids)
        _train_what_is_missing(run, class_ids, train, val)


def _train_what_is_missing(run: GeoRun, class_ids: Sequence[str], train: Records, val: Records) -> None:
    logging.info("%d records of %d classes to train on (%d more have no place), %d to score on (%d more)", len(train),
                 len(class_ids), train.without_place, len(val), val.without_place)
    if runs.is_done(run.model_dir):
        logging.info("%s is finished already", run.model_dir)
    else:
        _train(run, class_ids, train, val)
    if not len(val):
        print(f"finished; no val record has a place, so there are no scores; model in {run.model_dir}")
        return
    told = ", ".join(f"{name} {value:.4g}" for name, value in files.read_json(_scores_path(run)).items())
    print(f"val: {told}; model in {run.model_dir}")


def _scores_path(run: GeoRun) -> str:
    return os.path.join(run.model_dir, SCORES_FILE)


def _train(run: GeoRun, class_ids: Sequence[str], train: Records, val: Records) -> None:
    training = Training(run, train, len(class_ids))
    command.begin_work()
    while training.epochs_done < run.epochs:
        training.train_epoch()
    speed = training.records_per_second()
    if len(val):
        scores = score(geo_prior.GeoPrior(training.trainer.network, class_ids), val)
        files.write_json(_scores_path(run), {**scores, "records_per_second": speed})
    runs.mark_done(run.model_dir, {"epochs": training.epochs_done, "records_per_second": speed})
