"""A grid of cells over the picture, each black with a probability: iNat 2019's seventh place, its coarse model."""

import numpy as np
import tensorflow as tf

CELLS = 7  # along a side


def blank(image: tf.Tensor, seed: tf.Tensor, probability: float) -> tf.Tensor:
    """Each of CELLS × CELLS cells of an image becomes 0 with `probability`, independently.

    Args:
        image: uint8 [size, size, 3], of static shape. Where CELLS does not divide its side, cells differ by a pixel.
        seed: int32 or int64 [2].
    """
    cell = tf.range(image.shape[0]) * CELLS // image.shape[0]
    kept = tf.gather(tf.gather(draw(seed, probability), cell), cell, axis=1)
    return tf.where(kept[:, :, tf.newaxis], image, tf.constant(0, image.dtype))


def draw(seed: tf.Tensor, probability: float) -> tf.Tensor:
    """The cells that are kept: bool [CELLS, CELLS]."""
    return tf.random.stateless_uniform([CELLS, CELLS], seed) >= probability


def blank_drawn(pixels: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """As `blank` of a batch, on a device: uint8 [batch, 3, size, size] and what was drawn, bool [batch, CELLS, CELLS]."""
    cell = np.eye(CELLS, dtype=np.float32)[np.arange(pixels.shape[-1]) * CELLS // pixels.shape[-1]]
    # Matrix products instead of looking up; of 0 and 1 they are exact.
    of_pixels = tf.einsum("yi,bij,xj->byx", cell, tf.cast(kept, tf.float32), cell) > 0.5
    return tf.where(of_pixels[:, tf.newaxis], pixels, tf.constant(0, pixels.dtype))
