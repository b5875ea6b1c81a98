"""A third kind of task, defined here alone: classes in an order (how ripe a fruit is). Run as a command of the project:

python tests/ordinal_task.py multi_stage_train.py FLAGS…
"""

import pathlib
import runpy
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import tensorflow as tf

from dataset_tools import competitions
from dataset_tools.competitions import folder
from dataset_tools.submission import SubmissionFormat
from dataset_tools.table import Competition
from pipeline.answers import by_kind as answers_by_kind, ranking
from pipeline.metrics.single_label import COMPETITION_METRICS, SingleLabelScores
from pipeline.tasks import registry
from pipeline.tasks.single_label import SingleLabel
from pipeline.training import losses, step_metrics

CLASSES = 4


class OrdinalScores(SingleLabelScores):
    """Also how many classes an answer, the median, is from the label on average."""

    def __init__(self, classes: int):
        super().__init__(classes)
        self._distance, self._count = 0, 0

    def update(self, labels: np.ndarray, log_probabilities: np.ndarray) -> np.ndarray:
        self._distance += int(np.abs(medians(log_probabilities) - labels).sum())
        self._count += len(labels)
        return super().update(labels, log_probabilities)

    def result(self) -> dict[str, float]:
        return {**super().result(), "distance": self._distance / self._count}


class Ordinal(SingleLabel):
    """As one label; learnt by the squared distance of the expected class too, chosen by who is near."""

    kind = "ordinal"
    labels = "one label on a scale"
    losses = ("expectation", "softmax")
    monitors = ("val_near", "val_loss")

    def new_scores(self, classes: int) -> OrdinalScores:
        return OrdinalScores(classes)


class Near(step_metrics.SingleLabelMetrics):
    """Also the share of answers that are at most a class away from the label."""

    def __init__(self):
        super().__init__()
        self._means["near"] = tf.keras.metrics.Mean("near")

    def update(self, losses, labels, logits, weights):
        answers = tf.argmax(logits, axis=-1, output_type=labels.dtype)
        self._means["near"].update_state(tf.cast(tf.abs(answers - labels) <= 1, tf.float32), weights)
        return {**super().update(losses, labels, logits, weights), "near": self._means["near"].result()}


def expectation(stage) -> losses.Loss:
    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        places = tf.range(CLASSES, dtype=tf.float32)
        expected = tf.linalg.matvec(tf.nn.softmax(logits), places)
        return losses.softmax_cross_entropy(0.0)(labels, logits) + tf.square(expected - tf.cast(labels, tf.float32))

    return loss


def medians(log_probabilities: np.ndarray) -> np.ndarray:
    """int [n], of float [n, classes]: the first class with which half of the probability is reached."""
    shares = np.exp(log_probabilities.astype(np.float64)).cumsum(axis=1)
    return (shares < shares[:, -1:] / 2).sum(axis=1)


def answer(data, predicted, asked):
    """The median alone."""
    ids, rows = [], []
    for chunk_ids, log_probabilities in predicted.chunks():
        ids += chunk_ids
        rows += [[data.class_ids[one]] for one in medians(log_probabilities)]
    return ids, rows, ranking.most_frequent_classes(data, 1)


def register() -> None:
    import dataclasses

    registry.register(Ordinal())
    step_metrics.BY_KIND["ordinal"] = Near
    losses.BY_NAME["expectation"] = expectation
    single = answers_by_kind.BY_KIND["single_label"]
    answers_by_kind.BY_KIND["ordinal"] = dataclasses.replace(single, answer=answer)
    COMPETITION_METRICS["distance"] = lambda scores: scores["distance"]
    competitions.COMPETITIONS["ripeness"] = Competition(
        "ripeness", lambda data_dir: dataclasses.replace(folder.read(data_dir), task="ordinal"), folder.fingerprint,
        "distance", SubmissionFormat(("id", "ripeness"), 1))


if __name__ == "__main__":
    register()
    sys.argv = sys.argv[1:]
    runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
