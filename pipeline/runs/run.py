"""A run of multi_stage_train.py as plain data: what it is made of, where its parts lie, how long its stages are."""

import dataclasses
import math
import os
import statistics
from typing import Any, Optional, Sequence

import numpy as np

from pipeline import files
from pipeline.errors import UserError
from pipeline.models.top import MEAN, ArcFace, Top
from pipeline.records import dataset as datasets, some_classes
from pipeline.runs import record as run_record, strangers
from pipeline.runs.stages import COSINE_WHOLE, Stage, parse_epochs
from pipeline.tasks.task import ARCFACE, Task

DONE_FILE = "DONE"  # in a stage's folder: it has finished, and how
# How dropout is drawn, and in which order pictures are read: a run that was begun otherwise can't go on.
MASKS, ORDER = "by (seed, step)", "by windows"


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
    hold_out_classes: float = 0.0   # share of the classes that each fold leaves out whole, see strangers
    num_classes: Optional[int] = None
    place_input: bool = False
    input_scaling: Optional[str] = None  # a mode of models.scaling; None: that of the first weights
    dropout: float = 0.0            # before the head
    channel_dropout: float = 0.0    # of the last feature map
    head_init: str = "glorot"       # or kaiming
    pool: str = MEAN                # or gem
    embedding_dim: int = ArcFace.embedding_dim  # with this and the next two: loss=arcface
    arcface_scale: float = ArcFace.scale
    arcface_subcentres: int = ArcFace.subcentres
    pixel_mean: Optional[str] = None  # 115.75:120.83:93.49 of red, green, blue; None: the weights' own
    pixel_std: Optional[str] = None
    boxes: Optional[str] = None     # name of the boxes that pictures are cropped to
    precision: str = "float32"
    sync_batch_norm: bool = False
    random_seed: int = 42
    unordered: bool = False
    max_steps: int = 0
    # Where and how fast; a second start may change these.
    tta: str = "none"
    oof_tta: Optional[str] = None   # of a fold's predictions of what it held out; None: tta
    allow_seen: bool = False        # init_from may have seen what is held out
    tpu: str = "none"
    virtual_replicas: int = 0
    jit: bool = False
    steps_per_execution: int = 1
    cache: str = "none"             # of encoded pictures: none or memory
    ram_budget: float = 0.0         # GiB of the input pipeline; 0: what tf.data and the cache think fit
    save_minutes: float = 10.0      # between checkpoints within a snapshot; 0: none there
    on_nan: str = "stop"            # or rollback
    deterministic: bool = False
    dry_run: bool = False
    skip_bad_records: int = 0       # damaged records that may be passed over

    @property
    def top(self) -> Top:
        """What stands on the base, in all stages."""
        with_cosines = any(stage.loss == ARCFACE for stage in self.stages)
        arcface = ArcFace(self.embedding_dim, self.arcface_scale, self.arcface_subcentres) if with_cosines else None
        return Top(self.pool, arcface)

    def identity(self) -> dict[str, Any]:
        """What must not change between two starts in one model directory."""
        fields = dataclasses.asdict(self)
        for name in ("data_dir", "model_dir", "fold", "num_classes", "tta", "oof_tta", "allow_seen", "tpu",
                     "virtual_replicas", "jit", "steps_per_execution", "cache", "ram_budget", "save_minutes", "on_nan",
                     "skip_bad_records", "deterministic", "dry_run"):
            del fields[name]
        # What is not used is not told, as it was before it could be used.
        if self.pool == MEAN:
            del fields["pool"]
        if not self.top.arcface:
            for name in ("embedding_dim", "arcface_scale", "arcface_subcentres"):
                del fields[name]
        if not self.hold_out_classes:  # as in runs from before there was such a flag
            del fields["hold_out_classes"]
        fields |= {"masks": MASKS, "order": ORDER}
        fields["by_folds"] = self.fold is not None
        if any(stage.is_probe for stage in self.stages):
            fields["probe_tta"] = self.tta  # its features are a mean over the views
        fields["stages"] = {stage.name: dataclasses.asdict(stage) for stage in self.stages}
        for stage in fields["stages"].values():
            del stage["keep_epochs"]  # what is kept changes nothing of what is trained
            if stage["loss"] != ARCFACE:
                del stage["arcface_margin"]
            if not stage["min_steps"]:
                del stage["min_steps"]
            stage["lower_lrs"] = list(stage["lower_lrs"])  # as JSON gives it back
        fields["stage_order"] = [stage.name for stage in self.stages]
        return fields


def for_task(run: Run, task: Task) -> Run:
    """The run with the task's own loss and monitor in the stages that name none."""
    stages = (dataclasses.replace(stage, loss=stage.loss or task.losses[0], monitor=stage.monitor or task.monitors[0])
              for stage in run.stages)
    return dataclasses.replace(run, stages=tuple(stages))


