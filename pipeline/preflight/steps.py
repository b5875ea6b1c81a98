"""The steps that a recipe would run on a TPU: of each stage training and validation, of the last one prediction."""

import dataclasses
from typing import Any, Optional, Sequence

import numpy as np
import tensorflow as tf

from pipeline.models import classifier as classifiers, grouped_convolution
from pipeline.ops import mixing, tta
from pipeline.prediction import predict
from pipeline.preflight.lowering import Program, lower
from pipeline.records import dataset as datasets, device_pictures, training_picture
from pipeline.runs.run import Run
from pipeline.runs.stages import Stage
from pipeline.tasks import registry as tasks
from pipeline.tasks.task import MANY_HOT, Task
from pipeline.training import run_checks, schedules, trainable
from pipeline.training.step import TrainableClassifier
from pipeline.training.weight_average import WeightAverage

ASSUMED_CLASSES = 1000   # for a recipe that is made for any competition
_STEPS_PER_EPOCH = 1000  # how long the schedule is changes a constant or two of the program
TRAIN, VALIDATE, PREDICT = "train", "validate", "predict"


@dataclasses.dataclass(frozen=True)
class Competition:
    """What is known of a competition before its data is there."""

    class_count: int
    task: Task
    assumed: bool  # that there are so many classes

    @classmethod
    def of(cls, run: Run, data: Optional[datasets.Dataset]) -> "Competition":
        """The data's; without any, what the recipe tells."""
        if data is not None:
            return cls(len(data.manifest.classes), data.task, False)
        told = next((stage.loss for stage in run.stages if stage.loss), None)  # a probe's stage tells none
        return cls(run.num_classes or ASSUMED_CLASSES, tasks.of_loss(told), run.num_classes is None)


@dataclasses.dataclass(frozen=True)
class Step:
    """One step, as one core runs it."""

    stage: Stage
    kind: str         # train, validate or predict
    batch: int        # pictures a core
    views: tta.Views  # of each picture
    parts: int = 1    # that the batch is worked off in


def plan(run: Run, cores: int) -> list[Step]:
    """The steps of the stages in order. Prediction has predict.py's own batch and the recipe's views."""
    one_view = tta.parse("none")
    # A probe takes no steps of training; of its features each is computed as a validation's.
    planned = [Step(stage, kind, stage.batch_size // cores, one_view, stage.accumulate if kind == TRAIN else 1)
               for stage in run.stages for kind in ((VALIDATE,) if stage.is_probe else (TRAIN, VALIDATE))]
    return [*planned, Step(run.stages[-1], PREDICT, max(predict.Request.batch_size // cores, 1), tta.parse(run.tta))]


class Programs:
    """The programs of a run's steps; the network of a stage is built when it is first asked for, and kept for its steps."""

    def __init__(self, run: Run, competition: Competition, cores: int):
        tf.keras.mixed_precision.set_global_policy(run.precision)
        self._run, self._competition, self._cores = run, competition, cores
        self._network: Optional[_Network] = None

    def make(self, step: Step, batch: int) -> Program:
        """The step with another batch a core; raises lowering.Fault."""
        if self._network is None or self._network.stage is not step.stage:
            tf.keras.backend.clear_session()
            self._network = _Network(self._run, step.stage, self._competition, self._cores)
        with grouped_convolution.traced_for_tpu():
            if step.kind == PREDICT:
                return self._network.predict(batch, step.views)
            return self._network.train(batch) if step.kind == TRAIN else self._network.validate(batch)


class _Network:
    """A stage's network, and its steps for any batch."""

    def __init__(self, run: Run, stage: Stage, competition: Competition, cores: int):
        self.stage = stage
        self._run, self._competition, self._cores = run, competition, cores
        self._trained = self._build()
        self._valued = self._build() if stage.ema else self._trained

    def _build(self) -> classifiers.Classifier:
        # Whatever the weights will be, the program is the same; only their pixels' scaling is not.
        return trainable.build_classifier(self._run, self.stage, self._competition.class_count, "none",
                                          run_checks.input_scaling(self._run))

    def _trainable(self, batch: int) -> TrainableClassifier:
        stage = dataclasses.replace(self.stage, batch_size=batch * self._cores)
        warmup = int(stage.warmup_epochs * _STEPS_PER_EPOCH)
        rate = schedules.make_rate(stage.lr_schedule, stage.peak_lr, warmup, int(stage.epochs * _STEPS_PER_EPOCH),
                                   _STEPS_PER_EPOCH, stage.lr_factor)
        average = WeightAverage(self._valued.model, self._trained.model, stage.ema) if stage.ema else None
        # What the shares of the classes are changes constants of the program alone.
        log_prior = np.zeros(self._competition.class_count, np.float32) if stage.logit_adjust else None
        return trainable.compile_stage(self._run, stage, self._trained, rate, self._competition.task, log_prior, average)

    def train(self, batch: int) -> Program:
        model = self._trainable(batch)
        return lower(lambda features, labels: model.train_step((features, labels)),
                     [{**self._features(batch), **self._drawn(batch)}, self._training_labels(batch)])

    def validate(self, batch: int) -> Program:
        model = self._trainable(batch)
        return lower(lambda features, labels, weights: model.test_step((features, labels, weights)),
                     [self._features(batch), self._labels(batch), tf.TensorSpec([batch])])

    def predict(self, batch: int, views: tta.Views) -> Program:
        step = predict.make_step(self._valued.model, views, self._competition.task.activation)
        return lower(step, [self._features(batch, [views.crops])])

    def _features(self, batch: int, crops: Sequence[int] = ()) -> dict[str, tf.TensorSpec]:
        size = self.stage.size
        return {"image": tf.TensorSpec([batch, *crops, size, size, 3], tf.uint8), "place": tf.TensorSpec([batch, 3])}

    def _labels(self, batch: int) -> tf.TensorSpec:
        if self._competition.task.encoding == MANY_HOT:
            return tf.TensorSpec([batch, self._competition.class_count])
        return tf.TensorSpec([batch], tf.int64)

    @property
    def _mix(self) -> mixing.Alphas:
        return mixing.Alphas(self.stage.mixup, self.stage.cutmix, self.stage.mixup_draw)

    @property
    def _on_device(self) -> bool:
        return self.stage.augment_on == training_picture.DEVICE

    def _drawn(self, batch: int) -> dict[str, Any]:
        """What a batch has beside its pictures where the device augments them."""
        if not self._on_device:
            return {}
        drawn = device_pictures.drawn_specs(training_picture.pictures_of(self.stage), self._mix, batch)
        return {device_pictures.DRAWN: drawn} if drawn else {}

    def _training_labels(self, batch: int) -> Any:
        if self._competition.task.encoding == MANY_HOT or not self._mix.any or self._on_device:
            return self._labels(batch)
        return mixing.MixedLabels(self._labels(batch), self._labels(batch), tf.TensorSpec([batch]))
