"""A grid of cells over the picture, each black with a probability: iNat 2019's seventh place, its coarse model."""

import tensorflow as tf

CELLS = 7  # along a side


def blank(image: tf.Tensor, seed: tf.Tensor, probability: float) -> tf.Tensor:
    """Each of CELLS × CELLS cells of an image becomes 0 with `probability`, independently.

    Args:
        image: uint8 [size, size, 3], of static shape. Where CELLS does not divide its side, cells differ by a pixel.
        seed: int32 or int64 [2].
    """
    kept = tf.random.stateless_uniform([CELLS, CELLS], seed) >= probability
    cell = tf.range(image.shape[0]) * CELLS // image.shape[0]
    return tf.where(tf.gather(tf.gather(kept, cell), cell, axis=1)[:, :, tf.newaxis], image, tf.constant(0, image.dtype))
