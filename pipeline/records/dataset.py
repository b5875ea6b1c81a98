"""The manifest of a folder of shards: what is in it, and whether it is still whole."""

import contextlib
import dataclasses
import hashlib
import json
import os
from typing import Iterator, Optional, Sequence

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.errors import UserError
from pipeline.records import boxes as boxes_of, schema
from pipeline.tasks import registry as tasks
from pipeline.tasks.task import Task

_WHOLE = (schema.Segment(0, 0, -1),)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A folder that create_tfrecords.py made: dataset.json, examples.csv, rejected.csv and shards."""

    directory: str
    manifest: schema.Manifest
    lost: frozenset[int] = frozenset()  # rows of records that are damaged and passed over, see damage.around

    @property
    def record_kind(self) -> schema.RecordKind:
        return schema.RECORD_KINDS[self.manifest.record_kind]

    @property
    def task(self) -> Task:
        """Raises UserError where the manifest names a kind that is unknown here."""
        return tasks.find(self.manifest.kind, os.path.join(self.directory, schema.DATASET_FILE))

    @property
    def class_ids(self) -> list[str]:
        """The competition's own class ids, by class index."""
        return [one.source_id for one in self.manifest.classes]

    def part(self, split: str, fold: Optional[int] = None) -> "Part":
        """A split, or several joined by + (train+val); with `fold`, only that fold of it.

        Raises UserError for a split or a fold that is not there.
        """
        shards = self._shards(split)
        return Part(self, split, tuple(shards if fold is None else [one for one in shards if one.fold == fold]))

    def without_fold(self, split: str, fold: int) -> "Part":
        """A split without one of its folds; what belongs to no fold (val in train+val) stays."""
        self._check_fold(fold)
        return Part(self, split, tuple(one for one in self._shards(split) if one.fold != fold))

    def held_out(self, split: str, fold: int) -> "Part":
        """The one fold of a split that `without_fold` leaves out."""
        self._check_fold(fold)
        return self.part(split, fold)

    def _check_fold(self, fold: int) -> None:
        if not 0 <= fold < self.manifest.folds:
            has = f"folds 0 to {self.manifest.folds - 1}" if self.manifest.folds else "no folds"
            raise UserError(f"--fold={fold}: {self.directory} has {has} (create_tfrecords.py --folds makes them)")

    def _shards(self, split: str) -> list[schema.Shard]:
        parts = split.split("+")
        for part in parts:
            if part not in self.manifest.splits:
                raise UserError(f"{self.directory} has no split {part!r}; it has: {', '.join(self.manifest.splits)}")
        return [shard for part in parts for shard in self.manifest.shards if shard.split == part]

    def path(self, shard: schema.Shard) -> str:
        return os.path.join(self.directory, shard.file)  # an adopted shard's path is absolute and stays so

    def examples(self, split: str) -> pd.DataFrame:
        """The table of a split in row order: schema.EXAMPLE_COLUMNS, ids as text, labels as lists of class indices.

        `fold` is an integer, −1 where an example belongs to none. Ids are distinct: where one of joined splits stands in
        another of them too (they may begin anew in each), all are written split/id.
        """
        table = self.table()
        table = table[table["split"].isin(split.split("+"))].reset_index(drop=True)
        if "+" in split and table["id"].duplicated().any():
            table["id"] = table["split"] + "/" + table["id"]
        with self.reading(schema.EXAMPLES_FILE):
            table["labels"] = [[int(label) for label in text.split()] for text in table["labels"]]
            for column in ("latitude", "longitude", "date"):
                table[column] = pd.to_numeric(table[column]).astype("float64")
            table["row"] = table["row"].astype("int64")
            table["fold"] = _folds(table["fold"])
            if any(not 0 <= label < len(self.manifest.classes) for labels in table["labels"] for label in labels):
                raise ValueError(f"a label is beyond the {len(self.manifest.classes)} classes")
        return table

    @contextlib.contextmanager
    def reading(self, file: str) -> Iterator[None]:
        """Names the table in which the block finds what is none of its numbers."""
        try:
            yield
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(f"{os.path.join(self.directory, file)} was edited, or is damaged: {error}; python -m "
                            f"dataset_tools.verify {self.directory} tells more") from None

    def table(self, columns: Optional[Sequence[str]] = None) -> pd.DataFrame:
        """examples.csv as text, without the rows that are lost; `columns`: those alone."""
        columns = list(columns or schema.EXAMPLE_COLUMNS)
        read = list(dict.fromkeys(["row", *columns]))
        table = _read_table(os.path.join(self.directory, schema.EXAMPLES_FILE), read)
        if self.lost:
            table = table[~table["row"].isin([str(row) for row in self.lost])]
        return table[columns]

    def groups(self) -> pd.Series:
        """Text by row (int64): the group that a table names for each example, '' for none (see schema.GROUP_COLUMN)."""
        path = os.path.join(self.directory, schema.EXAMPLES_FILE)
        with files.open_file(path, "r") as file:
            there = schema.GROUP_COLUMN in pd.read_csv(file, nrows=0).columns
        table = _read_table(path, ["row", *[schema.GROUP_COLUMN] * there])
        with self.reading(schema.EXAMPLES_FILE):
            rows = table["row"].to_numpy("int64")
        return pd.Series(table[schema.GROUP_COLUMN].to_numpy() if there else "", rows)

    def rows(self) -> np.ndarray:
        """int64: the rows of all examples, in the order of examples.csv."""
        with self.reading(schema.EXAMPLES_FILE):
            return self.table(["row"])["row"].to_numpy("int64")

    def shared_id(self, split: str) -> Optional[str]:
        """An id that stands in two of joined splits, set aside or not; None: there is none."""
        tables = [self.identifiers(split)[["split", "id"]], self.rejected(split)[["split", "id"]]]
        both = pd.concat(tables).drop_duplicates()["id"]
        return next(iter(both[both.duplicated()]), None)

    def identifiers(self, split: str, also: Sequence[str] = ()) -> pd.DataFrame:
        """The columns id (as its own split has it), split and fold (−1: none) of a split's examples, and others as text;
        there may be millions."""
        table = self.table(["id", "split", "fold", *also])
        table = table[table["split"].isin(split.split("+"))].reset_index(drop=True)
        with self.reading(schema.EXAMPLES_FILE):
            table["fold"] = _folds(table["fold"])
        return table

    def rejected(self, split: str) -> pd.DataFrame:
        """The pictures of a split that could not be used: schema.REJECTED_COLUMNS, all text."""
        table = _read_table(os.path.join(self.directory, schema.REJECTED_FILE), schema.REJECTED_COLUMNS)
        return table[table["split"].isin(split.split("+"))].reset_index(drop=True)

    def boxes(self, name: str) -> boxes_of.Boxes:
        """What localize.py found under that name; raises UserError where there is nothing whole."""
        return boxes_of.load(self.directory, name)

    def classes_digest(self) -> str:
        """Hexadecimal digest of the classes' ids and names in their order: what two datasets for one model share."""
        classes = json.dumps([[one.source_id, one.name] for one in self.manifest.classes])
        return hashlib.sha256(classes.encode()).hexdigest()

    def identity(self, split: str) -> dict:
        """What makes two folders the same data, wherever they lie: classes, and the contents of a split's shards."""
        contents = json.dumps([[one.split, one.fold, one.sha256] for one in self.part(split).shards])
        return {"competition": self.manifest.competition, "classes": self.classes_digest(),
                "contents": hashlib.sha256(contents.encode()).hexdigest()}


