"""What crosses the disk between dataset_tools and pipeline: record keys, dataset.json, examples.csv.

Imports no TensorFlow, so that commands can read a manifest before they pay for the import.
"""

import dataclasses
import os
from typing import Any, Iterator, NamedTuple, Optional

from pipeline import json_types
from pipeline.errors import UserError, unknown

DATASET_FILE = "dataset.json"
EXAMPLES_FILE = "examples.csv"
REJECTED_FILE = "rejected.csv"
FORMAT_VERSION = 1
COMPRESSIONS = ("", "GZIP", "ZLIB")  # of a shard, as TensorFlow names them

# examples.csv: `row` is the number that goes through the step instead of the id (TPUs know no strings). Rows are
# unique over all splits; set-aside pictures leave gaps. `labels` are class indices separated by spaces, empty
# where unknown; latitude and longitude are degrees, `date` is the fraction of the year in [0, 1]; all may be empty.
EXAMPLE_COLUMNS = ("row", "id", "split", "fold", "labels", "latitude", "longitude", "date", "user")
RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")  # of ClassInfo.taxonomy
GROUP_COLUMN = "group"  # after them, where a table names groups that stay in one split and fold
REJECTED_COLUMNS = ("id", "split", "path", "labels", "reason")


class Key:
    """Feature keys of our own records: those of the iNat 2021 sixth-place solution, and the row."""

    ENCODED = "image/encoded"            # bytes: an upright RGB JPEG
    HEIGHT = "image/height"              # int64, pixels
    WIDTH = "image/width"                # int64, pixels
    FILENAME = "image/filename"          # bytes: path inside the data folder, UTF-8
    SOURCE_ID = "image/source_id"        # bytes: the example's id
    SHA256 = "image/key/sha256"          # bytes: hexadecimal digest of ENCODED
    FORMAT = "image/format"              # bytes: "jpeg"
    LATITUDE = "image/latitude"          # float: degrees / 90, 0 where VALID is 0
    LONGITUDE = "image/longitude"        # float: degrees / 180, 0 where VALID is 0
    DATE = "image/date"                  # float: fraction of the year, 0 where unknown
    VALID = "image/valid"                # float: 1 where there is a place, else 0
    LABELS = "image/object/class/label"  # list of int64: class indices, empty where unknown
    LABEL_TEXTS = "image/object/class/text"  # list of bytes: class names
    ROW = "example/row"                  # int64: `row` of examples.csv


@dataclasses.dataclass(frozen=True)
class RecordKind:
    """Where one kind of TFRecord keeps its image, labels, id and (maybe) place."""

    image: str
    labels: str
    source_id: str
    has_place: bool
    has_row: bool  # else the row is the shard's first row + the record's position in the shard


RECORD_KINDS = {
    "fieldmark": RecordKind(Key.ENCODED, Key.LABELS, Key.SOURCE_ID, has_place=True, has_row=True),
    "inat2021_solution": RecordKind(Key.ENCODED, Key.LABELS, Key.SOURCE_ID, has_place=True, has_row=False),
    "turtle_recall_solution": RecordKind("image", "label", "image_id", has_place=False, has_row=False),
}


@dataclasses.dataclass(frozen=True)
class ClassInfo:
    index: int
    source_id: str   # what the competition calls it in its files and in a submission
    name: str        # what a person calls it
    train_count: int
    known: bool = True  # False: to be answered by `Manifest.unknown_answer` (open-set competitions)
    taxonomy: dict[str, str] = dataclasses.field(default_factory=dict)  # rank (kingdom, …, species) → name; what is known


class Segment(NamedTuple):
    """Neighbouring records of a shard that are read in one go."""

    offset: int    # bytes before them in the file, unpacked where it is compressed
    position: int  # of the first one in the shard
    records: int   # −1: all to the end


