"""Training: the stages of a run in order, each from what the one before has kept: its best, or its last."""

import contextlib
import os
import time
from typing import Any, Optional

from absl import logging
import numpy as np
import tensorflow as tf

from pipeline import files, lock, preemption
from pipeline.devices import hosts, strategy as strategies
from pipeline.models import classifier as classifiers
from pipeline.records import class_balance, dataset as datasets, input as inputs
from pipeline.runs import checkpoint, record as run_record, run as runs, seen
from pipeline.runs.run import Plan, Run
from pipeline.runs.stages import Stage
from pipeline.training import (bad_records, callbacks, fitting, optimizers, patience, plan_table, probe_stage, run_checks,
                               schedules, trainable, watch)
from pipeline.training.replica_values import ReplicaValues, of_replicas
from pipeline.training.weight_average import WeightAverage


def _log_plan(run: Run, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> None:
    strategies.log(strategy, [stage.batch_size for stage in run.stages])
    held_out, left_out = runs.validation_part(run, data), runs.strangers_of(run, data).get(run.fold, ())
    if left_out:
        logging.info("fold %d leaves out %d classes whole (--hold_out_classes=%g): %s", run.fold, len(left_out),
                     run.hold_out_classes, ", ".join(data.class_ids[one] for one in left_out))
    logging.info("%s: %d examples of %d classes to train on (%s), %s", data.directory, runs.training_part(run, data).size,
                 len(data.manifest.classes), run.train_split if run.fold is None else f"without fold {run.fold}",
                 f"{held_out.size} to validate" if held_out else "none held out")
    count = hosts.count(strategy)
    if count > 1:
        by_shard = inputs.Host(0, count).takes_shards(runs.training_part(run, data))
        logging.info("each of the %d hosts reads %s", count, "shards of its own" if by_shard else
                     "all shards, of which there are fewer than hosts, and makes its part of every batch")
    for stage in run.stages:
        plan = runs.plan_stage(run, stage, data)
        if stage.is_probe:
            logging.info("stage %s: train=%s, %d px, features by --tta=%s in batches of %d", stage.name, stage.train,
                         stage.size, run.tta, stage.batch_size)
            continue
        logging.info("stage %s: train=%s, %d px, %g epoch(s) of %g steps of %d, a checkpoint every %d, %s peak rate "
                     "%.3g, warm-up %d of %d steps, augment %s%s", stage.name, stage.train, stage.size, plan.epochs,
                     plan.steps_per_epoch, stage.batch_size, plan.steps_per_snapshot, stage.optimizer, stage.peak_lr,
                     plan.warmup_steps, plan.total_steps, stage.augment,
                     stage.randaugment and f", randaugment {stage.randaugment}")


def _build(run: Run, stage: Stage, data: datasets.Dataset, weights: str) -> classifiers.Classifier:
    return trainable.build_classifier(run, stage, len(data.manifest.classes), weights, run_checks.input_scaling(run))


def _log_prior(run: Run, stage: Stage, data: datasets.Dataset) -> Optional[np.ndarray]:
    if not stage.logit_adjust:
        return None
    return class_balance.log_prior(runs.training_part(run, data), len(data.manifest.classes), stage.class_balance)


def _load_earlier_run(run: Run, built: classifiers.Classifier, data: datasets.Dataset) -> None:
    """--init_from: all weights where the classes are the same, else the base alone."""
    record = run_record.read(run.init_from)
    last_stage = runs.last_stage_dir(run.init_from, seen.first_fold(run.init_from, data, run.fold))
    path = checkpoint.find(last_stage, run_record.keep(record))
    why_base = ("its classes are others" if record["free"]["class_ids"] != data.class_ids else
                "its pooling or head is another" if run_record.top(record) != run.top else "")
    logging.info("starting from %s (%s)", path, f"the base: {why_base}" if why_base else "all weights")
    checkpoint.load_at_size(path, built, run.model, run_record.last_stage(record)["size"], run.random_seed,
                            with_head=not why_base)


def _load_initial(run: Run, stage: Stage, built: classifiers.Classifier, data: datasets.Dataset) -> None:
    """Where a stage without a checkpoint of its own gets its weights, in this order: the stage before; an earlier run;
    --weights, which were loaded when it was built; else they are random."""
    if run.stages[0] != stage:
        before = run.stages[run.stages.index(stage) - 1]
        path = checkpoint.find(runs.stage_dir(run, before), before.keep)
        checkpoint.load_at_size(path, built, run.model, before.size, run.random_seed)
    elif run.init_from:
        _load_earlier_run(run, built, data)


def _build_first(run: Run, stage: Stage, data: datasets.Dataset) -> classifiers.Classifier:
    """With the weights of the model's library or file, where these are the stage's first."""
    from_library = run.stages[0] == stage and not run.init_from
    return _build(run, stage, data, run.weights if from_library else "none")


def _train_stage(run: Run, stage: Stage, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> None:
    files.make_dirs(runs.stage_dir(run, stage))
    with hosts.folder_to_write(strategy, runs.stage_dir(run, stage)) as folder:
        # Every stage seeds anew, so that a stage begins alike whether or not the earlier ones ran in this process.
        tf.keras.backend.clear_session()
        tf.keras.utils.set_random_seed(run.random_seed)
        if stage.is_probe:
            _fit_probe(folder, run, stage, data, strategy)
        else:
            _train_stage_into(folder, run, stage, data, strategy)
    hosts.wait_for_all(strategy)  # or the next stage would look for a checkpoint that another host still writes


def _fit_probe(folder: str, run: Run, stage: Stage, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> None:
    with strategy.scope():
        built = _build_first(run, stage, data)
        _load_initial(run, stage, built, data)
    probe_stage.fit(run, stage, data, built, strategy, folder)


def _train_stage_into(folder: str, run: Run, stage: Stage, data: datasets.Dataset,
                      strategy: tf.distribute.Strategy) -> None:
    plan = runs.plan_stage(run, stage, data)
    started = time.monotonic()
    rate = schedules.make_rate(stage.lr_schedule, stage.peak_lr, plan.warmup_steps, plan.total_steps,
                               plan.steps_per_epoch, stage.lr_factor)
    with strategy.scope():
        waiting, factor = patience.make(stage), fitting.RateFactor(rate)
        built = _build_first(run, stage, data)
        # What is validated, saved and predicted with: the network that is trained, or the average of its weights.
        valued = _build(run, stage, data, "none") if stage.ema else built
        average = WeightAverage(valued.model, built.model, stage.ema) if stage.ema else None
        model = trainable.compile_stage(run, stage, built, factor.rate, data.task, _log_prior(run, stage, data),
                                        average, fitting.stage_seed(run, stage))
        sums = ReplicaValues([one for metric in model.metrics for one in metric.variables], strategy)
        networks = [built] if valued is built else [built, valued]
        statistics = ReplicaValues([one for network in networks for one in of_replicas(network.model)], strategy)
        also = {"trained": built.model, "sums": sums.state, "statistics": statistics.state, "rate_factor": factor.variable,
                **{name: callback.state for name, callback in waiting.items()}}
        checkpoints = checkpoint.StageCheckpoints(runs.stage_dir(run, stage), valued, model.optimizer, stage.monitor, plan,
                                                  runs.kept_epochs(run, stage), also, folder, statistics)
        if not checkpoints.restore():
            _load_initial(run, stage, built, data)
            if average:
                average.start()
    fitting.Fitting(run, stage, plan, data, model, factor, waiting, checkpoints, [
        callbacks.LogLearningRate(factor.rate),
        watch.Watch(model, built.model, plan, checkpoints, sums, run.save_minutes),
        callbacks.Progress(_title(run, stage), plan, stage.batch_size, _later_pictures(run, stage, data)),
        tf.keras.callbacks.CSVLogger(os.path.join(folder, fitting.HISTORY_FILE), append=True),
        tf.keras.callbacks.TensorBoard(os.path.join(folder, "tensorboard"), write_graph=False),
        *waiting.values(),
        checkpoints,
    ], folder).fit()
    _mark_done(folder, stage, plan, checkpoints, factor, time.monotonic() - started)


def _title(run: Run, stage: Stage) -> str:
    return f"stage {stage.name}" + ("" if run.fold is None else f", fold {run.fold}")


def _later_pictures(run: Run, stage: Stage, data: datasets.Dataset) -> float:
    """What the stages after it have to train on, as so many of this stage's pictures; of another size they take longer by
    their pixels, if what is trained were the same."""
    later = [one for one in run.stages[run.stages.index(stage) + 1:]
             if not one.is_probe and not runs.is_done(runs.stage_dir(run, one))]
    return sum(runs.plan_stage(run, one, data).steps * one.batch_size * (one.size / stage.size) ** 2 for one in later)


def _mark_done(folder: str, stage: Stage, plan: Plan, checkpoints: checkpoint.StageCheckpoints, factor: fitting.RateFactor,
               seconds: float) -> None:
    runs.mark_done(folder, {"epochs": plan.epochs_after(checkpoints.snapshots),
                            "best_epoch": plan.epochs_after(checkpoints.best_snapshot),
                            "steps": plan.steps_after(checkpoints.snapshots),
                            "monitor": stage.monitor, "keep": stage.keep, "best": checkpoints.best_value,
                            "rate_factor": factor.value, "seconds": round(seconds, 1)})


def make_devices(run: Run) -> tf.distribute.Strategy:
    """What the run computes on, the same at each call; comes before whatever else needs TensorFlow.

    Raises UserError for what is wrong in the flags alone, and for devices that can't be had or don't suit the run.
    """
    run_checks.check_flags(run)
    if run.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = strategies.make(run.tpu, [stage.batch_size for stage in run.stages], run.virtual_replicas)
    run_checks.check_replicas(run, strategy)
    return strategy


def run_training(run: Run) -> None:
    """Trains every stage that is not finished yet; raises UserError for what the user can mend.

    Of several hosts each checks everything, so that all of them end with the same mistake.
    """
    strategy = make_devices(run)
    data = datasets.load(run.data_dir)
    run = runs.for_task(run, data.task)
    if run.skip_bad_records and not run.dry_run:
        data = bad_records.passed_over(run, data, strategy)
    run_checks.check(run, data)
    if run.dry_run:
        run_record.check_same(run.model_dir, _same(run, data))
        print(plan_table.text(run, data, strategy))
        return
    with contextlib.ExitStack() as stack:
        folder = runs.fold_dir(run.model_dir, run.fold)  # folds may be trained side by side
        hosts.by_chief(strategy, lambda: (stack.enter_context(lock.held(folder)), _claim(run, data)))
        _log_plan(run, data, strategy)
        _train_stages(run, data, strategy)
    logging.info("finished; model in %s", run.model_dir)


def _train_stages(run: Run, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> None:
    tf.keras.mixed_precision.set_global_policy(run.precision)
    for stage in run.stages:
        if runs.is_done(runs.stage_dir(run, stage)):
            logging.info("stage %s is finished already", stage.name)
            continue
        preemption.check()
        _train_stage(run, stage, data, strategy)
        if data.lost:
            logging.warning("stage %s was trained without %d damaged records, see %s", stage.name, len(data.lost),
                            os.path.join(run.model_dir, bad_records.FILE))


def _same(run: Run, data: datasets.Dataset) -> dict[str, Any]:
    """What must not differ between two starts in a model directory."""
    held_out = runs.held_out_part(run, data)
    contents = {split: data.identity(split) for split in {run.train_split, held_out.split if held_out else run.train_split}}
    boxes = run.boxes and {"name": run.boxes, "digest": data.boxes(run.boxes).digest}
    return {**run.identity(), **optimizers.own_lamb(run.stages), "boxes": boxes, "dataset": contents}


def _claim(run: Run, data: datasets.Dataset) -> None:
    """Makes the model directory this run's, or finds that it is another's."""
    has_seen = seen.of_run(run, data)
    run_record.claim(run.model_dir, _same(run, data), {
        "data_dir": run.data_dir,
        "class_ids": data.class_ids,
        "classes": data.classes_digest(),
        "scaling": run_checks.input_scaling(run),
        "tta": run.tta,
        "oof_tta": run.oof_tta,
        "folds": data.manifest.folds,
        "bad_records": len(data.lost),
        "stage_dirs": [runs.stage_name(run, stage) for stage in run.stages],
    }, seen=has_seen.summary)
    seen.write(run.model_dir, has_seen)
