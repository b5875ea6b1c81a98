"""The exponential moving average of the weights: against NumPy, and what a run does with it."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from conftest import ROOT
from pipeline.answers import predictions
from pipeline.models import classifier as classifiers
from pipeline.prediction import predict
from pipeline.runs import checkpoint
from pipeline.training import callbacks, losses, optimizers, train
from pipeline.training.step import TrainableClassifier
from pipeline.training.weight_average import WeightAverage
from training_runs import run, stage

BATCH, STEPS = 6, 12


def small_classifier():
    image = tf.keras.Input((4,), name="image")
    # No bias before BatchNorm: its gradient would be noise about 0, which Adam blows up.
    nn = tf.keras.layers.Dense(5, use_bias=False, kernel_initializer=tf.keras.initializers.GlorotUniform(1))(image)
    nn = tf.keras.layers.ReLU()(tf.keras.layers.BatchNormalization(momentum=0.5)(nn))
    return tf.keras.Model({"image": image}, tf.keras.layers.Dense(
        3, kernel_initializer=tf.keras.initializers.GlorotUniform(2))(nn))


def batches():
    rng = np.random.default_rng(0)
    return tf.data.Dataset.from_tensor_slices((
        {"image": rng.normal(size=(STEPS, BATCH, 4)).astype(np.float32)}, rng.integers(0, 3, (STEPS, BATCH))))


def trainable(classifier, name, average=None, **how):
    model = TrainableClassifier(classifier, losses.softmax_cross_entropy(0.0), BATCH, average=average)
    model.compile(optimizers.build(name, 0.1, momentum=0.9, weight_decay=0.0, clip_norm=0.0,
                                   variables=classifier.trainable_variables), weighted_metrics=[], **how)
    return model


@pytest.mark.parametrize("decay", [0.35, 0.999])  # the warm-up ends at the fourth step; it never ends
@pytest.mark.parametrize("name, how", [("sgd", {"steps_per_execution": 5}), ("lamb", {}),
                                       ("adam", {"jit_compile": True, "steps_per_execution": 2})])
def test_against_numpy(decay, name, how):
    alone = small_classifier()
    stepwise = trainable(alone, name)
    expected = [weight.astype(np.float64) for weight in alone.get_weights()]
    for number, (features, labels) in enumerate(batches(), 1):
        stepwise.train_on_batch(features, labels)
        keep = min(decay, (1 + number) / (10 + number))
        expected = [keep * mean + (1 - keep) * weight for mean, weight in zip(expected, alone.get_weights())]

    classifier, averaged = small_classifier(), small_classifier()
    average = WeightAverage(averaged, classifier, decay)
    averaged.set_weights([weight + 1 for weight in averaged.get_weights()])
    average.start()
    model = trainable(classifier, name, average, **how)
    model.fit(batches(), verbose=0)
    for ours, theirs in zip(classifier.get_weights(), alone.get_weights()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)  # training goes on as without it
    assert len(averaged.get_weights()) == len(expected) == 7  # BatchNorm's statistics among them
    for ours, theirs in zip(averaged.get_weights(), expected):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# A process of its own, since logical devices are made before anything else.
REPLICAS = """
import sys
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path[:0] = ["tests", "tests/training"]
import test_ema as here
from pipeline.training.weight_average import WeightAverage

with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    classifier, averaged = here.small_classifier(), here.small_classifier()
    average = WeightAverage(averaged, classifier, 0.35)
    average.start()
    model = here.trainable(classifier, "sgd", average)
expected = [weight.astype(np.float64) for weight in classifier.get_weights()]
for number, (features, labels) in enumerate(here.batches().take(5), 1):
    model.train_on_batch(features, labels)
    keep = min(0.35, (1 + number) / (10 + number))
    expected = [keep * mean + (1 - keep) * weight for mean, weight in zip(expected, classifier.get_weights())]
