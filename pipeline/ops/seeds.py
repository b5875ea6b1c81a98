"""Stateless seeds: every random choice is a function of (seed, epoch, example), never of a thread or a run."""

from typing import Optional, Union

import tensorflow as tf

Scalar = Union[int, tf.Tensor]


def example_seed(seed: int, epoch: Scalar, row: Scalar, copy: Optional[Scalar] = None) -> tf.Tensor:
    """The seed of one example in one epoch.

    Args:
        seed: the run's `--random_seed`.
        epoch: int or integer scalar tensor.
        row: int or integer scalar tensor, the example's row index.
        copy: int or integer scalar tensor, which copy of the example, where an epoch may show it several times.

    Returns:
        int64 [2], for the `seed` argument of `tf.random.stateless_*` and of everything in `pipeline.ops`.
    """
    key = tf.constant([seed, 0], tf.int64)
    # Folding, not adding: (epoch 1, row 0) must not meet (epoch 0, row 1).
    for number in (epoch, row) if copy is None else (epoch, row, copy):
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int64), alg="philox")
    return key


def split(seed: tf.Tensor, n: int) -> list[tf.Tensor]:
    """`n` independent seeds, int32 or int64 [2] each, out of one such seed; the given one is then used up."""
    return tf.unstack(tf.random.experimental.stateless_split(seed, n, alg="philox"), num=n)
