"""Writes planned shards: every picture is read, decoded once, and put into a record or set aside with a reason."""

import hashlib
import math
from typing import Any, Callable, Iterable, NamedTuple

import tensorflow as tf

from dataset_tools import files, parallel, source_pictures
from dataset_tools.image_bytes import prepare
from dataset_tools.shard_plan import PlannedShard
from dataset_tools.table import Example
from pipeline import command, files as whole_files
from pipeline.errors import UserError
from pipeline.pictures.bad import BadImage
from pipeline.pictures.prepare import Prepared
from pipeline.records import schema
from pipeline.records.schema import Key


class ShardTask(NamedTuple):
    planned: PlannedShard
    label_texts: tuple[tuple[str, ...], ...]  # class names of every example
    data_dir: str
    out_dir: str
    max_side: int
    short_side: int


class WrittenShard(NamedTuple):
    shard: schema.Shard
    rejected: dict[int, str]   # reason by position in the plan
    damaged: dict[int, str]    # likewise, of pictures that were taken as far as they go: what the decoder remarked


class Contents(NamedTuple):
    """What stands in a shard file that was written."""

    rejected: dict[int, str]   # as WrittenShard's, by the number of the picture
    damaged: dict[int, str]
    size: int                  # bytes
    digest: str                # SHA-256


def write_shards(planned: list[PlannedShard], classes: list[tuple[str, str]], data_dir: str, out_dir: str,
                 max_side: int, short_side: int, workers: int) -> list[WrittenShard]:
    """Writes all shards, in parallel; the bytes do not depend on `workers`.

    Raises:
      UserError: where a worker died or a shard can't be written.
    """
    names = [name for _, name in classes]
    tasks = [ShardTask(one, tuple(tuple(names[label] for label in example.labels) for example in one.examples),
                       data_dir, out_dir, max_side, short_side) for one in planned]
    total = sum(len(one.examples) for one in planned)
    command.begin_work()
    return parallel.run(write_shard, tasks, workers, total, "pictures into shards")


def write_shard(task: ShardTask) -> WrittenShard:
    """Writes one shard. Raises UserError."""
    planned = task.planned

    def record(position: int, example: Example) -> tuple[bytes, str]:
        prepared = prepare(source_pictures.read(task.data_dir, example), task.max_side, task.short_side)
        row = planned.first_row + position
        return make_record(example, row, prepared, task.label_texts[position]), prepared.remark

    rejected, damaged, size, digest = write_whole(files.join(task.out_dir, planned.file), planned.examples, record)
    records = len(planned.examples) - len(rejected)
    return WrittenShard(
        schema.Shard(planned.file, planned.split, planned.fold, planned.first_row, records, size, digest), rejected,
        damaged)


def write_whole(path: str, pictures: Iterable[Any], record: Callable[[int, Any], tuple[bytes, str]]) -> Contents:
    """Writes the records of all usable pictures under a temporary name, then renames it.

    Args:
      record: (number, picture) → (its serialized record, what the decoder remarked or ''); raises BadImage.

    Raises UserError where the file can't be written.
    """
    rejected: dict[int, str] = {}
    damaged: dict[int, str] = {}
    with whole_files.replacing(path) as temporary:
        try:
            with tf.io.TFRecordWriter(temporary) as writer:
                for number, picture in enumerate(pictures):
                    try:
                        serialized, remark = record(number, picture)
                    except BadImage as reason:
                        rejected[number] = str(reason)
                    else:
                        writer.write(serialized)
                        if remark:
                            damaged[number] = remark
                    parallel.advance()
        except tf.errors.OpError as error:  # which would not survive the way back from a worker
            raise UserError(f"can't write {path}: {error.message}") from error
        return Contents(rejected, damaged, files.size_of(temporary), files.sha256_of(temporary))


def _bytes(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _float(value: float) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


def make_record(example: Example, row: int, prepared: Prepared, label_texts: tuple[str, ...]) -> bytes:
    """A serialized tf.train.Example with every key of `schema.Key`; the same input gives the same bytes."""
    valid = not (math.isnan(example.latitude) or math.isnan(example.longitude))
    features = {
        Key.ENCODED: _bytes(prepared.encoded),
        Key.HEIGHT: _ints(prepared.height),
        Key.WIDTH: _ints(prepared.width),
        Key.FILENAME: _bytes(files.printable(example.path).encode()),
        Key.SOURCE_ID: _bytes(files.printable(example.id).encode()),
        Key.SHA256: _bytes(hashlib.sha256(prepared.encoded).hexdigest().encode()),
        Key.FORMAT: _bytes(b"jpeg"),
        Key.LATITUDE: _float(example.latitude / 90 if valid else 0.0),
        Key.LONGITUDE: _float(example.longitude / 180 if valid else 0.0),
        Key.DATE: _float(0.0 if math.isnan(example.date) else example.date),
        Key.VALID: _float(float(valid)),
        Key.LABELS: _ints(*example.labels),
        Key.LABEL_TEXTS: _bytes(*(files.printable(text).encode() for text in label_texts)),
        Key.ROW: _ints(row),
    }
    message = tf.train.Example(features=tf.train.Features(feature={key: features[key] for key in sorted(features)}))
    return message.SerializeToString(deterministic=True)  # a proto's map has no order of its own
