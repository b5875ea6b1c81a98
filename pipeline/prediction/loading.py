"""The networks of finished runs, and the pictures as they read them."""

from typing import Any, Optional

import tensorflow as tf

from pipeline.errors import UserError
from pipeline.models import classifier as classifiers
from pipeline.prediction import weight_mean
from pipeline.records import dataset as datasets, input as inputs
from pipeline.runs import checkpoint, record as run_record, run as runs


def cropped(part: datasets.Part, record: dict[str, Any]) -> datasets.Part:
    """The part as the run reads its pictures: whole, or within boxes made as those that it was trained on."""
    boxes = record["same"].get("boxes")
    if not boxes:
        return part
    made = part.data.boxes(boxes["name"])
    if made.digest != boxes["digest"]:
        raise UserError(f"boxes {boxes['name']} of {part.data.directory} are not made as those that the model was trained "
                        "on: run localize.py with that model and its old flags")
    return part.within(boxes["name"])


def load(paths: list[str], fold: Optional[int], size: int, data: datasets.Dataset, batch_size: int,
         record: dict[str, Any], strategy: tf.distribute.Strategy) -> classifiers.Classifier:
    """The classifier of a checkpoint, or with the mean of several checkpoints' weights; `record` is its run.json.

    Args: batch_size: of the train pictures that give the mean its BatchNorm statistics.

    Keras' global policy becomes the run's.
    """
    same, stage = record["same"], run_record.last_stage(record)
    tf.keras.backend.clear_session()
    tf.keras.mixed_precision.set_global_policy(same["precision"])
    with strategy.scope():
        if len(paths) == 1:
            return load_classifier(record, paths[0], size)
        built = _build(record, size, base_training=classifiers.needs_base_training(stage["train"]))
        classifiers.set_trainable(built, stage["train"], stage.get("freeze_place", False))
        weight_mean.load(paths, built, same["model"], stage["size"])
    # Before there was a choice, each place was dropped half of the time.
    pictures = inputs.TrainPictures(size, "eval", "", stage["eval_resize"], antialias=stage.get("antialias", True),
                                    place_drop=stage.get("place_drop", 0.5))
    part = cropped(trained_part(data, same, fold, "--average=weights"), record)
    weight_mean.estimate_batch_norm(built, part, pictures, batch_size, strategy)
    return built


def trained_part(data: datasets.Dataset, same: dict[str, Any], fold: Optional[int], flag: str) -> datasets.Part:
    """What the model of a fold was trained on; `same` is of its run.json. Raises UserError, which begins with `flag`, for
    what is not there."""
    train_split = same["train_split"]
    missing = [split for split in train_split.split("+") if split not in data.manifest.splits]
    if missing:
        raise UserError(f"{flag} takes the pictures of {train_split}, but {data.directory} has no {missing[0]}")
    part = runs.learnt_from(data, train_split, fold, same.get("hold_out_classes", 0.0))
    part.check()
    return part


def load_classifier(record: dict[str, Any], path: str, size: int) -> classifiers.Classifier:
    """The classifier of a run's checkpoint for pictures of `size` px, in inference mode; `record` is its run.json."""
    built = _build(record, size, base_training=False)
    checkpoint.load_at_size(path, built, record["same"]["model"], run_record.last_stage(record)["size"])
    return built


def _build(record: dict[str, Any], size: int, base_training: bool) -> classifiers.Classifier:
    same, free = record["same"], record["free"]
    return classifiers.build(same["model"], size, len(free["class_ids"]), weights="none", base_training=base_training,
                             place_input=same["place_input"], dropout=same["dropout"],
                             channel_dropout=same.get("channel_dropout", 0.0), seed=0, scaling=free["scaling"],
                             top=run_record.top(record))
