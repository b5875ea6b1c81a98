"""Writes planned shards: every picture is read, decoded once, and put into a record or set aside with a reason."""

from concurrent.futures import ThreadPoolExecutor
import dataclasses
import hashlib
import math
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Optional, Sequence

from absl import logging
import tensorflow as tf

from dataset_tools import files, parallel, source_pictures, standing
from dataset_tools.image_bytes import prepare
from dataset_tools.shard_plan import PlannedShard
from dataset_tools.table import MISSING, Example
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
    key: str  # see standing.key_of


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


def make_tasks(planned: list[PlannedShard], classes: list[tuple[str, str]], data_dir: str, out_dir: str,
               max_side: int, short_side: int) -> list[ShardTask]:
    """A task for each of the shards."""
    names = [name for _, name in classes]
    tasks = []
    for one in planned:
        texts = tuple(tuple(names[label] for label in example.labels) for example in one.examples)
        key = standing.key_of(one, texts, data_dir, max_side, short_side)
        tasks.append(ShardTask(one, texts, data_dir, out_dir, max_side, short_side, key))
    return tasks


def standing_shards(tasks: Sequence[ShardTask]) -> dict[str, WrittenShard]:
    """Those of the shards, by file, that an unfinished run has written whole, from the same pictures."""
    with ThreadPoolExecutor() as pool:  # a digest lets go of the interpreter
        found = zip(tasks, pool.map(_standing, tasks))
        return {task.planned.file: written for task, written in found if written}


def _standing(task: ShardTask) -> Optional[WrittenShard]:
    path = files.join(task.out_dir, task.planned.file)
    told = standing.found(path, task.key)
    try:
        written = told and WrittenShard(schema.Shard(**{**told["shard"], "set_aside": ()}),
                                        *({int(one): text for one, text in told[name].items()}
                                          for name in ("rejected", "damaged")))
    except (KeyError, TypeError, ValueError, AttributeError):  # edited by hand
        return None
    if not written or files.size_of(path) != written.shard.bytes or files.sha256_of(path) != written.shard.sha256:
        return None
    missing = (task.planned.examples[position].path for position, reason in written.rejected.items() if reason == MISSING)
    come = any(files.size_of(files.join(task.data_dir, one)) is not None for one in missing)
    return None if come else written


def write_shards(tasks: Sequence[ShardTask], written: Mapping[str, WrittenShard], workers: int) -> list[WrittenShard]:
    """Writes all shards but those that are `written`, in parallel; the bytes do not depend on `workers`.

    Raises:
      UserError: where a worker died or a shard can't be written.
    """
    left = [task for task in tasks if task.planned.file not in written]
    if written:
        logging.info("%d of %d shards stand already: going on with the others", len(written), len(tasks))
    total = sum(len(task.planned.examples) for task in left)
    command.begin_work()
    made = dict(zip((task.planned.file for task in left),
                    parallel.run(write_shard, left, workers, total, "pictures into shards")))
    return [{**written, **made}[task.planned.file] for task in tasks]


def write_shard(task: ShardTask) -> WrittenShard:
    """Writes one shard, and then the note that it stands. Raises UserError."""
    planned = task.planned

    def record(position: int, example: Example) -> tuple[bytes, str]:
        prepared = prepare(source_pictures.read(task.data_dir, example), task.max_side, task.short_side)
        row = planned.first_row + position
        return make_record(example, row, prepared, task.label_texts[position]), prepared.remark

    path = files.join(task.out_dir, planned.file)
    rejected, damaged, size, digest = write_whole(path, planned.examples, record)
    records = len(planned.examples) - len(rejected)
    shard = schema.Shard(planned.file, planned.split, planned.fold, planned.first_row, records, size, digest)
    standing.note(path, task.key, {"shard": dataclasses.asdict(shard), "rejected": rejected, "damaged": damaged})
    return WrittenShard(shard, rejected, damaged)


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
