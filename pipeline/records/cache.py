"""Encoded pictures kept in memory after they have been read once (`--cache`), and what they may take (`--ram_budget`).

By row, a shard at a time: one that has been read to its end is not opened again, and gives the same records in the same
order. So a cache changes neither the order of an epoch nor a pixel.
"""

import functools
import os
from typing import Callable, Optional

from absl import logging
import tensorflow as tf

from pipeline.records.dataset import Part

GIB = 1 << 30


class RecordCache:
    """The records of the shards that have been read so far."""

    def __init__(self):
        with tf.device("CPU:0"):
            self._records = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, "")

    def records(self, read: Callable[[], tf.data.Dataset], first_row: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
        """(row by position int64, serialized record) of a shard.

        Args:
            read: makes the dataset of its serialized records, where they are not kept yet.
            first_row, count: int64 scalars, of the first of them and of how many they are.
        """
        # They are kept in their order, so that with the last one all are there.
        kept = tf.not_equal(self._records.lookup(first_row + count - 1), "")
        once = tf.data.Dataset.range(tf.where(kept, tf.constant(0, tf.int64), 1))
        rows = tf.data.Dataset.range(first_row, first_row + tf.where(kept, count, 0))
        return once.flat_map(lambda _: read().enumerate(first_row).map(self._keep)).concatenate(rows.map(self._kept))

    def _kept(self, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return row, tf.ensure_shape(self._records.lookup(row), [])

    def _keep(self, row: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        self._records.insert(row, record)
        return row, record


def make(part: Part, kind: str, budget: int) -> Optional[RecordCache]:
    """A cache of a part's records; None where none is wanted, or where they don't fit, which is logged.

    Args:
        kind: none or memory.
        budget: bytes that the input pipeline may take (0: half of the machine's memory), half of which is for a cache.
    """
    if kind == "none":
        return None
    size, most = encoded_bytes(part), (budget or _memory() // 2) // 2
    if size > most:
        logging.info("--cache=%s: nothing is kept: the shards have %.3g GiB, and half of --ram_budget is %.3g", kind,
                     size / GIB, most / GIB)
        return None
    logging.info("--cache=%s: %.3g GiB of encoded pictures stay in memory once they are read", kind, size / GIB)
    return _cache_of(tuple(part.paths))


@functools.lru_cache(maxsize=1)
def _cache_of(paths: tuple[str, ...]) -> RecordCache:
    """One for all stages of a run, which read the same shards."""
    return RecordCache()


def left(budget: int, part: Part) -> int:
    """Bytes of a budget (0: none is set, and none comes back) that are not a cache's of that part."""
    return budget and budget - encoded_bytes(part)


def encoded_bytes(part: Part) -> int:
    """Of all its shards."""
    return sum(shard.bytes for shard in part.shards)


def _memory() -> int:
    """Bytes of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
