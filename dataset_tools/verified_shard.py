"""Reads a shard as training will, and beyond: every checksum, every key, every picture, against what the tables tell."""

import hashlib
import math
from typing import NamedTuple, Optional

import numpy as np

from dataset_tools import adopted_records, files, parallel
from dataset_tools.faults import Faults
from dataset_tools.image_bytes import decode_jpeg
from pipeline.errors import UserError
from pipeline.pictures import upright
from pipeline.pictures.bad import BadImage
from pipeline.records import frames, schema
from pipeline.records.schema import Key

DIGEST_BYTES = 16


class Row(NamedTuple):
    """What examples.csv tells of an example."""

    row: int
    id: str
    labels: str


class Task(NamedTuple):
    path: str
    shard: schema.Shard
    kind: str                 # of schema.RECORD_KINDS
    classes: int
    rows: tuple[Row, ...]     # of examples.csv that are this shard's


class Verified(NamedTuple):
    """What was found in a shard."""

    faults: Faults
    rows: np.ndarray      # int64 [examples]: of those that could be read
    digests: np.ndarray   # uint8 [examples, DIGEST_BYTES]: of their pictures' bytes


def verify_shard(task: Task) -> Verified:
    """Reads the whole file, whatever is wrong with it. Raises UserError where it can't be read."""
    found = Verified(Faults(), np.empty(0, np.int64), np.empty((0, DIGEST_BYTES), np.uint8))
    size = files.size_of(task.path)
    if size is None:
        found.faults.add("missing shards", task.path)
        parallel.advance(task.shard.records)
        return found
    if not size:
        found.faults.add("empty shards", task.path)
        parallel.advance(task.shard.records)
        return found
    if size != task.shard.bytes:
        found.faults.add("shards of another size than they were written with (cut short?)",
                         f"{task.path} has {size:,} bytes instead of {task.shard.bytes:,}")
    try:
        if files.sha256_of(task.path) != task.shard.sha256:
            found.faults.add("shards whose contents are not those that were written (SHA-256)", task.path)
        with files.os_errors(task.path), files.open_file(task.path) as file:
            return _read(task, frames.unpacked(file, task.shard.compression), found.faults)
    except OSError as error:
        raise UserError(f"can't read {task.path}: {error}") from error


def _read(task: Task, file, faults: Faults) -> Verified:
    reader = _Reader(task, faults)
    count = 0
    for frame in frames.frames(file):
        where = f"{task.path} at byte {frame.offset:,}"
        if frame.state == frames.WHOLE:
            reader.take(frame, where)
        else:
            faults.add("damaged records", f"{where}: {frame.state}")
        count += 1
        parallel.advance()
    if count != task.shard.records:
        faults.add("shards with another number of records than the manifest tells",
                   f"{task.path} has {count:,} instead of {task.shard.records:,}")
    missing = set(reader.told).difference(reader.rows)
    if missing:
        first = min(missing)
        faults.add("examples whose record is damaged or not there", f"{reader.told[first].id} (row {first}) of {task.path}",
                   len(missing))
    return Verified(faults, np.array(reader.rows, np.int64),
                    np.frombuffer(b"".join(reader.digests), np.uint8).reshape(-1, DIGEST_BYTES))


class _Reader:
    """Takes the whole records of a shard, and what is wrong with them."""

    def __init__(self, task: Task, faults: Faults):
        self._task, self._faults = task, faults
        self._kind = schema.RECORD_KINDS[task.kind]
        self._set_aside = frozenset(task.shard.set_aside)
        self.told = {one.row: one for one in task.rows}
        self.rows: list[int] = []
        self.digests: list[bytes] = []

    def take(self, frame: frames.Frame, where: str) -> None:
        row = self._task.shard.first_row + frame.position
        if not self._kind.has_row and row in self._set_aside:
            return
        features = adopted_records.parse(frame.record)
        wrong = "is no tf.train.Example" if features is None else self._lacking(features)
        if wrong:
            self._faults.add("records that can't be read", f"{where} {wrong}")
            return
        if self._kind.has_row:
            row = features[Key.ROW].int64_list.value[0]
        encoded = features[self._kind.image].bytes_list.value[0]
        self._check_told(row, features, where)
        self._check_picture(features, encoded, where)
        self._check_place(features, where)
        self.rows.append(row)
        self.digests.append(hashlib.sha256(encoded).digest()[:DIGEST_BYTES])

    def _lacking(self, features) -> str:
        wanted = [self._kind.image, self._kind.source_id, *([Key.ROW] if self._kind.has_row else [])]
        for key in wanted:
            values = key in features and (features[key].int64_list if key == Key.ROW else features[key].bytes_list).value
            if not values:
                return f"has no {key}"
        return ""

    def _check_told(self, row: int, features, where: str) -> None:
        """The record against examples.csv and the classes."""
        labels = list(features[self._kind.labels].int64_list.value) if self._kind.labels in features else []
        beyond = [label for label in labels if label >= self._task.classes]
        if beyond:
            self._faults.add("labels beyond the classes", f"{where}: {beyond[0]} of {self._task.classes} classes")
        told = self.told.get(row)
        if told is None:
            self._faults.add(f"records that {schema.EXAMPLES_FILE} has in another shard, or not at all",
                             f"{where}: row {row}")
            return
        own_id = files.printable(features[self._kind.source_id].bytes_list.value[0].decode("utf-8", "backslashreplace"))
        own_labels = " ".join(map(str, sorted({label for label in labels if label >= 0})))
        for what, own, others in (("id", own_id, told.id), ("labels", own_labels, _sorted(told.labels))):
            if own != others:
                self._faults.add(f"records of another {what} than {schema.EXAMPLES_FILE} tells",
                                 f"{where}: {own or 'none'}, not {others or 'none'} (row {row})")

    def _check_picture(self, features, encoded: bytes, where: str) -> None:
        size, wrong = _decoded(encoded)
        if size is None:
            self._faults.add("pictures that can't be decoded", f"{where}: {wrong}")
            return
        if Key.SHA256 in features and self._kind.has_row:  # of shards of others it may be the original's
            told = features[Key.SHA256].bytes_list.value
            if list(told) != [hashlib.sha256(encoded).hexdigest().encode()]:
                self._faults.add("pictures that are not those that were written (SHA-256)", where)
        sizes = [list(features[key].int64_list.value) for key in (Key.WIDTH, Key.HEIGHT) if key in features]
        if self._kind.has_row and sizes != [[size[0]], [size[1]]]:
            self._faults.add("pictures of another size than their records tell", f"{where}: {size[0]} × {size[1]}")

    def _check_place(self, features, where: str) -> None:
        if not self._kind.has_place:
            return
        found = [list(features[key].float_list.value) for key in (Key.LATITUDE, Key.LONGITUDE, Key.VALID) if key in features]
        if any(len(one) != 1 or not math.isfinite(one[0]) or abs(one[0]) > 1 for one in found):
            self._faults.add("places that are none", where)


def _sorted(labels: str) -> str:
    return " ".join(sorted(labels.split(), key=int)) if all(one.isdecimal() for one in labels.split()) else labels


def _decoded(encoded: bytes) -> tuple[Optional[tuple[int, int]], str]:
    """(width and height, '') of a picture that training's decoder takes; (None, why) of another."""
    try:
        upright.open_header(encoded)  # first: a header alone may ask for gigabytes
    except BadImage as error:
        return None, str(error)
    return decode_jpeg(encoded).size, "it is no JPEG that TensorFlow decodes"