@dataclasses.dataclass(frozen=True)
class Part:
    """Some shards of a dataset: what one reads, trains on or predicts."""

    data: Dataset
    split: str
    shards: tuple[schema.Shard, ...]
    boxes: Optional[str] = None  # name of boxes: pictures are read as what lies inside
    left_out: frozenset[int] = frozenset()  # rows of the shards' examples that are none of its, see some_classes

    @property
    def size(self) -> int:
        """Number of usable examples."""
        return sum(shard.examples for shard in self.shards)

    @property
    def paths(self) -> list[str]:
        return [self.data.path(shard) for shard in self.shards]

    def examples(self) -> pd.DataFrame:
        """Its rows of `Dataset.examples`."""
        table = self.data.examples(self.split)
        return table[self._has(table)].reset_index(drop=True)

    def identifiers(self, also: Sequence[str] = ()) -> pd.DataFrame:
        """Its rows of `Dataset.identifiers`."""
        asked = [*also, *["row"] * bool(self.left_out and "row" not in also)]
        table = self.data.identifiers(self.split, asked)
        return table[self._has(table)][["id", "split", "fold", *also]].reset_index(drop=True)

    def _has(self, table: pd.DataFrame) -> pd.Series:
        """bool: which of the examples of a table of the split are its own."""
        own = table["fold"].isin({-1 if shard.fold is None else shard.fold for shard in self.shards})
        return own & ~table["row"].astype("int64").isin(self.left_out) if self.left_out else own

    def single_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, class indices), both int64 [size], of examples that have one label each.

        Reads no more of examples.csv than that, since a train split may have millions. Raises UserError where the file
        tells of other examples than the shards hold.
        """
        table = self.data.table(["row", "split", "fold", "labels"])
        folds = {"" if shard.fold is None else str(shard.fold) for shard in self.shards}
        table = table[table["split"].isin(self.split.split("+")) & table["fold"].isin(folds)]
        if self.left_out:
            table = table[~table["row"].isin({str(row) for row in self.left_out})]
        if len(table) != self.size:
            raise UserError(f"{self.data.directory}: {schema.EXAMPLES_FILE} has {len(table)} examples of {self.split}, the "
                            f"shards hold {self.size}; make both anew with create_tfrecords.py")
        with self.data.reading(schema.EXAMPLES_FILE):
            return table["row"].to_numpy("int64"), table["labels"].to_numpy("int64")

    def within(self, boxes: Optional[str]) -> "Part":
        """The same pictures as cropped to the boxes of that name; None: whole."""
        return dataclasses.replace(self, boxes=boxes)

    def check(self) -> None:
        """Raises UserError where nothing is in it, a shard is missing or has not the size it was written with, or a box
        is missing."""
        if not self.size:
            raise UserError(f"{self.data.directory}: no usable picture in {self.split}")
        for shard, path in zip(self.shards, self.paths):
            if not files.exists(path):
                raise UserError(f"shard {path} is missing; write it again with create_tfrecords.py")
            size = files.size(path)
            if size != shard.bytes and shard.segments == _WHOLE:
                raise UserError(f"shard {path} has {size} bytes instead of {shard.bytes}: it was truncated or changed; "
                                "write it again with create_tfrecords.py")
        if self.boxes and not self.data.boxes(self.boxes).covers(self):
            raise UserError(f"boxes {self.boxes} of {self.data.directory} are not of the pictures of {self.split}: python "
                            f"localize.py --data_dir={self.data.directory} --name={self.boxes} --model_dir=COARSE_MODEL "
                            f"--split={self.split} makes them")

    def check_masks(self, asked: str) -> None:
        """Raises UserError, beginning with what was asked for, where the part is not read within boxes that have masks."""
        if not self.boxes:
            raise UserError(f"{asked} takes squares around points of masks: it needs --boxes=NAME, of what localize.py --masks "
                            "has found")
        if not self.data.boxes(self.boxes).has_masks:
            raise UserError(f"{asked}: boxes {self.boxes} of {self.data.directory} have no masks: python localize.py "
                            f"--data_dir={self.data.directory} --name={self.boxes} --masks --model_dir=COARSE_MODEL makes some "
                            f"(delete {boxes_of.meta_path(self.data.directory, self.boxes)} before, or give another --name)")


def _folds(column: pd.Series) -> pd.Series:
    """int64, −1 for none. Raises ValueError."""
    return pd.to_numeric(column).fillna(-1).astype("int64")


def _read_table(path: str, columns: Sequence[str]) -> pd.DataFrame:
    """Of a table of ours, these columns as text. Raises UserError where it is none."""
    try:
        with files.open_file(path, "r") as file:
            return pd.read_csv(file, dtype=str, keep_default_na=False, usecols=columns)[list(columns)]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; make it with create_tfrecords.py") from None
    except ValueError as error:  # pandas' own, a column that is missing, or no UTF-8
        raise UserError(f"{path} is no table of create_tfrecords.py: {error}") from None


def load(directory: str) -> Dataset:
    """Reads dataset.json; raises UserError where there is none or it is not one of ours."""
    path = os.path.join(directory, schema.DATASET_FILE)
    if not files.exists(path):
        raise UserError(f"--data_dir: {directory} has no {schema.DATASET_FILE}; make it with create_tfrecords.py")
    return Dataset(directory, schema.manifest_of(files.read_json(path), path))
