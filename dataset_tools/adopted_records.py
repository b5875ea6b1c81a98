"""Reads a shard that others wrote: which kind it is, and what every record holds."""

import math
from typing import NamedTuple, Optional

import tensorflow as tf
from google.protobuf.message import DecodeError

from dataset_tools import files, parallel
from dataset_tools.image_bytes import tf_jpeg_size
from dataset_tools.table import Example
from pipeline.errors import UserError
from pipeline.records.schema import RECORD_KINDS, Key, RecordKind

# Foreign kinds only: our own records have the keys of the first one, and are taken by position like it (the rows that
# they carry would collide where two folders are adopted together).
_KINDS = ("inat2021_solution", "turtle_recall_solution")
_TURTLE_TEXT = "label_id"


_FRAME_BYTES = 16  # of a record in its file: length and two checksums


class ReadShard(NamedTuple):
    kind: Optional[str]          # None: the shard is empty
    examples: list[Example]      # one per record
    reasons: list[str]           # why a record can't be used, '' where it can
    texts: dict[int, str]        # class name (or id) by label
    sha256: str


def read_shard(source) -> ReadShard:
    """Reads every record of an `adopt.Source` once.

    Raises:
      UserError: naming a shard that is truncated, or whose records are of no known kind.
    """
    kind = None
    examples, reasons, texts = [], [], {}
    done = 0  # bytes
    for position, serialized in enumerate(_records(source.path)):
        features = _parse(serialized)
        if features is None:
            examples.append(_unknown(source, position))
            reasons.append("not a tf.train.Example")
        else:
            kind = kind or _kind_of(features, source.path)
            example, reason = _example(features, RECORD_KINDS[kind], source, position)
            examples.append(example)
            reasons.append(reason)
            for label, text in zip(_raw_labels(features, RECORD_KINDS[kind].labels), _texts(features)):
                texts.setdefault(label, text)
        parallel.advance(mib(done + _FRAME_BYTES + len(serialized)) - mib(done))
        done += _FRAME_BYTES + len(serialized)
    if done != source.size:  # TensorFlow takes a cut inside a record's length for the end of the file
        raise _damaged(source.path)
    try:
        digest = files.sha256_of(source.path)
    except OSError as error:
        raise UserError(f"can't read {source.path}: {error}") from error
    return ReadShard(kind, examples, reasons, texts, digest)


def mib(size: int) -> int:
    """MiB begun by so many bytes: the unit of progress."""
    return -(-size >> 20)


def _damaged(path: str) -> UserError:
    return UserError(f"shard {path} is truncated or corrupt; fetch it again")


def _records(path: str):
    try:
        for record in tf.data.TFRecordDataset(path):
            yield record.numpy()
    except tf.errors.DataLossError as error:
        raise _damaged(path) from error
    except tf.errors.OpError as error:
        raise UserError(f"can't read shard {path}: {error.message}") from error


def _parse(serialized: bytes) -> Optional[dict[str, tf.train.Feature]]:
    try:
        return tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        return None


def _kind_of(features, path: str) -> str:
    for name in _KINDS:
        kind = RECORD_KINDS[name]
        if kind.image in features and kind.source_id in features:
            return name
    wanted = " or ".join(f"{RECORD_KINDS[name].image} and {RECORD_KINDS[name].source_id}" for name in _KINDS)
    raise UserError(f"shard {path} is of no known kind: its records have {', '.join(sorted(features))}, not {wanted}")


def _bytes(features, key: str) -> bytes:
    values = features[key].bytes_list.value if key in features else ()
    return values[0] if values else b""


def _text(features, key: str) -> str:
    return _bytes(features, key).decode("utf-8", "backslashreplace")


def _texts(features) -> list[str]:
    key = Key.LABEL_TEXTS if Key.LABEL_TEXTS in features else _TURTLE_TEXT
    values = features[key].bytes_list.value if key in features else ()
    return [one.decode("utf-8", "backslashreplace") for one in values]


def _float(features, key: str) -> float:
    values = features[key].float_list.value if key in features else ()
    return values[0] if values else math.nan


def _raw_labels(features, key: str) -> list[int]:
    return list(features[key].int64_list.value) if key in features else []


def _labels(features, key: str) -> tuple[int, ...]:
    return tuple(sorted({label for label in _raw_labels(features, key) if label >= 0}))  # -1: unknown


def _unknown(source, position: int) -> Example:
    return Example(f"record {position}", source.split, files.join(source.path, str(position)))


def _example(features, kind: RecordKind, source, position: int) -> tuple[Example, str]:
    """(example, reason): the reason is '' where the record can be used."""
    where = math.nan, math.nan
    date = math.nan
    if kind.has_place:
        if _float(features, Key.VALID) > 0.5:
            latitude, longitude = (_float(features, one) for one in (Key.LATITUDE, Key.LONGITUDE))
            if -1 <= latitude <= 1 and -1 <= longitude <= 1:
                where = latitude * 90, longitude * 180
        told = _float(features, Key.DATE)
        date = told if 0 < told <= 1 else math.nan  # 0 stands for unknown
    example = Example(
        _text(features, kind.source_id), source.split,
        _text(features, Key.FILENAME) or f"{source.path}/{position}", _labels(features, kind.labels), *where, date)
    return example, _reason(features, kind, example)


def _reason(features, kind: RecordKind, example: Example) -> str:
    encoded = _bytes(features, kind.image)
    if not example.id:
        return f"no {kind.source_id}"
    if files.has_control(example.id):
        return f"its {kind.source_id} holds control characters"
    if not encoded:
        return f"no {kind.image}"
    if not tf_jpeg_size(encoded):
        return "not a JPEG that TensorFlow can decode"
    if not example.labels and example.split != "test":
        return "no label"
    return ""
