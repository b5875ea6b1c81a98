"""Equalize on an accelerator, which counts and looks up one thing at a time: histogram and look-up as matrix products.

A value is 16 · high + low, and each of the two a vector with a 1 at its place. All highs times all lows are the histogram;
a high times a table of 16 × 16, of which its low takes one, is the look-up. (In bfloat16, which has all of 0 to 255.)
"""

import tensorflow as tf

from pipeline.ops import randaugment

_DIGITS = 16


def equalizing(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 [batch, 3, height, width] → the tables that make each channel's histogram flat, uint8 [batch, 3, 256]."""
    counts = tf.cast(tf.round(_counts(_flat(pixels))), tf.int32)
    return tf.reshape(randaugment.equalizing(tf.reshape(counts, [-1, 256])), [*pixels.shape[:2], 256])


def look_up(tables: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """What uint8 [batch, 3, 256] tables have at uint8 [batch, 3, …]: uint8 of the pixels' shape."""
    high, low = _one_hot(_flat(pixels))
    rows = tf.reshape(tf.cast(tables, tf.bfloat16), [*tables.shape[:2], _DIGITS, _DIGITS])
    found = tf.reduce_sum(tf.einsum("bcph,bchl->bcpl", high, rows) * low, axis=-1)
    return tf.reshape(tf.cast(found, tf.uint8), pixels.shape)


def _flat(pixels: tf.Tensor) -> tf.Tensor:
    return tf.reshape(pixels, [*pixels.shape[:2], -1])


def _counts(flat: tf.Tensor) -> tf.Tensor:
    """float32 [batch, 3, 256] of uint8 [batch, 3, n]."""
    high, low = (tf.cast(digit, tf.float32) for digit in _one_hot(flat))  # sums go beyond what bfloat16 could count
    return tf.reshape(tf.einsum("bcph,bcpl->bchl", high, low), [*flat.shape[:2], 256])


def _one_hot(flat: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """bfloat16 [batch, 3, n, 16] each, of the high and the low half of each value's bits."""
    values = tf.cast(flat, tf.int32)[..., tf.newaxis]
    digits = tf.range(_DIGITS)
    return tuple(tf.cast(tf.equal(digit, digits), tf.bfloat16) for digit in (values // _DIGITS, values % _DIGITS))
