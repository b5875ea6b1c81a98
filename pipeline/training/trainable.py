"""What a stage trains: the network, its loss and its optimizer, compiled for Keras' fit. Knows no data but its classes."""

import functools
from typing import Optional

import numpy as np
import tensorflow as tf

from pipeline.models import classifier as classifiers
from pipeline.ops import compiled
from pipeline.records import device_pictures, training_picture
from pipeline.runs.run import Run
from pipeline.runs.stages import Stage
from pipeline.tasks.task import Task
from pipeline.training import layer_rates, losses, optimizers, schedules, step
from pipeline.training.step import TrainableClassifier
from pipeline.training.weight_average import WeightAverage


def build_classifier(run: Run, stage: Stage, class_count: int, weights: str, scaling: str) -> classifiers.Classifier:
    """The network as the stage trains it: what is frozen, whether BatchNorm moves. `scaling` as in models.scaling."""
    built = classifiers.build(run.model, stage.size, class_count, weights=weights,
                              base_training=classifiers.needs_base_training(stage.train),
                              place_input=run.place_input, dropout=run.dropout, channel_dropout=run.channel_dropout,
                              head_init=run.head_init, seed=run.random_seed, scaling=scaling, top=run.top)
    classifiers.set_trainable(built, stage.train, stage.freeze_place)
    if run.sync_batch_norm:
        classifiers.synchronize_batch_norm(built)
    return built


def compile_stage(run: Run, stage: Stage, built: classifiers.Classifier, rate: schedules.Rate, task: Task,
                  log_prior: Optional[np.ndarray] = None, average: Optional[WeightAverage] = None,
                  seed: int = 0) -> TrainableClassifier:
    """The model for `fit`.

    Args:
      rate: the learning rate, of all steps of the stage.
      task: what is learnt.
      log_prior: float32 [classes], log(share of the training pictures); given where the stage adjusts its logits.
      average: the average of the weights, where the stage keeps one.
      seed: of what layers draw, step by step.
    """
    stepped = layer_rates.stepped(built, stage)
    optimizer = optimizers.build(
        stage.optimizer, rate, momentum=stage.momentum, weight_decay=stage.weight_decay, clip_norm=stage.clip_norm,
        variables=[variable for variable, _ in stepped], factors=[factor for _, factor in stepped],
        nesterov=stage.nesterov, l2=stage.l2, decay_all=stage.decay_all)
    if run.precision == "mixed_float16":
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    on_tpu = isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)  # where all is compiled as it is
    training_loss = losses.make_training(stage, run.arcface_scale, log_prior if stage.logit_adjust else None)
    model = TrainableClassifier(built.model, losses.make(stage), stage.batch_size, task, average, training_loss,
                                stage.accumulate, [variable for variable, _ in stepped], _augment(run, stage, on_tpu), seed)
    model.compile(optimizer=optimizer, jit_compile=run.jit and not on_tpu, steps_per_execution=run.steps_per_execution,
                  weighted_metrics=[])  # the model has its own; said so that Keras does not ask for some
    return model


def _augment(run: Run, stage: Stage, on_tpu: bool) -> Optional[step.Augment]:
    """What the device does to a batch's pictures; None where the host does it."""
    pictures = training_picture.pictures_of(stage)
    if pictures.augment_on != training_picture.DEVICE:
        return None
    finish = functools.partial(device_pictures.finish, pictures=pictures)
    # Compiled though the step may not be: one by one its operations would want many times the memory. (XLA does not compile
    # for the CPUs that virtual replicas are.)
    return finish if on_tpu or run.virtual_replicas else compiled.by_xla(finish)
