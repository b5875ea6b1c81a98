"""Training: the stages of a run in order, each from the best of the one before."""

import os
import time
import zlib

from absl import logging
import tensorflow as tf

from pipeline import (callbacks, checkpoint, dataset as datasets, files, input as inputs, losses, optimizers, patience,
                      run_checks, run_record, runs, schedules, strategy as strategies)
from pipeline.models import classifier as classifiers
from pipeline.runs import Plan, Run
from pipeline.stages import Stage
from pipeline.step import TrainableClassifier


def _log_plan(run: Run, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> None:
    strategies.log(strategy, [stage.batch_size for stage in run.stages])
    held_out = runs.held_out_part(run, data)
    logging.info("%s: %d examples of %d classes to train on (%s), %s", data.directory, runs.training_part(run, data).size,
                 len(data.manifest.classes), run.train_split if run.fold is None else f"without fold {run.fold}",
                 f"{held_out.size} to validate" if held_out else "none held out")
    for stage in run.stages:
        plan = runs.plan_stage(run, stage, data)
        logging.info("stage %s: train=%s, %d px, %d epoch(s) of %d steps of %d, %s peak rate %.3g, warm-up %d of %d "
                     "steps, augment %s%s", stage.name, stage.train, stage.size, plan.epochs, plan.steps_per_epoch,
                     stage.batch_size, stage.optimizer, stage.peak_lr, plan.warmup_steps, plan.total_steps,
                     stage.augment, stage.randaugment and f", randaugment {stage.randaugment}")


def _build(run: Run, stage: Stage, num_classes: int, initial_weights: str) -> classifiers.Classifier:
    built = classifiers.build(run.model, stage.size, num_classes, weights=initial_weights,
                              base_training=classifiers.needs_base_training(stage.train),
                              place_input=run.place_input, seed=run.random_seed, scaling=run_checks.input_scaling(run))
    classifiers.set_trainable(built, stage.train)
    return built


def _load_earlier_run(run: Run, built: classifiers.Classifier, data: datasets.Dataset) -> None:
    """--init_from: all weights where the classes are the same, else the base alone."""
    folds = runs.finished_folds(run.init_from)
    # The same fold's where there is one: any other has seen what this one holds out.
    path = checkpoint.find(runs.last_stage_dir(run.init_from, run.fold if run.fold in folds else folds[0]))
    record = run_record.read(run.init_from)
    same_classes = record["free"]["class_ids"] == data.class_ids
    logging.info("starting from %s (%s)", path, "all weights" if same_classes else "the base: its classes are others")
    checkpoint.load_at_size(path, built, run.model, run_record.last_stage(record)["size"], run.random_seed,
                            with_head=same_classes)


def _train_stage(run: Run, stage: Stage, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> None:
    folder = runs.stage_dir(run, stage)
    plan = runs.plan_stage(run, stage, data)
    files.make_dirs(folder)
    started = time.monotonic()
    first = run.stages[0] == stage
    tf.keras.backend.clear_session()
    # Every stage seeds anew, so that a stage begins alike whether or not the earlier ones ran in this process.
    tf.keras.utils.set_random_seed(run.random_seed)
    with strategy.scope():
        initial_weights = run.weights if first and not run.init_from else "none"
        built = _build(run, stage, len(data.manifest.classes), initial_weights)
        model = TrainableClassifier(
            built.model, losses.softmax_cross_entropy(stage.label_smoothing), stage.batch_size)
        rate = schedules.make_rate(stage.lr_schedule, stage.peak_lr, plan.warmup_steps, plan.total_steps)
        optimizer = optimizers.build(
            stage.optimizer, rate, momentum=stage.momentum, weight_decay=stage.weight_decay,
            clip_norm=stage.clip_norm, variables=built.model.trainable_variables)
        if run.precision == "mixed_float16":
            optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
        model.compile(optimizer=optimizer, jit_compile=run.jit, steps_per_execution=run.steps_per_execution,
                      weighted_metrics=[])  # the model has its own; said so that Keras does not ask for some
        waiting = patience.make(stage)
        checkpoints = checkpoint.StageCheckpoints(folder, built, optimizer, stage.monitor, plan.validation_steps > 0,
                                                  {name: callback.state for name, callback in waiting.items()})
        # Where the weights come from, in this order: this stage's own last epoch; the stage before; an earlier run;
        # --weights, which the build above has already loaded; else they are random.
        if checkpoints.restore():
            pass
        elif not first:
            before = run.stages[run.stages.index(stage) - 1]
            path = checkpoint.find(runs.stage_dir(run, before))
            checkpoint.load_at_size(path, built, run.model, before.size, run.random_seed)
        elif run.init_from:
            _load_earlier_run(run, built, data)
    history_path = os.path.join(folder, "history.csv")
    callbacks.forget_epochs_after(history_path, checkpoints.epochs_done)
    _fit(run, stage, plan, data, model, [
        callbacks.LogLearningRate(rate),
        callbacks.StopOnNan(stage.name),
        callbacks.Progress(f"stage {stage.name}", plan.steps_per_epoch, plan.epochs, stage.batch_size),
        tf.keras.callbacks.CSVLogger(history_path, append=True),
        tf.keras.callbacks.TensorBoard(os.path.join(folder, "tensorboard"), write_graph=False),
        *waiting.values(),
        checkpoints,
    ], plan.epochs if patience.is_over(waiting) else checkpoints.epochs_done)
    runs.mark_done(folder, {"epochs": checkpoints.epochs_done, "best_epoch": checkpoints.best_epoch, "steps_per_epoch": plan.steps_per_epoch,
                                  "monitor": stage.monitor, "best": checkpoints.best_value,
                                  "seconds": round(time.monotonic() - started, 1)})


def _stage_seed(run: Run, stage: Stage) -> int:
    """Every stage sees the pictures in an order, and in crops, of its own."""
    return zlib.crc32(f"{run.random_seed}/{stage.name}".encode())


def _fit(run: Run, stage: Stage, plan: Plan, data: datasets.Dataset, model: TrainableClassifier,
         stage_callbacks: list, epochs_done: int) -> None:
    pictures = inputs.TrainPictures(stage.size, stage.augment, stage.randaugment, stage.eval_resize)
    batches = inputs.train_batches(runs.training_part(run, data), pictures, stage.batch_size, _stage_seed(run, stage),
                                   start_step=epochs_done * plan.steps_per_epoch, ordered=not run.unordered)
    held_out = None
    if plan.validation_steps:
        held_out = inputs.validation_batches(runs.held_out_part(run, data), stage.size, stage.eval_resize, stage.batch_size)
        held_out = held_out.take(plan.validation_steps)
    try:
        model.fit(batches, epochs=plan.epochs, initial_epoch=epochs_done, steps_per_epoch=plan.steps_per_epoch,
                  validation_data=held_out, validation_steps=plan.validation_steps or None,
                  callbacks=stage_callbacks, verbose=0)
    except tf.errors.DataLossError:
        raise _damaged_part(run, data).name_damaged() from None


def _damaged_part(run: Run, data: datasets.Dataset) -> datasets.Part:
    """All that the run reads."""
    held_out = runs.held_out_part(run, data)
    part = runs.training_part(run, data)
    return datasets.Part(data, part.split, part.shards + (held_out.shards if held_out else ()))


def run_training(run: Run) -> None:
    """Trains every stage that is not finished yet; raises UserError for what the user can mend."""
    data = datasets.load(run.data_dir)
    run_checks.check(run, data)
    strategy = strategies.make(run.tpu, [stage.batch_size for stage in run.stages])
    if not run.dry_run:
        _claim(run, data)
    _log_plan(run, data, strategy)
    if run.dry_run:
        return
    tf.keras.mixed_precision.set_global_policy(run.precision)
    for stage in run.stages:
        if runs.is_done(runs.stage_dir(run, stage)):
            logging.info("stage %s is finished already", stage.name)
            continue
        _train_stage(run, stage, data, strategy)
    logging.info("finished; model in %s", run.model_dir)


def _claim(run: Run, data: datasets.Dataset) -> None:
    """Makes the model directory this run's, or finds that it is another's."""
    held_out = runs.held_out_part(run, data)
    contents = {split: data.identity(split) for split in {run.train_split, held_out.split if held_out else run.train_split}}
    boxes = run.boxes and {"name": run.boxes, "digest": data.boxes(run.boxes).digest}
    run_record.claim(run.model_dir, {**run.identity(), "boxes": boxes, "dataset": contents}, {
        "data_dir": run.data_dir,
        "class_ids": data.class_ids,
        "classes": data.classes_digest(),
        "scaling": run_checks.input_scaling(run),
        "tta": run.tta,
        "folds": data.manifest.folds,
        "stage_dirs": [runs.stage_name(run, stage) for stage in run.stages],
    })
