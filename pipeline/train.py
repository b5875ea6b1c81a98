"""A run of multi_stage_train.py: its stages in order, each from the best of the one before."""

import dataclasses
import os
import time
from typing import Any, Optional

from absl import logging
import tensorflow as tf

from pipeline import (callbacks, checkpoint, dataset as datasets, files, input as inputs, losses, optimizers,
                      patience, run_record, schedules, strategy as strategies)
from pipeline.errors import UserError
from pipeline.models import classifier as classifiers, weights, zoo
from pipeline.ops import decode, randaugment, tta
from pipeline.stages import Stage
from pipeline.step import TrainableClassifier


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a training run is made of."""

    data_dir: str
    model_dir: str
    model: str
    stages: tuple[Stage, ...]
    weights: str = "none"
    init_from: Optional[str] = None
    train_split: str = "train"
    fold: Optional[int] = None      # the one held out; the others are trained on
    num_classes: Optional[int] = None
    place_input: bool = False
    precision: str = "float32"
    random_seed: int = 42
    unordered: bool = False
    max_steps: int = 0
    # Where and how fast; a second start may change these.
    tta: str = "none"
    tpu: str = "none"
    jit: bool = False
    steps_per_execution: int = 1
    dry_run: bool = False

    def identity(self) -> dict[str, Any]:
        """What must not change between two starts in one model directory."""
        fields = dataclasses.asdict(self)
        for name in ("data_dir", "model_dir", "fold", "num_classes", "tta", "tpu", "jit", "steps_per_execution", "dry_run"):
            del fields[name]
        fields["by_folds"] = self.fold is not None
        fields["stages"] = {stage.name: dataclasses.asdict(stage) for stage in self.stages}
        fields["stage_order"] = [stage.name for stage in self.stages]
        return fields


@dataclasses.dataclass(frozen=True)
class Plan:
    """A stage's length, worked out from the data."""

    steps_per_epoch: int
    epochs: int
    total_steps: int          # of the whole schedule, also when max_steps cuts the stage short
    warmup_steps: int
    validation_steps: int     # 0: nothing is held out


def fold_dir(model_dir: str, fold: Optional[int]) -> str:
    """Where the stages of a fold go: the model directory itself where no fold is held out."""
    return model_dir if fold is None else os.path.join(model_dir, f"fold_{fold}")


def stage_dir(run: Run, stage: Stage) -> str:
    return os.path.join(fold_dir(run.model_dir, run.fold), _stage_name(run, stage))


def _stage_name(run: Run, stage: Stage) -> str:
    return f"stage_{run.stages.index(stage) + 1}_{stage.name}"


def training_part(run: Run, data: datasets.Dataset) -> datasets.Part:
    """What the run learns from."""
    if run.fold is None:
        return data.part(run.train_split)
    return data.without_fold(run.train_split, run.fold)


def held_out_part(run: Run, data: datasets.Dataset) -> Optional[datasets.Part]:
    """What the run is validated on: its fold; else val, unless there is none or it is trained on."""
    if run.fold is not None:
        return data.held_out(run.train_split, run.fold)
    if "val" in data.manifest.splits and "val" not in run.train_split.split("+"):
        return data.part("val")
    return None


