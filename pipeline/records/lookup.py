"""Some records of a part, by their rows: a few of many, without what lies between."""

import dataclasses
from typing import Any, Collection, Iterator, NamedTuple, Sequence

import tensorflow as tf

from pipeline.records import damage, input as inputs, reading
from pipeline.records.dataset import Part


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

    Of a file that is not compressed only lengths are read up to a record. Raises UserError as damage.rows_by_shard.
    """
    places = list(_places(part, set(rows)))
    if not places:
        return {}
    dtypes = (tf.string, tf.int64, tf.string, tf.int64, tf.int64, tf.int64)
    columns = tuple(tf.constant(column, dtype) for column, dtype in zip(zip(*places), dtypes))
    records = tf.data.Dataset.from_tensor_slices(columns).interleave(
        lambda *place: reading.records(*place).take(1), num_parallel_calls=tf.data.AUTOTUNE)
    return {int(one["row"]): one for one in records.map(inputs.parser(part)).as_numpy_iterator()}


def _places(part: Part, rows: Collection[int]) -> Iterator[_Place]:
    rows_of = damage.rows_by_shard(dataclasses.replace(part.data, lost=frozenset()))  # what is lost is in the file too
    for shard, path in zip(part.shards, part.paths):
        for position, row in enumerate(rows_of(shard)):
            if row in rows:
                segment = max((one for one in shard.segments if one.position <= position), key=lambda one: one.position)
                count = shard.records if segment.records < 0 else segment.records
                yield _Place(path, shard.first_row + segment.position, shard.compression, segment.offset, count,
                             position - segment.position)
