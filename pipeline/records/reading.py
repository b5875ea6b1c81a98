"""The records of a part's shards as they lie: shard by shard or, of a damaged one, segment by segment; from files or a cache."""

import dataclasses
from typing import Optional

import tensorflow as tf

from pipeline.records.cache import RecordCache
from pipeline.records.dataset import Part

_READ_BYTES = 256 << 10  # of a file at once, as tf.data.TFRecordDataset does


@dataclasses.dataclass(frozen=True)
class Segments:
    """What is read in one go: a column for each of its properties, in file order.

    Attributes:
      path: string [n].
      first_row: int64 [n], the row by position of its first record.
      compression: string [n].
      offset: int64 [n], bytes before its first record (unpacked where the file is compressed).
      count: int64 [n], its records.
      examples: those that were not set aside, by segment.
    """

    path: tf.Tensor
    first_row: tf.Tensor
    compression: tf.Tensor
    offset: tf.Tensor
    count: tf.Tensor
    examples: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.examples)

    def columns(self) -> tuple[tf.Tensor, ...]:
        """In the order of the arguments of `records`."""
        return self.path, self.first_row, self.compression, self.offset, self.count


def segments(part: Part) -> Segments:
    found, examples = [], []
    for path, shard in zip(part.paths, part.shards):
        for one in shard.segments:
            count = shard.records if one.records < 0 else one.records
            first_row = shard.first_row + one.position
            found.append((path, first_row, shard.compression, one.offset, count))
            examples.append(count - sum(first_row <= row < first_row + count for row in shard.set_aside))
    paths, first_rows, compressions, offsets, counts = zip(*found)
    return Segments(tf.constant(paths), tf.constant(first_rows, tf.int64), tf.constant(compressions),
                    tf.constant(offsets, tf.int64), tf.constant(counts, tf.int64), tuple(examples))


def records(path: tf.Tensor, first_row: tf.Tensor, compression: tf.Tensor, offset: tf.Tensor, count: tf.Tensor,
            skipped: tf.Tensor = 0, cache: Optional[RecordCache] = None) -> tf.data.Dataset:
    """(row by position int64, serialized record) of a segment without its first `skipped` records; all scalars.

    From a cache, which may be given it now.
    """
    if cache:
        return cache.records(lambda: _read(path, compression, offset).take(count), first_row, count).skip(skipped)
    # To skip records before anything is made of them is to read their lengths.
    return _read(path, compression, offset).skip(skipped).take(count - skipped).enumerate(first_row + skipped)


def _read(path: tf.Tensor, compression: tf.Tensor, offset: tf.Tensor) -> tf.data.Dataset:
    """The records of a file from a byte on. (tf.data.TFRecordDataset begins at the first one alone.)"""
    variant = tf.raw_ops.TFRecordDatasetV2(filenames=path[tf.newaxis], compression_type=compression,
                                           buffer_size=_READ_BYTES, byte_offsets=offset[tf.newaxis])
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))