for ours, theirs in zip(averaged.get_weights(), expected):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
print("the same")
"""


@pytest.mark.slow
def test_two_replicas_against_numpy():
    """BatchNorm's statistics are each replica's own, and read as their mean: so is the average of them."""
    done = subprocess.run([sys.executable, "-c", REPLICAS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("the same"), done.stderr[-3000:]


def test_the_average_is_what_is_validated():
    classifier, averaged = small_classifier(), small_classifier()
    averaged.set_weights([2 * weight for weight in averaged.get_weights()])
    features, labels = next(iter(batches()))
    model = trainable(classifier, "sgd", WeightAverage(averaged, classifier, 0.9))
    told = model.evaluate(features, labels, sample_weight=np.ones(BATCH), verbose=0, return_dict=True)["loss"]
    logits = averaged(features).numpy()
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert told == pytest.approx(-logs[np.arange(BATCH), labels].mean(), rel=1e-5)


# Whole runs

@pytest.fixture(autouse=True)
def float32_policy():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


STAGE = {"epochs": 2, "ema": 0.6, "optimizer": "adamw", "weight_decay": 0.01, "layer_decay": 0.8,
         "groups": "stack_3_block0_sortcut_conv", "lower_lrs": (0.005,)}


@pytest.fixture(scope="module")
def network():
    return classifiers.build("kecam/EfficientNetV2Tiny", 32, 3).model


def weights_in(network, path, part="model"):
    """The weights that a part of a checkpoint holds."""
    tf.train.Checkpoint(**{part: network}).read(path).assert_existing_objects_matched().expect_partial()
    return network.get_weights()


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


def differ(ones, others):
    return any((one != other).any() for one, other in zip(ones, others, strict=True))


@pytest.fixture(scope="module")
def averaged_run(tiny_data, tmp_path_factory):
    """Two epochs with the average, then a head stage at rate 0, which leaves everything as it was found."""
    model_dir = tmp_path_factory.mktemp("averaged")
    train.run_training(run(tiny_data, model_dir, stage(**STAGE), stage(name="head", train="head", lr=0.0)))
    return model_dir


def test_the_best_and_the_next_stage_are_the_average(averaged_run, network):
    last = tf.train.latest_checkpoint(str(averaged_run / "stage_1_all" / "last"))
    best, after = (checkpoint.find(str(averaged_run / folder)) for folder in ("stage_1_all", "stage_2_head"))
    assert differ(weights_in(network, last), weights_in(network, last, "trained"))
    assert differ(weights_in(network, best), weights_in(network, last, "trained"))
    if best.endswith("-2"):  # the last epoch was the best
        assert_same(weights_in(network, best), weights_in(network, last))
    assert_same(weights_in(network, after), weights_in(network, best))


def test_predictions_score_what_the_average_was_validated_with(averaged_run, tiny_data, tmp_path):
    predict.run_prediction(tiny_data.directory, predict.Request(str(averaged_run), "val", str(tmp_path), tta="none"))
    told = predictions.Predictions(str(tmp_path))
    labels = np.array([int(one) % 3 for one in told.ids])
    log_loss = -told.rows(np.arange(11))[np.arange(11), labels].mean()
    # to the last bit, which pandas' fast reader may miss
    history = pd.read_csv(averaged_run / "stage_1_all" / "history.csv", float_precision="round_trip")
    assert log_loss == pytest.approx(history["val_loss"].min(), abs=2e-3)  # float16 logs
    assert json.loads((averaged_run / "stage_1_all" / "DONE").read_text())["best"] == history["val_loss"].min()


class Killed(Exception):
    """Stands for a process that is killed."""


def test_an_interrupted_run_ends_as_the_uninterrupted_one(averaged_run, network, tiny_data, tmp_path, monkeypatch):
    log_rate = callbacks.LogLearningRate.on_epoch_end

    def killed_in_epoch_2(self, epoch, logs=None):
        if epoch == 1:
            raise Killed
        log_rate(self, epoch, logs)

    whole = run(tiny_data, tmp_path, stage(**STAGE))
    monkeypatch.setattr(callbacks.LogLearningRate, "on_epoch_end", killed_in_epoch_2)
    with pytest.raises(Killed):
        train.run_training(whole)
    monkeypatch.undo()
    train.run_training(whole)
    ours, theirs = (tf.train.latest_checkpoint(str(folder / "stage_1_all" / "last")) for folder in (tmp_path, averaged_run))
    for part in ("model", "trained"):
        assert_same(weights_in(network, ours, part), weights_in(network, theirs, part))


def test_where_nothing_is_held_out_the_last_is_the_average(network, tiny_data, tmp_path):
    train.run_training(run(tiny_data, tmp_path, stage(ema=0.9, lr=0.05), train_split="train+val"))
    found = checkpoint.find(str(tmp_path / "stage_1_all"))
    assert differ(weights_in(network, found), weights_in(network, found, "trained"))
