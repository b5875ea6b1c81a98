"""How many pictures a second this machine's input pipeline makes for a step: measured on the data."""

import time

import tensorflow as tf

from pipeline.ops import mixing
from pipeline.preflight.steps import TRAIN, Step
from pipeline.records import input as inputs, training_picture
from pipeline.records.dataset import Part

SECONDS = 10.0


def measure(step: Step, part: Part, batch_size: int) -> float:
    """Pictures a second, of batches of `batch_size` as the step takes them, over SECONDS after the first batch."""
    return _rate(_batches(step, part, batch_size), batch_size)


def _batches(step: Step, part: Part, batch_size: int) -> tf.data.Dataset:
    stage = step.stage
    if step.kind != TRAIN:
        return inputs.predict_batches(part, stage.size, step.views, stage.eval_resize, batch_size,
                                      antialias=stage.antialias).repeat()
    pictures = training_picture.pictures_of(stage)
    return inputs.train_batches(part, pictures, batch_size, seed=0, class_balance=stage.class_balance,
                                mix=mixing.Alphas(stage.mixup, stage.cutmix, stage.mixup_draw))


def _rate(batches: tf.data.Dataset, batch_size: int) -> float:
    iterator = iter(batches)
    next(iterator)
    started = time.monotonic()
    count = 0
    while time.monotonic() - started < SECONDS:
        next(iterator)
        count += batch_size
    return count / (time.monotonic() - started)
