"""Random erasing: a rectangle of the picture is overwritten with noise. Zhong et al. 2020."""

import math
from typing import NamedTuple

import tensorflow as tf

from pipeline.ops import philox, seeds

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
    return inside(draw_rectangle(seed, size), size)


def draw_rectangle(seed: tf.Tensor, size: int) -> tf.Tensor:
    """What is erased: float32 [4], whole numbers: top, left, height, width."""
    area_seed, aspect_seed, top_seed, left_seed = seeds.split(seed, 4)
    area = tf.random.stateless_uniform([_ATTEMPTS], area_seed, *AREA) * size * size
    aspect = tf.exp(tf.random.stateless_uniform([_ATTEMPTS], aspect_seed, *map(math.log, ASPECT)))
    heights, widths = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    first = tf.argmax(tf.concat([(heights < size) & (widths < size), [True]], axis=0))
    height, width = tf.concat([heights, [0]], axis=0)[first], tf.concat([widths, [0]], axis=0)[first]
    return tf.stack([_draw_start(top_seed, height, size), _draw_start(left_seed, width, size), height, width])


def _draw_start(seed: tf.Tensor, length: tf.Tensor, size: int) -> tf.Tensor:
    return tf.floor(tf.random.stateless_uniform([], seed) * (size - length + 1))


def inside(rectangle: tf.Tensor, size: int) -> tf.Tensor:
    """bool [..., size, size] of float32 [..., 4]."""
    starts, ends = rectangle[..., :2], rectangle[..., :2] + rectangle[..., 2:]
    positions = tf.range(size, dtype=tf.float32)
    along = (positions >= starts[..., tf.newaxis]) & (positions < ends[..., tf.newaxis])
    return along[..., 0, :, tf.newaxis] & along[..., 1, tf.newaxis, :]


# For a batch on a device ---------------------------------------------------------------------------------------------

class Draw(NamedTuple):
    """What `erase` does to one picture."""

    rectangle: tf.Tensor  # float32 [4], all 0 where nothing is erased
    stream: tf.Tensor     # uint32 [6], of the noise (ops.philox)


def draw(seed: tf.Tensor, size: int, probability: float) -> Draw:
    whether_seed, box_seed, noise_seed = seeds.split(seed, 3)
    chosen = tf.random.stateless_uniform([], whether_seed) < probability
    return Draw(tf.where(chosen, draw_rectangle(box_seed, size), 0.0), philox.stream(noise_seed))


def erase_drawn(pixels: tf.Tensor, drawn: Draw) -> tf.Tensor:
    """As `erase`, uint8 [batch, 3, size, size]; `drawn` is of the batch."""
    size = pixels.shape[-1]
    noise = tf.reshape(philox.noise(drawn.stream, 3 * size * size), [-1, size, size, 3])
    noise = tf.cast(tf.transpose(noise, [0, 3, 1, 2]), tf.uint8)
    return tf.where(inside(drawn.rectangle, size)[:, tf.newaxis], noise, pixels)
