"""Reads a shard that others wrote: which kind it is, what every record holds, and which pictures are to be mended."""

import math
from typing import NamedTuple, Optional

import tensorflow as tf
from google.protobuf.message import DecodeError

from dataset_tools import compression as compressions, files, parallel
from dataset_tools.image_bytes import check
from dataset_tools.table import Example
from pipeline.errors import UserError
from pipeline.pictures import upright
from pipeline.pictures.bad import BadImage
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
    mend: dict[int, int]         # bytes of the picture, by position, of those that must be turned, shrunk or encoded anew
    texts: dict[int, str]        # class name (or id) by label
    sha256: str
    compression: str             # as schema.Shard has it


def read_shard(source) -> ReadShard:
    """Reads every record of an `adopt.Source` once.

    Raises:
      UserError: naming a shard that is truncated, or whose records are of no known kind.
    """
    kind = None
    examples, reasons, mend, texts = [], [], {}, {}
    done = 0  # bytes
    compression = compressions.of(source.path)
    for position, serialized in enumerate(records(source.path, compression)):
        features = parse(serialized)
        if features is None:
            examples.append(_unknown(source, position))
            reasons.append("not a tf.train.Example")
        else:
            kind = kind or _kind_of(features, source.path)
            example, reason = _example(features, RECORD_KINDS[kind], source, position)
            examples.append(example)
            reasons.append(reason)
            picture = _bytes(features, RECORD_KINDS[kind].image)
            if not reason and not _is_fit(picture, source.max_side):
                mend[position] = len(picture)
            for label, text in zip(_raw_labels(features, RECORD_KINDS[kind].labels), _texts(features)):
                texts.setdefault(label, text)
        if not compression:
            parallel.advance(mib(done + _FRAME_BYTES + len(serialized)) - mib(done))
        done += _FRAME_BYTES + len(serialized)
    try:
        size = compressions.size_of(source.path, compression) if compression else source.size
        digest = files.sha256_of(source.path)
    except OSError as error:
        raise UserError(f"can't read {source.path}: {error}") from error
    if done != size:  # TensorFlow takes a cut inside a record's length for the end of the file
        raise _damaged(source.path)
    if compression:
        parallel.advance(mib(source.size))
    return ReadShard(kind, examples, reasons, mend, texts, digest, compression)


def _is_fit(encoded: bytes, max_side: int) -> bool:
    """Whether a picture may stay as it is: a JPEG (gray ones too) that is upright, not larger than `max_side` and decoded by
    TensorFlow without a remark."""
    try:
        image = upright.open_header(encoded)
    except BadImage:
        return False
    return (image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") and not (max_side and max(image.size) > max_side)
            and upright.orientation(image) == 1 and check(encoded).keeps)


def mib(size: int) -> int:
    """MiB begun by so many bytes: the unit of progress."""
    return -(-size >> 20)


def _damaged(path: str) -> UserError:
    packed = compressions.foreign(path)
    if packed:
        return UserError(f"shard {path} is compressed by {packed}; unpack it first")
    return UserError(f"shard {path} is truncated or corrupt; fetch it again")


def records(path: str, compression: str):
    """Every record of a shard. Raises UserError naming it where it is damaged or can't be read."""
    try:
        for record in tf.data.TFRecordDataset(path, compression):
            yield record.numpy()
    except tf.errors.DataLossError as error:
        raise _damaged(path) from error
    except tf.errors.OpError as error:
        raise UserError(f"can't read shard {path}: {error.message}") from error


def parse(serialized: bytes) -> Optional[dict[str, tf.train.Feature]]:
    """The features of a record; None where it is no tf.train.Example."""
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
    if not example.labels and example.split != "test":
        return "no label"
    return ""
