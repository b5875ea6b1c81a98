"""Random erasing: a rectangle of the picture is overwritten with noise. Zhong et al. 2020."""

import math

import tensorflow as tf

from pipeline.ops import seeds

AREA = (0.02, 1 / 3)   # of the picture's, uniform
ASPECT = (0.3, 3.3)    # height / width, log-uniform
_ATTEMPTS = 5          # drawn at once; where none fits into the picture (1 in 10¹¹) it stays whole


def erase(image: tf.Tensor, seed: tf.Tensor, probability: float) -> tf.Tensor:
    """With `probability` a rectangle becomes noise, uniform over 0–255 in every pixel and channel (the paper's best).

    Both bounds are shares of the picture, so the change is alike at every size.

    Args:
        image: uint8 [size, size, 3], of static shape.
        seed: int32 or int64 [2].
        probability: 0 to 1.

    Returns:
        uint8 [size, size, 3].
    """
    whether_seed, box_seed, noise_seed = seeds.split(seed, 3)

    def erased() -> tf.Tensor:
        noise = tf.cast(tf.random.stateless_uniform(image.shape, noise_seed, 0, 256, tf.int32), tf.uint8)
        return tf.where(draw_box(box_seed, image.shape[0])[:, :, tf.newaxis], noise, image)

    chosen = tf.random.stateless_uniform([], whether_seed) < probability
    return tf.ensure_shape(tf.cond(chosen, erased, lambda: image), image.shape)


def draw_box(seed: tf.Tensor, size: int) -> tf.Tensor:
    """What is erased of a picture: bool [size, size], a rectangle that lies wholly within."""
    area_seed, aspect_seed, top_seed, left_seed = seeds.split(seed, 4)
    area = tf.random.stateless_uniform([_ATTEMPTS], area_seed, *AREA) * size * size
    aspect = tf.exp(tf.random.stateless_uniform([_ATTEMPTS], aspect_seed, *map(math.log, ASPECT)))
    heights, widths = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    first = tf.argmax(tf.concat([(heights < size) & (widths < size), [True]], axis=0))
    height, width = tf.concat([heights, [0]], axis=0)[first], tf.concat([widths, [0]], axis=0)[first]
    return _span(top_seed, height, size)[:, tf.newaxis] & _span(left_seed, width, size)[tf.newaxis]


def _span(seed: tf.Tensor, length: tf.Tensor, size: int) -> tf.Tensor:
    """bool [size]: `length` (a whole number) neighbours, their place uniform."""
    start = tf.floor(tf.random.stateless_uniform([], seed) * (size - length + 1))
    positions = tf.range(size, dtype=tf.float32)
    return (positions >= start) & (positions < start + length)
