"""Squares around points of a mask: what the fine model of iNat 2019's seventh place is trained on and asked about.

A mask is a grid of cells, each in or out, over the whole picture; its pixels are those of the cells that are in. All that the
squares need of it is how many of them lie in each row and in each column of cells.
"""

from typing import Sequence

import tensorflow as tf

from pipeline.ops import decode, seeds

MIDDLE = (1 / 3, 2 / 3)  # of the mask's pixels in the order of their rows, and of their columns: where a square's centre may be
SIDE = 2                 # a square's area over the mask's
LEAST_PIXELS = 10        # a mask of fewer gives the whole picture
# Test: a square's area over the training's, for the picture and for its mirror image; each twice, at centres of its own.
VIEW_AREAS = (0.5, 0.5, 1, 1, 2, 2, 4, 4)
MIRRORED_AREAS = (0.25, 0.25, 1, 1, 2, 2, 4, 4)
VIEWS = len(VIEW_AREAS + MIRRORED_AREAS)


def random_square(encoded: tf.Tensor, counts: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The part of a picture that it is trained on: int32 [4], top, left, height, width, in pixels.

    Args:
        encoded: string scalar, a JPEG.
        counts: integers [2, cells]: of the mask's cells those in each row, then those in each column.
        seed: int32 or int64 [2].
    """
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(encoded))
    return squares(height, width, counts, [1.0], _places(seed, 1))[0]


def sixteen(encoded: tf.Tensor, counts: tf.Tensor, size: int, seed: tf.Tensor, antialias: bool = True) -> tf.Tensor:
    """The squares of VIEW_AREAS, then those of MIRRORED_AREAS (not mirrored yet), each resized: uint8 [16, size, size, 3].

    What holds all of them is decoded, once. Arguments as of `random_square`.
    """
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(encoded))
    parts = squares(height, width, counts, VIEW_AREAS + MIRRORED_AREAS, _places(seed, VIEWS))
    corner, end = tf.reduce_min(parts[:, :2], axis=0), tf.reduce_max(parts[:, :2] + parts[:, 2:], axis=0)
    image = decode.decode_part(encoded, tf.concat([corner, end - corner], axis=0))
    tops_and_lefts, sides = tf.unstack(parts[:, :2] - corner), tf.unstack(parts[:, 2:])
    return tf.stack([decode.resize(tf.slice(image, [*tf.unstack(start), 0], [*tf.unstack(side), 3]), size, antialias)
                     for start, side in zip(tops_and_lefts, sides)])


def mirror_last(views: tf.Tensor) -> tf.Tensor:
    """Of [B, 16, S, S, C] those of MIRRORED_AREAS left to right; for the device."""
    straight = len(VIEW_AREAS)
    return tf.concat([views[:, :straight], tf.reverse(views[:, straight:], axis=[3])], axis=1)


def squares(height: tf.Tensor, width: tf.Tensor, counts: tf.Tensor, areas: Sequence[float], places: tf.Tensor) -> tf.Tensor:
    """Squares of SIDE times the mask's area times each of `areas`, cut at the picture's edge: int32 [n, 4].

    Args:
        height, width: the picture's, int scalars.
        counts: as of `random_square`.
        areas: n factors.
        places: float64 [n, 2]: where in the order of the mask's pixels by rows, and by columns, a centre's row and column
            are taken, 0 to 1.
    """
    shape = tf.cast(tf.stack([height, width]), tf.float64)
    counts = tf.cast(counts, tf.float64)
    cells = counts.shape[-1]
    pixels = tf.reduce_sum(counts[0]) * tf.reduce_prod(shape) / cells**2
    half = tf.sqrt(SIDE * tf.constant(areas, tf.float64) * pixels)[:, tf.newaxis] / 2
    centres = tf.stack([_quantiles(counts[axis], places[:, axis]) for axis in range(2)], axis=1) * shape / cells
    start = tf.clip_by_value(tf.round(centres - half), 0.0, shape - 1)
    end = tf.maximum(tf.minimum(tf.round(centres + half), shape), start + 1)
    parts = tf.concat([start, end - start], axis=1)
    whole = tf.concat([tf.zeros([2], tf.float64), shape], axis=0)
    return tf.cast(tf.where(pixels < LEAST_PIXELS, tf.broadcast_to(whole, tf.shape(parts)), parts), tf.int32)


def _places(seed: tf.Tensor, count: int) -> tf.Tensor:
    row_seed, column_seed = seeds.split(seed, 2)
    return tf.stack([tf.random.stateless_uniform([count], one, *MIDDLE, tf.float64) for one in (row_seed, column_seed)],
                    axis=1)


def _quantiles(counts: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Where, in cells from the start, those shares of a mask's pixels lie behind one; 0s for an empty mask.

    Args: counts: float64 [cells]; places: float64 [n], at least 0 and below 1.
    """
    behind = tf.cumsum(counts)
    wanted = places * behind[-1]
    cell = tf.reduce_sum(tf.cast(behind <= wanted[:, tf.newaxis], tf.int32), axis=1)
    cell = tf.minimum(cell, counts.shape[0] - 1)
    before = tf.gather(tf.concat([[0.0], behind], axis=0), cell)
    # Within a row of cells the pixels' rows follow each other evenly.
    return tf.cast(cell, tf.float64) + tf.math.divide_no_nan(wanted - before, tf.gather(counts, cell))