@dataclasses.dataclass(frozen=True)
class Shard:
    file: str              # relative to the folder of dataset.json, or absolute (adopted shards)
    split: str
    fold: Optional[int]
    first_row: int
    records: int           # in the file, set-aside ones included
    bytes: int
    sha256: str            # of the file
    set_aside: tuple[int, ...] = ()  # rows, by position, of records that can't be used (on disk: adopted shards only)
    compression: str = ""  # GZIP or ZLIB, as TensorFlow names them (adopted shards only)

    @property
    def examples(self) -> int:
        return self.records - len(self.set_aside)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What is read of it: all, in one go."""
        return (Segment(0, 0, -1),)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """dataset.json: written last, so that its presence says the shards are whole."""

    competition: str
    record_kind: str
    multi_label: bool            # where `task` is empty: several labels a picture
    classes: tuple[ClassInfo, ...]
    shards: tuple[Shard, ...]
    folds: int
    rejected: int                # pictures in rejected.csv (which names files that are none, too, without a split)
    settings: dict[str, Any]     # what create_tfrecords.py was told, and a fingerprint of the source files
    unknown_answer: str = ""     # what a submission says for a class that is not `known`; empty: all are known
    # Groups of train ids that show the same picture, each in one fold unless folds are by rows; perhaps not all of them.
    duplicates: tuple[tuple[str, ...], ...] = ()
    copies: int = 0              # train pictures that show what another of their group does, over all groups
    parted_copies: int = 0       # train pictures of which a copy is in another fold (--folds_by=rows)
    metric: str = ""             # what the competition scores by; a key of metrics.COMPETITION_METRICS, or empty
    task: str = ""               # a kind of pipeline.tasks; empty: single_label or multi_label
    notes: tuple[str, ...] = ()  # sentences about what was passed over, or is odd: the command's summary
    ids_by_split: Optional[bool] = None  # an id names another picture in each split; None: no id stands in two, or untold
    format: int = FORMAT_VERSION

    @property
    def kind(self) -> str:
        """Of the task, as pipeline.tasks names it."""
        return self.task or ("multi_label" if self.multi_label else "single_label")

    @property
    def splits(self) -> list[str]:
        return sorted({shard.split for shard in self.shards})

    def split_size(self, split: str) -> int:
        """Number of usable examples in a split."""
        return sum(shard.examples for shard in self.shards if shard.split == split)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Manifest":
        """Raises KeyError or TypeError where `fields` is not a manifest, in names, types or sense."""
        if not isinstance(fields, dict):
            raise TypeError("it is no JSON object")
        fields = dict(fields)
        fields["classes"] = tuple(ClassInfo(**one) for one in fields["classes"])
        fields["shards"] = tuple(Shard(**{**one, "set_aside": tuple(one.get("set_aside", ()))}) for one in fields["shards"])
        fields["notes"] = tuple(fields.get("notes", ()))
        fields["duplicates"] = tuple(map(tuple, fields.get("duplicates", ())))
        found = cls(**fields)
        for one in (*found.classes, *found.shards, found):
            json_types.check(one)
        for fault in _senseless(found):
            raise TypeError(fault)
        return found


def manifest_of(fields: Any, path: str) -> Manifest:
    """What stands in a dataset.json, whose path is for the error. Raises UserError where it is not one of ours."""
    version = fields.get("format") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has format {version!r}, this program reads {FORMAT_VERSION}")
    try:
        manifest = Manifest.from_json(fields)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not a manifest of create_tfrecords.py: {error}") from None
    if manifest.record_kind not in RECORD_KINDS:
        raise unknown(f"record_kind in {path}:", manifest.record_kind, RECORD_KINDS)
    return manifest


def _senseless(manifest: Manifest) -> Iterator[str]:
    """What no manifest of create_tfrecords.py says."""
    if [one.index for one in manifest.classes] != list(range(len(manifest.classes))):
        yield "its classes are not numbered from 0 on"
    for shard in manifest.shards:
        if not os.path.isabs(shard.file) and "://" not in shard.file and ".." in shard.file.split("/"):
            yield f"the shard {shard.file!r} lies outside of the folder"
        if min(shard.first_row, shard.records, shard.bytes, len(manifest.shards) if shard.fold is None else shard.fold) < 0:
            yield f"the shard {shard.file!r} has a number below 0"
        if shard.compression not in COMPRESSIONS:
            yield f"the shard {shard.file!r} is compressed by {shard.compression!r}"
        if shard.fold is not None and shard.fold >= manifest.folds:
            yield f"the shard {shard.file!r} is of fold {shard.fold} of {manifest.folds}"
        if not all(shard.first_row <= row < shard.first_row + shard.records for row in shard.set_aside):
            yield f"the shard {shard.file!r} sets rows aside that it has not"