def plan_stage(run: Run, stage: Stage, data: datasets.Dataset) -> Plan:
    steps_per_epoch = max(training_part(run, data).size // stage.batch_size, 1)
    total_steps = schedules.epochs_to_steps(stage.epochs, steps_per_epoch)
    warmup_steps = schedules.epochs_to_steps(stage.warmup_epochs, steps_per_epoch)
    held_out = held_out_part(run, data)
    validation_steps = -(-held_out.size // stage.batch_size) if held_out else 0
    epochs = stage.epochs
    if run.max_steps:
        epochs = min(epochs, max(run.max_steps // steps_per_epoch, 1))
        steps_per_epoch = min(steps_per_epoch, run.max_steps)
        validation_steps = min(validation_steps, run.max_steps)
    return Plan(steps_per_epoch, epochs, total_steps, warmup_steps, validation_steps)


def _check(run: Run, data: datasets.Dataset) -> None:
    """Finds what the stages would only stumble over hours later."""
    classes = len(data.manifest.classes)
    if run.num_classes is not None and run.num_classes != classes:
        told = f"--num_classes={run.num_classes}, but {data.directory} has {classes} classes"
        if not run.max_steps:  # a recipe may be tried out on a part of its competition
            raise UserError(told)
        logging.warning("%s; going on with those, as --max_steps is only a trial", told)
    zoo.find(run.model)
    input_scaling(run)
    if data.manifest.multi_label:
        raise UserError(f"{data.directory} has several labels a picture, which --loss=softmax can't learn")
    tta.parse(run.tta)
    training_part(run, data).check()
    held_out = held_out_part(run, data)
    if held_out:
        held_out.check()
    for stage in run.stages:
        patience.check(stage, has_validation=held_out is not None)
        decode.parse_eval_resize(stage.eval_resize, stage.size)
        if stage.randaugment:
            randaugment.parse(stage.randaugment)
            if stage.augment == "eval":
                raise UserError(f"stage {stage.name}: randaugment={stage.randaugment} does not go with augment=eval "
                                "(write randaugment= in the stage to turn it off)")


def _log_plan(run: Run, data: datasets.Dataset) -> None:
    held_out = held_out_part(run, data)
    logging.info("%s: %d examples of %d classes to train on (%s), %s", data.directory, training_part(run, data).size,
                 len(data.manifest.classes), run.train_split if run.fold is None else f"without fold {run.fold}",
                 f"{held_out.size} to validate" if held_out else "none held out")
    for stage in run.stages:
        plan = plan_stage(run, stage, data)
        logging.info("stage %s: train=%s, %d px, %d epoch(s) of %d steps of %d, %s peak rate %.3g, warm-up %d of %d "
                     "steps, augment %s%s", stage.name, stage.train, stage.size, plan.epochs, plan.steps_per_epoch,
                     stage.batch_size, stage.optimizer, stage.peak_lr, plan.warmup_steps, plan.total_steps,
                     stage.augment, stage.randaugment and f", randaugment {stage.randaugment}")


def input_scaling(run: Run) -> str:
    """The mode of models.scaling that belongs to the run's first weights; every later stage must keep it."""
    if run.init_from:
        return run_record.read(run.init_from)["free"]["scaling"]
    return weights.resolve(run.model, zoo.find(run.model), run.weights).scaling


def _build(run: Run, stage: Stage, num_classes: int, initial_weights: str) -> classifiers.Classifier:
    built = classifiers.build(run.model, stage.size, num_classes, weights=initial_weights,
                              base_training=classifiers.needs_base_training(stage.train),
                              place_input=run.place_input, seed=run.random_seed, scaling=input_scaling(run))
    classifiers.set_trainable(built, stage.train)
    return built


def _load_earlier_run(run: Run, built: classifiers.Classifier, data: datasets.Dataset) -> None:
    """--init_from: all weights where the classes are the same, else the base alone."""
    folds = finished_folds(run.init_from)
    # The same fold's where there is one: any other has seen what this one holds out.
    path = checkpoint.find(last_stage_dir(run.init_from, run.fold if run.fold in folds else folds[0]))
    record = run_record.read(run.init_from)
    same_classes = record["free"]["class_ids"] == data.class_ids
    logging.info("starting from %s (%s)", path, "all weights" if same_classes else "the base: its classes are others")
    checkpoint.load_at_size(path, built, run.model, run_record.last_stage(record)["size"], run.random_seed,
                            with_head=same_classes)


def last_stage_dir(model_dir: str, fold: Optional[int]) -> str:
    """The folder of a run's last stage; raises UserError where that one has not finished."""
    last = os.path.join(fold_dir(model_dir, fold), run_record.read(model_dir)["free"]["stage_dirs"][-1])
    if not checkpoint.is_done(last):
        raise UserError(f"{last} has not finished: run multi_stage_train.py with the same flags to go on")
    return last


def finished_folds(model_dir: str) -> list[Optional[int]]:
    """The folds whose last stage has finished, in order; [None] for a finished run without folds.

    Raises UserError where nothing has finished.
    """
    free = run_record.read(model_dir)["free"]
    candidates: list[Optional[int]] = [None, *range(free["folds"])]
    finished = [fold for fold in candidates
                if checkpoint.is_done(os.path.join(fold_dir(model_dir, fold), free["stage_dirs"][-1]))]
    if not finished:
        raise UserError(f"{model_dir} has not finished its last stage ({free['stage_dirs'][-1]}): run "
                        "multi_stage_train.py with the same flags to go on")
    return finished


def _train_stage(run: Run, stage: Stage, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> None:
    folder = stage_dir(run, stage)
    plan = plan_stage(run, stage, data)
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
            path = checkpoint.find(stage_dir(run, before))
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
    checkpoint.mark_done(folder, {"epochs": checkpoints.epochs_done, "steps_per_epoch": plan.steps_per_epoch,
                                  "monitor": stage.monitor, "best": checkpoints.best_value,
                                  "seconds": round(time.monotonic() - started, 1)})


def _fit(run: Run, stage: Stage, plan: Plan, data: datasets.Dataset, model: TrainableClassifier,
         stage_callbacks: list, epochs_done: int) -> None:
    pictures = inputs.TrainPictures(stage.size, stage.augment, stage.randaugment, stage.eval_resize)
    batches = inputs.train_batches(training_part(run, data), pictures, stage.batch_size, run.random_seed,
                                   start_step=epochs_done * plan.steps_per_epoch, ordered=not run.unordered)
    held_out = None
    if plan.validation_steps:
        held_out = inputs.validation_batches(held_out_part(run, data), stage.size, stage.eval_resize, stage.batch_size)
        held_out = held_out.take(plan.validation_steps)
    try:
        model.fit(batches, epochs=plan.epochs, initial_epoch=epochs_done, steps_per_epoch=plan.steps_per_epoch,
                  validation_data=held_out, validation_steps=plan.validation_steps or None,
                  callbacks=stage_callbacks, verbose=0)
    except tf.errors.DataLossError as error:
        raise UserError(f"a shard under {data.directory} is damaged: {str(error).splitlines()[0]}; write it again "
                        "with create_tfrecords.py") from None


def run_training(run: Run) -> None:
    """Trains every stage that is not finished yet; raises UserError for what the user can mend."""
    data = datasets.load(run.data_dir)
    _check(run, data)
    _log_plan(run, data)
    if run.dry_run:
        return
    run_record.claim(run.model_dir, {**run.identity(), "dataset": data.identity()}, {
        "data_dir": run.data_dir,
        "class_ids": data.class_ids,
        "scaling": input_scaling(run),
        "tta": run.tta,
        "folds": data.manifest.folds,
        "stage_dirs": [_stage_name(run, stage) for stage in run.stages],
    })
    tf.keras.mixed_precision.set_global_policy(run.precision)
    strategy = strategies.make(run.tpu, [stage.batch_size for stage in run.stages])
    for stage in run.stages:
        if checkpoint.is_done(stage_dir(run, stage)):
            logging.info("stage %s is finished already", stage.name)
            continue
        _train_stage(run, stage, data, strategy)
    logging.info("finished; model in %s", run.model_dir)
