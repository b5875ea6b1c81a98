"""Jitter and PCA noise against MXNet's steps written out in NumPy, and their draws."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.ops import light, seeds
from pipeline.records import training_picture
from pipeline.records.training_picture import TrainPictures
from raw_data import encode, pixels

COEFFICIENTS = np.array([0.299, 0.587, 0.114])


def brightness(picture, factor):
    return picture * factor


def contrast(picture, factor):
    return picture * factor + (1 - factor) * (picture * COEFFICIENTS).sum(axis=-1).mean()


def saturation(picture, factor):
    return picture * factor + (1 - factor) * (picture * COEFFICIENTS).sum(axis=-1, keepdims=True)


STEPS = (brightness, contrast, saturation)


def by_numpy(image, seed, amount, noise):
    """One step after another on all pixels, in the drawn order."""
    jitter_seed, noise_seed = seeds.split(seed, 2)
    picture = image.astype(np.float64)
    if amount:
        factors, order = (one.numpy() for one in light.draw_jitter(jitter_seed, amount))
        for step in order:
            picture = STEPS[step](picture, factors[step])
    if noise:
        alpha = tf.random.stateless_normal([3], noise_seed, stddev=noise).numpy()
        vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
        picture += np.dot(vectors * alpha, [55.46, 4.794, 1.148])  # as MXNet's LightingAug has it
    return np.clip(np.round(picture), 0, 255)


@pytest.mark.parametrize("amount, noise", [(0.4, 0.0), (0.0, 0.1), (0.4, 0.1), (1.0, 0.5)])
def test_equals_numpy_in_every_order(amount, noise):
    image, orders = pixels(3, 30, 20), set()
    function = tf.function(lambda number: light.change(tf.constant(image), tf.stack([number, 5]), amount, noise))
    for number in range(24):
        seed = tf.constant([number, 5], tf.int64)
        found = function(tf.constant(number, tf.int64)).numpy()
        assert found.dtype == np.uint8 and found.shape == image.shape
        assert np.abs(found - by_numpy(image, seed, amount, noise)).max() <= 1
        orders.add(tuple(light.draw_jitter(seeds.split(seed, 2)[0], 0.4)[1].numpy()))
    assert len(orders) == 6


def test_draws_have_their_ranges():
    draw = tf.function(lambda number: (*light.draw_jitter(tf.stack([number, 0]), 0.4),
                                       light.draw_colour(tf.stack([number, 1]), 0.1)))
    factors, orders, colours = (np.array(one) for one in zip(*(draw(tf.constant(number, tf.int64)) for number in range(1500))))
    assert factors.min() >= 0.6 and factors.max() <= 1.4 and np.abs(factors.mean(axis=0) - 1).max() < 0.03
    assert np.abs(np.quantile(factors, [0.25, 0.75]) - [0.8, 1.2]).max() < 0.02
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6 and counts.min() > 200
    # The covariance of what is added: Σ (0.1 · length)² · axis axisᵀ.
    expected = (light.AXES * (0.1 * light.AXIS_LENGTHS)**2) @ light.AXES.T
    assert np.abs(np.cov(colours.T) - expected).max() < 0.08 * expected.max() and np.abs(colours.mean(axis=0)).max() < 0.4


@pytest.mark.parametrize("augment", ["inception", "crop", "simple", "imet", "rot45"])
def test_a_training_picture_is_changed_after_its_augmentation(augment):
    encoded, seed = tf.constant(encode(pixels(2, 70, 60))), tf.constant([4, 2], tf.int64)
    plain = TrainPictures(32, augment, "", "short:40")
    without = training_picture.training_picture(encoded, seed, plain)
    with_light = training_picture.training_picture(encoded, seed, TrainPictures(32, augment, "", "short:40", jitter=0.4,
                                                                                pca_noise=0.1))
    expected = light.change(without, seeds.split(seed, 6)[5], 0.4, 0.1)
    np.testing.assert_array_equal(with_light, expected)
    assert (with_light.numpy() != without.numpy()).any()
