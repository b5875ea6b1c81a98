"""Light and colour as the iNat 2017 solution's library (MXNet 0.10) changes them: jitter, and noise along ImageNet's axes.

Every step is linear in a pixel's three channels, so that their product is worked out first and each pixel is changed once;
nothing is clipped in between, and rounding comes in the end.
"""

import itertools

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
    """(float32 [3, 3] matrix, float32 [3] offset) of the three steps one after another; `mean` is the picture's, [3]."""
    luminance = tf.constant(LUMINANCE)
    matrix, offset = tf.eye(3), tf.zeros([3])
    for step in range(3):
        factor = factors[order[step]]
        gray = tf.reduce_sum(luminance * (tf.linalg.matvec(matrix, mean) + offset))  # of the picture as it is by now
        of_own = tf.where(order[step] == 2, 1.0 - factor, 0.0) * tf.ones([3, 1]) * luminance
        own = factor * tf.eye(3) + of_own
        matrix, offset = own @ matrix, tf.linalg.matvec(own, offset)
        offset += tf.where(order[step] == 1, (1.0 - factor) * gray, 0.0)
    return matrix, offset
