"""The records of a part's shards as they lie: shard by shard or, of a damaged one, segment by segment; from files or a cache."""

import dataclasses
from typing import Optional

import tensorflow as tf

from pipeline.records.cache import RecordCache
from pipeline.records.dataset import Part

_READ_BYTES = 256 << 10  # of a file at once, as tf.data.TFRecordDataset does


@dataclasses.dataclass(frozen=True)
class Segments:
    """What is read in one go, in file order.

    Attributes:
      columns: in the order of the arguments of `records`: path, string [n]; the row by position of the first record, int64
        [n]; compression, string [n]; the bytes before that record (unpacked where the file is compressed), int64 [n]; how
        many records, int64 [n].
      bounds: int64 [shards + 1], the segments of shard i are those from bounds[i] to bounds[i + 1].
    """

    columns: tuple[tf.Tensor, ...]
    bounds: tf.Tensor

    @property
    def are_shards(self) -> bool:
        """Whether each shard is read in one go, as none is damaged."""
        return self.bounds.shape[0] == self.columns[0].shape[0] + 1


def segments(part: Part) -> Segments:
    found, bounds = [], [0]
    for path, shard in zip(part.paths, part.shards):
        found += [(path, shard.first_row + one.position, shard.compression, one.offset,
                   shard.records if one.records < 0 else one.records) for one in shard.segments]
        bounds.append(len(found))
    dtypes = (tf.string, tf.int64, tf.string, tf.int64, tf.int64)
    columns = (tf.constant([one[number] for one in found], dtype) for number, dtype in enumerate(dtypes))
    return Segments(tuple(columns), tf.constant(bounds, tf.int64))


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
