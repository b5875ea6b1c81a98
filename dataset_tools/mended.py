"""Pictures of adopted shards that are not as ours would be: turned, shrunk or encoded anew, in shards of our own.

The record stays as it is but for its picture, and of the same kind, so that it is read in the same way. In the shard that
it comes from it is set aside.
"""

import hashlib
from typing import NamedTuple, Optional, Sequence

import tensorflow as tf

from dataset_tools import adopted_records, files, shard_writer
from dataset_tools.image_bytes import prepare
from dataset_tools.table import Example
from pipeline.pictures.prepare import Prepared
from pipeline.records import schema
from pipeline.records.schema import Key, RecordKind

_SHARD_BYTES = 128 << 20  # of pictures as they were


class Record(NamedTuple):
    """One record whose picture is to be mended."""

    path: str         # of its shard
    compression: str
    position: int     # in it
    size: int         # bytes of the picture
    example: Example


class Task(NamedTuple):
    """A shard to be written."""

    file: str
    split: str
    fold: Optional[int]
    kind: str
    records: tuple[Record, ...]  # by shard and position
    out_dir: str
    max_side: int


class Written(NamedTuple):
    records: int
    size: int                 # bytes
    sha256: str
    rejected: dict[int, str]  # reasons of those that could not be mended, by position in the task
    damaged: dict[int, str]   # likewise, of those that were taken as far as they go


def plan(to_mend: dict[tuple[str, Optional[int]], list[Record]], kind: str, out_dir: str, max_side: int) -> list[Task]:
    """Cuts the records of each (split, fold) into shards."""
    tasks = []
    for (split, fold), found in to_mend.items():
        parts: list[list[Record]] = []
        size = _SHARD_BYTES
        for record in found:
            if size >= _SHARD_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(record)
            size += record.size
        stem = f"{split}.mended" if fold is None else f"{split}.fold.{fold}.mended"
        names = (f"{stem}.tfrecord-{number:05d}-of-{len(parts):05d}" for number in range(len(parts)))
        tasks += [Task(name, split, fold, kind, tuple(part), out_dir, max_side) for name, part in zip(names, parts)]
    return tasks


def write(task: Task) -> Written:
    """Writes one shard. Raises UserError."""
    kind = schema.RECORD_KINDS[task.kind]

    def record(_: int, serialized: bytes) -> tuple[bytes, str]:
        features = adopted_records.parse(serialized)
        prepared = prepare(features[kind.image].bytes_list.value[0], task.max_side)
        return _with_picture(serialized, kind, prepared), prepared.remark

    path = files.join(task.out_dir, task.file)
    rejected, damaged, size, digest = shard_writer.write_whole(path, _serialized(task.records), record)
    return Written(len(task.records) - len(rejected), size, digest, rejected, damaged)


def _serialized(records: Sequence[Record]):
    """The records as they lie in their shards."""
    wanted: dict[tuple[str, str], list[int]] = {}
    for record in records:
        wanted.setdefault((record.path, record.compression), []).append(record.position)
    for (path, compression), positions in wanted.items():
        left = iter(positions)
        awaited = next(left)
        for position, serialized in enumerate(adopted_records.records(path, compression)):
            if position == awaited:
                yield serialized
                awaited = next(left, None)
                if awaited is None:
                    break


def _with_picture(serialized: bytes, kind: RecordKind, prepared: Prepared) -> bytes:
    """The record with another picture, and with what it says of it."""
    message = tf.train.Example.FromString(serialized)
    features = message.features.feature
    features[kind.image].bytes_list.value[:] = [prepared.encoded]
    about = {Key.HEIGHT: [prepared.height], Key.WIDTH: [prepared.width], Key.FORMAT: [b"jpeg"],
             Key.SHA256: [hashlib.sha256(prepared.encoded).hexdigest().encode()]}
    for key, value in about.items():
        if key in features:
            listed = features[key].int64_list if isinstance(value[0], int) else features[key].bytes_list
            listed.value[:] = value
    return message.SerializeToString(deterministic=True)
