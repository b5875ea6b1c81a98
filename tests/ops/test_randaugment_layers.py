"""RandAugment's layers: how operations are drawn and follow one another, in a dataset too."""

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.ops import randaugment, seeds
from test_randaugment import NAMES, SEED, apply, level, picture

import tensorflow as tf


def test_operations_are_drawn_uniformly():
    draw = tf.function(lambda number: randaugment.draw(seeds.example_seed(42, 0, number), 6)[0])
    drawn = np.array([draw(tf.constant(number)).numpy() for number in range(1000)])
    assert drawn.shape == (1000, 6)
    counts = np.array([np.bincount(layer, minlength=16) for layer in drawn.T])
    assert counts.shape == (6, 16)
    chi_square = ((counts.sum(axis=0) - 375)**2 / 375).sum()
    assert chi_square < 37.7  # 15 degrees of freedom: 1 in 1,000
    pairs = np.bincount(drawn[:, 0] * 16 + drawn[:, 1], minlength=256)  # layers are independent
    assert ((pairs - 1000 / 256)**2 / (1000 / 256)).sum() < 330  # 255 degrees: 1 in 1,000


@pytest.mark.parametrize("mode", ["eager", "function", "dataset"])
def test_only_the_drawn_operations_run_in_their_order(monkeypatch, mode):
    ran = []

    def recording(name):
        def record(image):
            ran.append(name)
            return image

        def operation(image, level, seed):
            assert level == f"{name} at 0.4 of 8"
            return tf.ensure_shape(tf.numpy_function(record, [image], tf.uint8), image.shape)
        return randaugment.Operation(operation, lambda m, size: f"{name} at {m} of {size}")

    monkeypatch.setattr(randaugment, "OPERATIONS", {name: recording(name) for name in NAMES})
    indices, _ = randaugment.draw(SEED, 5)
    image = tf.constant(picture(8, 8))

    def augment(pixels):
        return randaugment.randaugment(pixels, SEED, 5, 4.0)

    if mode == "eager":
        augment(image)
    elif mode == "function":
        tf.function(augment)(image)
    else:
        list(tf.data.Dataset.from_tensors(image).map(augment))
    assert ran == [NAMES[index] for index in indices]


@pytest.mark.parametrize("number", range(5))
def test_layers_are_the_operations_one_after_the_other(number):
    pixels, seed = picture(32, 32), tf.constant([number, 77])
    indices, layer_seeds = randaugment.draw(seed, 4)
    expected = pixels
    for index, layer_seed in zip(indices.numpy(), layer_seeds):
        expected = apply(NAMES[index], expected, level(NAMES[index], 6, 32), layer_seed)
    assert np.array_equal(randaugment.randaugment(tf.constant(pixels), seed, 4, 6.0), expected)


@pytest.mark.parametrize("magnitude", [4.0, 28.0])
def test_in_a_dataset_as_in_eager(magnitude):
    image = tf.constant(picture(40, 40))

    def augment(row):
        return randaugment.randaugment(image, seeds.example_seed(42, 1, row), 3, magnitude)

    dataset = tf.data.Dataset.range(16).map(augment, num_parallel_calls=4)
    assert dataset.element_spec == tf.TensorSpec([40, 40, 3], tf.uint8)
    first, second = ([got.numpy() for got in dataset] for _ in range(2))
    assert np.array_equal(first, second)
    assert len({got.tobytes() for got in first}) > 10
    for row in range(0, 16, 5):
        assert np.array_equal(first[row], augment(row))


@pytest.mark.parametrize("height, width", [(1, 1), (2, 5)])
def test_tiny_pictures(height, width):
    pixels = np.full((height, width, 3), 90, np.uint8)
    for name in NAMES:
        apply(name, pixels, level(name, 10, 1))


def test_parse():
    assert randaugment.parse("6:4") == (6, 4.0)
    assert randaugment.parse("2:2.5") == (2, 2.5)
    for text in ("", "6", "6:", ":4", "0:4", "-1:4", "1.5:4", "2:-1", "2:31", "2:nan", "2:inf", "2:4:6", "a:b"):
        with pytest.raises(UserError, match="randaugment .*LAYERS:MAGNITUDE"):
            randaugment.parse(text)
