"""Some records of a part, by their rows: a few of many, without what lies between."""

from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from pipeline.records import input as inputs, reading
from pipeline.records.dataset import Part
from pipeline.records.schema import Shard


class _Place(NamedTuple):
    """Where a record lies: the arguments of reading.records that lead to it."""

    path: str
    first_row: int
    compression: str
    offset: int
    count: int
    skipped: int


def examples_at(part: Part, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
    """By row, the parsed records (input.parse_record, as NumPy values) of those rows that the part has.

    Of a file that is not compressed only lengths are read up to a record.
    """
    places = list(_places(part, sorted(set(rows))))
    if not places:
        return {}
    dtypes = (tf.string, tf.int64, tf.string, tf.int64, tf.int64, tf.int64)
    columns = tuple(tf.constant(column, dtype) for column, dtype in zip(zip(*places), dtypes))
    records = tf.data.Dataset.from_tensor_slices(columns).interleave(
        lambda *place: reading.records(*place).take(1), num_parallel_calls=tf.data.AUTOTUNE)
    return {int(one["row"]): one for one in records.map(inputs.parser(part)).as_numpy_iterator()}


def _places(part: Part, rows: Sequence[int]) -> Iterator[_Place]:
    known = part.data.rows()
    for shard, path in zip(part.shards, part.paths):
        for row in rows:
            if shard.first_row <= row < _end(part, shard):
                position = _position(part, shard, row, known)
                segment = max((one for one in shard.segments if one.position <= position), key=lambda one: one.position)
                count = shard.records if segment.records < 0 else segment.records
                yield _Place(path, shard.first_row + segment.position, shard.compression, segment.offset, count,
                             position - segment.position)


def _end(part: Part, shard: Shard) -> int:
    """The first row behind a shard's: set-aside pictures leave gaps."""
    behind = [one.first_row for one in part.data.manifest.shards if one.first_row > shard.first_row]
    return min(behind, default=np.iinfo(np.int64).max)


def _position(part: Part, shard: Shard, row: int, known: np.ndarray) -> int:
    """The number of a row's record in its file. Rows of records that carry them skip what was set aside, as the file does."""
    if not part.data.record_kind.has_row:
        return row - shard.first_row
    lost = len(part.data.lost)  # are in the file, and are not among the examples
    if lost:
        known = np.union1d(known, np.fromiter(part.data.lost, np.int64, lost))
    return int(((known >= shard.first_row) & (known < row)).sum())
