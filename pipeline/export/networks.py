"""Which networks made predictions: by their meta.json, and loaded as they predicted."""

import dataclasses
import os
from typing import Any, Callable, Optional, Sequence

import tensorflow as tf

from pipeline import files
from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.models.activation_map import PROBABILITIES
from pipeline.models.classifier import Classifier
from pipeline.ops import tta
from pipeline.prediction import likeness, loading, predict
from pipeline.records import dataset as datasets
from pipeline.runs import record as run_record, run as runs
from pipeline.tasks.task import SOFTMAX
from pipeline.training.step import apply


@dataclasses.dataclass(frozen=True)
class Network:
    """One of those whose probabilities were averaged to a prediction.

    Attributes:
      paths: its checkpoint, or several whose weights were averaged.
      record: run.json of its run.
    """

    model_dir: str
    fold: Optional[int]
    paths: tuple[str, ...]
    views: str
    size: int
    record: dict[str, Any]

    @property
    def stage(self) -> dict[str, Any]:
        return run_record.last_stage(self.record)

    @property
    def takes_place(self) -> bool:
        return self.record["same"]["place_input"]

    @property
    def preparation(self) -> tuple[int, str, bool, str]:
        """What its pictures depend on; networks that agree in it share them."""
        return self.size, self.stage["eval_resize"], self.stage.get("antialias", True), self.views


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network and its prediction step.

    Attributes:
      classifier: with its model, base and head.
      step: {'image': uint8 [batch, crops, size, size, 3], 'place': float32 [batch, 3]} → (float32 log-probabilities
        [batch, classes]; by the same pass what likeness is judged by, float32 [batch, D] of length 1).
    """

    network: Network
    classifier: Classifier
    step: Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, tf.Tensor]]
    activation: str = SOFTMAX

    @property
    def model(self) -> tf.keras.Model:
        return self.classifier.model

    def one_view(self, image: tf.Tensor) -> tf.Tensor:
        """Probabilities [batch, classes] of float32 [batch, size, size, 3] without a place; plain operations alone."""
        logits = apply(self.model, {"image": image, "place": tf.zeros([image.shape[0], 3])}, training=False)
        return PROBABILITIES[self.activation](logits)


def of(one: predictions.Predictions) -> list[Network]:
    """The networks whose mean a prediction is (of out-of-fold predictions: the mean of the folds, each of which made a part
    of them). Raises UserError where they can't be told, are gone, or look at boxes, which a served model has not."""
    meta, where = one.meta, f"--predictions: {one.directory}"
    if one.of_another_program:
        raise UserError(f"{where} was made by another program, whose model can't be exported")
    if meta.get("neighbours"):
        raise UserError(f"{where} are votes of the nearest train pictures (--neighbours), which an export does not hold "
                        "yet: leave them out")
    if meta.get("boxes"):
        raise UserError(f"{where} is of pictures within boxes of localize.py ({meta['boxes']}), which a served model is not "
                        "given: export a model of whole pictures")
    if not meta.get("checkpoint") or not meta.get("tta"):
        raise UserError(f"{where} does not tell its checkpoints and views; predict anew")
    told = [meta["fold"], meta["checkpoint"], meta.get("trained")]
    found = []
    for fold, checkpoint, trained in zip(*told) if isinstance(meta["fold"], list) else [told]:
        _check_training(meta["model_dir"], fold, trained, where)
        paths = (checkpoint,) if isinstance(checkpoint, str) else tuple(checkpoint)
        groups = [paths] if meta.get("average") == "weights" else [(path,) for path in paths]
        found += [_network(meta, fold, group, where) for group in groups]
    return found


def _check_training(model_dir: str, fold: Optional[int], trained: Any, where: str) -> None:
    """Raises UserError where the run was trained anew since, so that its networks are others; of predictions from before
    this was told (None) nothing is known."""
    done = os.path.join(runs.last_stage_dir(model_dir, fold), runs.DONE_FILE)
    if trained is not None and files.read_json(done) != trained:
        raise UserError(f"{where} is of a training that no longer stands in {model_dir}: predict anew")


def _network(meta: dict[str, Any], fold: Optional[int], paths: tuple[str, ...], where: str) -> Network:
    gone = next((path for path in paths if not files.exists(f"{path}.index")), None)
    if gone:
        raise UserError(f"{where} was made by the checkpoint {gone}, which is gone: predict anew")
    return Network(meta["model_dir"], fold, paths, meta["tta"], meta["size"], run_record.read(meta["model_dir"]))


def load(network: Network, data: datasets.Dataset) -> Loaded:
    """The network as predict.py has it. Its precision becomes Keras' global policy."""
    built = loading.load(list(network.paths), network.fold, network.size, data, predict.Request.batch_size, network.record,
                         tf.distribute.get_strategy())
    step = _make_step(built, tta.parse(network.views), data.task.activation)
    return Loaded(network, built, step, data.task.activation)


def _make_step(built: Classifier, views: tta.Views, activation: str,
               ) -> Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, tf.Tensor]]:
    """What predict.make_step and likeness.make_step compute, by one pass through the network."""
    joint = tf.keras.Model(built.model.input, [built.model.output, built.likeness])

    def step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        logits, found = apply(joint, views.of_batch(batch), training=False)
        by_view = tf.reshape(found, [-1, views.total, found.shape[-1]])
        return predict.log_mean_probabilities(logits, views.total, activation), likeness.mean_direction(by_view)

    return step


def load_all(members: Sequence[Sequence[Network]], data: datasets.Dataset) -> list[list[Loaded]]:
    """`load` for the networks of each member."""
    return [[load(one, data) for one in networks] for networks in members]
