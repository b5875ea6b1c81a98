"""The numbers of tf.random.stateless_uniform on a CPU, for a batch of seeds and on any device.

A TPU's own generator is another, and takes one seed at a time. Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3": Philox 4x32-10, as TensorFlow counts.
"""

import tensorflow as tf

_FACTORS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_PER_COUNT = 4  # numbers


def stream(seed: tf.Tensor) -> tf.Tensor:
    """Where the numbers of a seed, int32 or int64 [2], begin: uint32 [6], two of the key and four of the counter."""
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    return tf.reshape(tf.bitcast(tf.concat([key, counter], axis=0), tf.uint32), [6])


def noise(streams: tf.Tensor, count: int) -> tf.Tensor:
    """Of each stream, uint32 [batch, 6], what stateless_uniform([count], seed, 0, 256, tf.int32) is: int32 [batch, count]."""
    words = [streams[:, word, tf.newaxis] for word in range(6)]
    key, counter = words[:2], _counted(words[2:], -(-count // _PER_COUNT))
    for _ in range(_ROUNDS):
        (high, low), (other_high, other_low) = (_product(factor, counter[2 * half]) for half, factor in enumerate(_FACTORS))
        counter = [other_high ^ counter[1] ^ key[0], other_low, high ^ counter[3] ^ key[1], low]
        key = [word + tf.constant(step, tf.uint32) for word, step in zip(key, _KEY_STEPS)]
    numbers = tf.reshape(tf.stack(counter, axis=-1), [streams.shape[0], -1])[:, :count]
    return tf.cast(numbers & tf.constant(255, tf.uint32), tf.int32)


def _counted(counter: list[tf.Tensor], counts: int) -> list[tf.Tensor]:
    """The four words of a counter, uint32 [batch, 1], and those that come after it: uint32 [batch, counts]."""
    further = tf.cast(tf.range(counts)[tf.newaxis], tf.uint32)
    counted = []
    for word in counter:
        added = word + further
        further = tf.cast(added < word, tf.uint32)  # into the next word
        counted.append(added)
    return counted


def _product(factor: int, word: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(upper, lower 32 bits)."""
    product = tf.cast(word, tf.uint64) * tf.constant(factor, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.uint32), tf.cast(product, tf.uint32)
