"""Light and colour as the iNat 2017 solution's library (MXNet 0.10) changes them: jitter, and noise along ImageNet's axes.

Every step is linear in a pixel's three channels, so that their product is worked out first and each pixel is changed once;
nothing is clipped in between, and rounding comes in the end.
"""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipeline.ops import seeds

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Square roots of the eigenvalues, and eigenvectors (columns), of the covariance of ImageNet's pixels, 0 to 255; Krizhevsky
# et al. 2012, "ImageNet classification with deep convolutional neural networks", the numbers as Torch and MXNet have them.
AXIS_LENGTHS = np.array([55.46, 4.794, 1.148], np.float32)
AXES = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32)
ORDERS = tuple(itertools.permutations(range(3)))  # of brightness, contrast, saturation


def change(image: tf.Tensor, seed: tf.Tensor, jitter: float = 0.0, pca_noise: float = 0.0) -> tf.Tensor:
    """Brightness, contrast and saturation in random order, then a colour added to all pixels.

    Args:
        image: uint8 [H, W, 3], RGB.
        seed: int32 or int64 [2].
        jitter: each of the three is a factor, uniform from 1 − jitter to 1 + jitter: of the pixels (brightness), of their
            distance from the picture's mean luminance (contrast), of that from their own luminance (saturation).
        pca_noise: standard deviation of the colour along each axis, as a share of the axis's length.

    Returns:
        uint8 of the same shape.
    """
    jitter_seed, noise_seed = seeds.split(seed, 2)
    pixels = tf.cast(image, tf.float32)
    matrix, offset = tf.eye(3), tf.zeros([3])
    if jitter:
        matrix, offset = combine(*draw_jitter(jitter_seed, jitter), tf.reduce_mean(pixels, axis=[0, 1]))
    if pca_noise:
        offset += draw_colour(noise_seed, pca_noise)
    changed = tf.tensordot(pixels, matrix, [[2], [1]]) + offset
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(changed), 0, 255), tf.uint8), image.shape)


def draw_jitter(seed: tf.Tensor, amount: float) -> tuple[tf.Tensor, tf.Tensor]:
    """(float32 [3] factors of brightness, contrast and saturation; int32 [3], which of them comes first, second, third)."""
    factors_seed, order_seed = seeds.split(seed, 2)
    factors = tf.random.stateless_uniform([3], factors_seed, 1.0 - amount, 1.0 + amount)
    return factors, tf.constant(ORDERS)[tf.random.stateless_uniform([], order_seed, 0, len(ORDERS), tf.int32)]


def draw_colour(seed: tf.Tensor, deviation: float) -> tf.Tensor:
    """What is added to red, green and blue: float32 [3]."""
    return tf.linalg.matvec(AXES, tf.random.stateless_normal([3], seed, stddev=deviation) * AXIS_LENGTHS)


def combine(factors: tf.Tensor, order: tf.Tensor, mean: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(float32 [..., 3, 3] matrix, float32 [..., 3] offset) of the three steps one after another; `mean` is the picture's.

    Args: [..., 3] each, of one picture or of many.
    """
    luminance = tf.constant(LUMINANCE)
    matrix, offset = tf.eye(3), tf.zeros([3])
    for step in range(3):
        which = order[..., step, tf.newaxis]
        factor = tf.reduce_sum(tf.where(which == tf.range(3), factors, 0.0), axis=-1, keepdims=True)
        gray = tf.reduce_sum(luminance * (_times(matrix, mean) + offset), axis=-1, keepdims=True)  # as the picture is by now
        of_own = tf.where(which == 2, 1.0 - factor, 0.0)[..., tf.newaxis] * tf.ones([3, 1]) * luminance
        own = factor[..., tf.newaxis] * tf.eye(3) + of_own
        matrix, offset = tf.reduce_sum(own[..., tf.newaxis] * matrix[..., tf.newaxis, :, :], axis=-2), _times(own, offset)
        offset += tf.where(which == 1, (1.0 - factor) * gray, 0.0)
    return matrix, offset


def _times(matrix: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """matrix · vector, [..., 3]; not as a matrix product, whose factors a TPU rounds."""
    return tf.reduce_sum(matrix * vector[..., tf.newaxis, :], axis=-1)


# For a batch on a device ---------------------------------------------------------------------------------------------

class Draw(NamedTuple):
    """What `change` does to one picture."""

    factors: tf.Tensor  # float32 [3], of draw_jitter
    order: tf.Tensor    # int32 [3], of draw_jitter
    colour: tf.Tensor   # float32 [3], of draw_colour


def draw(seed: tf.Tensor, jitter: float, pca_noise: float) -> Draw:
    jitter_seed, noise_seed = seeds.split(seed, 2)
    return Draw(*draw_jitter(jitter_seed, jitter), draw_colour(noise_seed, pca_noise))


def change_drawn(pixels: tf.Tensor, drawn: Draw) -> tf.Tensor:
    """As `change`, uint8 [batch, 3, height, width]; `drawn` is of the batch."""
    values = tf.cast(pixels, tf.float32)
    matrix, offset = combine(drawn.factors, drawn.order, tf.reduce_mean(values, axis=[2, 3]))
    offset = (offset + drawn.colour)[:, :, tf.newaxis, tf.newaxis]
    matrix = matrix[..., tf.newaxis, tf.newaxis]
    changed = offset + sum(matrix[:, :, channel] * values[:, channel, tf.newaxis] for channel in range(3))
    return tf.cast(tf.clip_by_value(tf.round(changed), 0, 255), tf.uint8)
