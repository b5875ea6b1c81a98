"""A stage of train=probe: features once, logistic regression on them, and the head that it makes as a checkpoint."""

import csv
import io
import os
import time

from absl import logging
import numpy as np
import tensorflow as tf

from pipeline import files
from pipeline.devices import hosts
from pipeline.errors import UserError
from pipeline.models.classifier import Classifier
from pipeline.records import dataset as datasets
from pipeline.runs import checkpoint, run as runs
from pipeline.runs.run import Run
from pipeline.runs.stages import Stage
from pipeline.tasks import label_matrix
from pipeline.training import bad_records, features, fitting, probe, probe_parts, trainable
from pipeline.training.step import TrainableClassifier


def fit(run: Run, stage: Stage, data: datasets.Dataset, built: Classifier, strategy: tf.distribute.Strategy,
        folder: str) -> None:
    """Gives `built` the head, and writes the stage's folder: features, checkpoints, history and the marker.

    Args:
      built: the network as the stage finds it, made in the strategy's scope.
      folder: the stage's, where this process writes.

    Raises UserError where no picture has a label; else as features.of_training_part.
    """
    started = time.monotonic()
    rows, found = features.of_training_part(run, stage, data, built, strategy, folder)
    computed = time.monotonic()
    examples = runs.training_part(run, data).examples().set_index("row").loc[rows].reset_index()
    labelled = np.array([len(one) > 0 for one in examples["labels"]])
    if not labelled.any():
        raise UserError(f"stage {stage.name}: no picture of {run.train_split} in {data.directory} has a label")
    examples = examples[labelled].assign(group=data.groups().reindex(rows).to_numpy()[labelled])
    targets = label_matrix.of(examples["labels"], len(data.manifest.classes), data.task.exclusive)
    fitted = probe.fit(found[labelled], targets, probe_parts.divide(examples, data.manifest, run.random_seed),
                       data.task.activation)
    built.head.set_weights([fitted.linear.kernel.astype(np.float32), fitted.linear.bias.astype(np.float32)])
    plan = runs.plan_stage(run, stage, data)
    with strategy.scope():
        model = trainable.compile_stage(run, stage, built, stage.peak_lr, data.task)
        checkpoints = checkpoint.StageCheckpoints(runs.stage_dir(run, stage), built, model.optimizer, stage.monitor, plan,
                                                  write_dir=folder)
    scores = {"C": fitted.strength, "loss": fitted.loss, **_cross_validated(fitted),
              **_held_out_scores(run, stage, data, model, plan)}
    logging.info("stage %s: %s", stage.name, ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
    _write_history(os.path.join(folder, fitting.HISTORY_FILE), scores)
    checkpoints.on_epoch_end(0, scores)
    runs.mark_done(folder, {
        "epochs": plan.epochs, "best_epoch": plan.epochs, "steps": 0, "monitor": stage.monitor, "keep": stage.keep,
        "best": checkpoints.best_value, "rate_factor": 1.0, "seconds": round(time.monotonic() - started, 1),
        "feature_seconds": round(computed - started, 1), "C": fitted.strength, "cross_validation": [
            {"C": strength, "log_loss": loss} for strength, loss in fitted.losses.items()]})


def _cross_validated(fitted: probe.Probe) -> dict[str, float]:
    return {"cv_loss": fitted.losses[fitted.strength]} if fitted.losses else {}


def _held_out_scores(run: Run, stage: Stage, data: datasets.Dataset, model: TrainableClassifier,
                     plan: runs.Plan) -> dict[str, float]:
    """val_loss and its like of what is held out from the run; nothing where nothing is."""
    if not plan.validation_steps:
        return {}
    batches = hosts.distribute(
        model.distribute_strategy,
        lambda host: fitting.validation_batches(run, stage, data, host).take(plan.validation_steps), stage.batch_size)
    with bad_records.named(run, data):
        scores = model.evaluate(batches, steps=plan.validation_steps, verbose=0, return_dict=True)
    return {f"val_{name}": float(value) for name, value in scores.items()}


def _write_history(path: str, scores: dict[str, float]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([["epoch", *scores], [0, *scores.values()]])
    files.write_whole(path, text.getvalue())