@dataclasses.dataclass(frozen=True)
class Plan:
    """A stage's length, worked out from the data.

    A snapshot is a validation and a checkpoint, one every `validate_every` epochs and one at the end. (To Keras it is
    an epoch.)
    """

    epochs: float
    validate_every: float     # epochs
    steps_per_epoch: float    # as many as its snapshots have, each a whole number
    steps_per_snapshot: int
    steps: int                # of the stage
    total_steps: int          # of the whole schedule, also when max_steps cuts the stage short
    warmup_steps: int
    validation_steps: int     # 0: nothing is held out

    @property
    def snapshots(self) -> int:
        return -(-self.steps // self.steps_per_snapshot)

    def steps_after(self, snapshots: int) -> int:
        """Steps that are done with so many snapshots."""
        return min(snapshots * self.steps_per_snapshot, self.steps)

    def epochs_after(self, snapshots: int) -> float:
        """Epochs that are done with so many snapshots."""
        return min(snapshots * self.validate_every, self.epochs)

    def has_snapshot_after(self, epochs: float) -> bool:
        """Whether one is taken just then, unless the stage is stopped before."""
        whole = math.isclose(round(epochs / self.validate_every) * self.validate_every, epochs)
        return math.isclose(epochs, self.epochs) or (epochs < self.epochs and whole)


def fold_dir(model_dir: str, fold: Optional[int]) -> str:
    """Where the stages of a fold go: the model directory itself where no fold is held out."""
    return model_dir if fold is None else os.path.join(model_dir, f"fold_{fold}")


def stage_dir(run: Run, stage: Stage) -> str:
    return os.path.join(fold_dir(run.model_dir, run.fold), stage_name(run, stage))


def stage_name(run: Run, stage: Stage) -> str:
    return f"stage_{run.stages.index(stage) + 1}_{stage.name}"


def strangers_of(run: Run, data: datasets.Dataset) -> dict[int, tuple[int, ...]]:
    """Fold → the class indices that it leaves out; empty where none does."""
    return {} if run.fold is None else strangers.by_fold(data.manifest, run.hold_out_classes)


def training_part(run: Run, data: datasets.Dataset) -> datasets.Part:
    """What the run learns from."""
    return learnt_from(data, run.train_split, run.fold, run.hold_out_classes).within(run.boxes)


def learnt_from(data: datasets.Dataset, split: str, fold: Optional[int], hold_out_classes: float) -> datasets.Part:
    """`training_part` by what of a run decides on it; `fold`: the one held out, None: none."""
    if fold is None:
        return data.part(split)
    left_out = strangers.by_fold(data.manifest, hold_out_classes).get(fold, ())
    return some_classes.without(data.without_fold(split, fold), left_out)


def strangers_part(run: Run, data: datasets.Dataset) -> Optional[datasets.Part]:
    """What the run's fold is asked about beside what it holds out: the pictures that other folds hold out, of classes that
    it is the first to leave out (but not where their own fold leaves the class out too). None: it leaves none out."""
    folds = strangers_of(run, data)
    first = strangers.first_folds(folds)
    if run.fold not in first.values():
        return None
    part = data.part(run.train_split).within(run.boxes)
    table = some_classes.labels(part)
    asked = [first.get(label) == run.fold != fold and label not in folds.get(fold, ())
             for label, fold in zip(table["label"], table["fold"])]
    found = some_classes.without_rows(part, table["row"][~np.array(asked, bool)])
    return found if found.size else None


def validation_part(run: Run, data: datasets.Dataset) -> Optional[datasets.Part]:
    """What tells a run when it is at its best: `held_out_part` without strangers, whose labels it can't know."""
    held_out = held_out_part(run, data)
    own = strangers_of(run, data).get(run.fold, ())
    return some_classes.without(held_out, own) if held_out and own else held_out


def held_out_part(run: Run, data: datasets.Dataset) -> Optional[datasets.Part]:
    """What the run does not learn from and predicts: its fold; else val, unless there is none or it is trained on."""
    if run.fold is not None:
        return data.held_out(run.train_split, run.fold).within(run.boxes)
    if "val" in data.manifest.splits and "val" not in run.train_split.split("+"):
        return data.part("val").within(run.boxes)
    return None


def epochs_to_steps(epochs: float, steps_per_epoch: float, down: bool = False) -> int:
    """The one place where a duration in epochs becomes steps (rounded to the nearest, or down)."""
    steps = epochs * steps_per_epoch
    return int(steps) if down else int(round(steps))


def plan_stage(run: Run, stage: Stage, data: datasets.Dataset) -> Plan:
    full_batches = max(training_part(run, data).size // stage.batch_size, 1)
    validate_every = max(stage.validate_every, 1 / full_batches)
    steps_per_snapshot = epochs_to_steps(validate_every, full_batches)
    # An epoch is as long as its snapshots (half of 5 steps is 2, and two of them 4): so no snapshot at its end is a stump.
    steps_per_epoch = steps_per_snapshot / validate_every
    epochs = stage.epochs
    if epochs_to_steps(epochs, steps_per_epoch) < stage.min_steps:
        epochs = float(math.ceil(stage.min_steps / steps_per_epoch))
    steps = total_steps = max(epochs_to_steps(epochs, steps_per_epoch), 1)
    held_out = validation_part(run, data)
    validation_steps = -(-held_out.size // stage.batch_size) if held_out else 0
    if run.max_steps:
        steps = min(steps, run.max_steps)
        steps_per_snapshot = min(steps_per_snapshot, run.max_steps)
        validation_steps = min(validation_steps, run.max_steps)
    # cosine:whole is as iNat 2021's sixth place had it, which cut the fraction of a step off.
    warmup_steps = epochs_to_steps(stage.warmup_epochs, steps_per_epoch, down=stage.lr_schedule == COSINE_WHOLE)
    return Plan(epochs, validate_every, steps_per_epoch, steps_per_snapshot, steps, total_steps, warmup_steps,
                validation_steps)


def kept_epochs(run: Run, stage: Stage) -> tuple[float, ...]:
    """The epochs whose checkpoints a stage keeps: predict.py reads the last stage's alone."""
    return parse_epochs("keep_epochs", stage.keep_epochs) if stage == run.stages[-1] else ()


def probe_before_last(run: Run) -> Optional[Stage]:
    """The first stage that is a probe, where others follow: a baseline for what they make of it."""
    return next((stage for stage in run.stages[:-1] if stage.is_probe), None)


def last_stage_dir(model_dir: str, fold: Optional[int], record: Optional[dict[str, Any]] = None) -> str:
    """The folder of a run's last stage; raises UserError where that one has not finished.

    Args: record: its run.json, or that up to a stage; None: it is read.
    """
    last = os.path.join(fold_dir(model_dir, fold), _last_folder(model_dir, record))
    if not is_done(last):
        raise UserError(f"{last} has not finished: run multi_stage_train.py with the same flags to go on")
    return last


def _last_folder(model_dir: str, record: Optional[dict[str, Any]] = None) -> str:
    """The name of the last stage's folder. Raises UserError."""
    folders = (record or run_record.read(model_dir))["free"].get("stage_dirs")
    if not folders:
        raise UserError(f"{os.path.join(model_dir, run_record.RUN_FILE)} names no stage")
    return folders[-1]


def finished_folds(model_dir: str) -> list[Optional[int]]:
    """The folds whose last stage has finished, in order; [None] for a finished run without folds.

    Raises UserError where nothing has finished.
    """
    folder = _last_folder(model_dir)
    candidates: list[Optional[int]] = [None, *range(run_record.read(model_dir)["free"].get("folds", 0))]
    finished = [fold for fold in candidates if is_done(os.path.join(fold_dir(model_dir, fold), folder))]
    if not finished:
        raise UserError(f"{model_dir} has not finished its last stage ({folder}): run "
                        "multi_stage_train.py with the same flags to go on")
    return finished


def with_epochs_of(model_dir: str, stages: Sequence[Stage]) -> list[Stage]:
    """The stages with as many epochs as an earlier run found best: the median over its finished folds.

    Where it kept the last epoch (--keep=last) that is all of them.

    For the last run on everything that has labels, which has nothing left to stop it early. Raises UserError for a
    stage that the earlier run has not.
    """
    names = run_record.read(model_dir)["same"]["stage_order"]
    folders = run_record.read(model_dir)["free"]["stage_dirs"]
    folds = finished_folds(model_dir)
    found = []
    for stage in stages:
        if stage.name not in names:
            raise UserError(f"--epochs_from: {model_dir} has no stage {stage.name}; it has: {', '.join(names)}")
        folder = folders[names.index(stage.name)]
        done = [files.read_json(os.path.join(fold_dir(model_dir, fold), folder, DONE_FILE)) for fold in folds]
        kept = [one["epochs" if one.get("keep") == "last" else "best_epoch"] for one in done]
        found.append(dataclasses.replace(stage, epochs=statistics.median_high(kept), min_steps=0))
    return found


def mark_done(folder: str, result: dict[str, Any]) -> None:
    """Says that the stage of this folder has finished; `result` is for whoever looks into it."""
    files.write_json(os.path.join(folder, DONE_FILE), result)


def is_done(folder: str) -> bool:
    """Whether the stage of this folder has finished."""
    return files.exists(os.path.join(folder, DONE_FILE))
