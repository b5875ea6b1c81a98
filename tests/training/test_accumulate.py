"""--accumulate: a step in micro-batches is the step of the whole batch."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.ops import mixing
from pipeline.training import losses, train
from pipeline.training.step import TrainableClassifier
from training_runs import run, stage
import two_steps


@pytest.fixture(autouse=True)
def float32_policy():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def results(**changes):
    """After two steps of a network without BatchNorm."""
    return two_steps.results(tf.distribute.get_strategy(), "kecam/BeitTiny", **{"optimizer": "sgd", **changes})


def assert_same(ones, others, atol):
    assert ones.keys() == others.keys()
    for name in ones:
        np.testing.assert_allclose(ones[name], others[name], rtol=1e-5, atol=atol, err_msg=name)


@pytest.mark.parametrize("changes, atol", [
    ({"clip_norm": 0.1}, 1e-5),
    pytest.param({"loss": "focal", "ema": 0.5, "jit": True}, 1e-5, marks=pytest.mark.slow),
    ({"loss": "focal", "ema": 0.5}, 1e-5),
    pytest.param({"optimizer": "lamb", "steps_per_execution": 2}, 1e-5, marks=pytest.mark.slow),
    pytest.param({"precision": "mixed_float16"}, 2e-3, marks=pytest.mark.slow),
])
def test_four_micro_batches_are_one_batch(changes, atol):
    assert_same(results(**changes), results(**changes, accumulate=4), atol)


def test_mixed_labels_and_places_are_divided_alike():
    features, labels = two_steps.pictures(0, two_steps.BATCH)
    mixed = mixing.MixedLabels(tf.constant(labels), tf.roll(tf.constant(labels), 1, 0),
                               tf.linspace(0.0, 1.0, two_steps.BATCH))
    after = []
    for accumulate in (1, 8):
        trained, built, _ = two_steps.build("kecam/BeitTiny", optimizer="sgd", accumulate=accumulate)
        told = trained.train_step(({name: tf.constant(one) for name, one in features.items()}, mixed))
        after.append({**told, **{str(index): weight for index, weight in enumerate(built.model.get_weights())}})
    assert_same(*after, 1e-5)


def test_batch_norm_moves_with_each_micro_batch():
    image = tf.keras.Input((4,), name="image")
    norm = tf.keras.layers.BatchNormalization(momentum=0.5)
    classifier = tf.keras.Model({"image": image}, tf.keras.layers.Dense(3)(norm(image)))
    model = TrainableClassifier(classifier, losses.softmax_cross_entropy(0.0), 6, accumulate=2)
    model.compile("sgd", weighted_metrics=[])
    pictures = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    model.train_on_batch({"image": pictures}, np.arange(6) % 3)
    expected = 0.5 * (0.5 * pictures[:3].mean(axis=0)) + 0.5 * pictures[3:].mean(axis=0)
    np.testing.assert_allclose(norm.moving_mean.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("accumulate", [3, 20])
def test_what_does_not_divide_the_batch_is_told(accumulate, tiny_data, tmp_path):
    with pytest.raises(UserError, match=rf"--batch_size=10 is not divisible by .*--accumulate={accumulate}"):
        train.run_training(run(tiny_data, tmp_path / "m", stage(accumulate=accumulate)))
