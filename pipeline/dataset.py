"""The manifest of a folder of shards: what is in it, and whether it is still whole."""

import dataclasses
import hashlib
import json
import os

import pandas as pd

from pipeline import files, schema
from pipeline.errors import UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A folder that create_tfrecords.py made: dataset.json, examples.csv, rejected.csv and shards."""

    directory: str
    manifest: schema.Manifest

    @property
    def record_kind(self) -> schema.RecordKind:
        return schema.RECORD_KINDS[self.manifest.record_kind]

    @property
    def class_ids(self) -> list[str]:
        """The competition's own class ids, by class index."""
        return [one.source_id for one in self.manifest.classes]

    def shards(self, split: str) -> list[schema.Shard]:
        """The shards of a split, or of several joined by + (train+val)."""
        parts = split.split("+")
        for part in parts:
            if part not in self.manifest.splits:
                raise UserError(f"{self.directory} has no split {part!r}; it has: {', '.join(self.manifest.splits)}")
        return [shard for part in parts for shard in self.manifest.shards if shard.split == part]

    def size(self, split: str) -> int:
        """Number of usable examples in a split (or in several joined by +)."""
        return sum(shard.examples for shard in self.shards(split))

    def path(self, shard: schema.Shard) -> str:
        return os.path.join(self.directory, shard.file)  # an adopted shard's path is absolute and stays so

    def examples(self, split: str) -> pd.DataFrame:
        """The table of a split in row order: schema.EXAMPLE_COLUMNS, ids as text, labels as lists of class indices."""
        table = _read_table(os.path.join(self.directory, schema.EXAMPLES_FILE))
        table = table[table["split"].isin(split.split("+"))].reset_index(drop=True)
        table["labels"] = [[int(label) for label in text.split()] for text in table["labels"]]
        for column in ("latitude", "longitude", "date"):
            table[column] = pd.to_numeric(table[column])
        table["row"] = table["row"].astype("int64")
        return table

    def rejected(self, split: str) -> pd.DataFrame:
        """The pictures of a split that could not be used: schema.REJECTED_COLUMNS, all text."""
        table = _read_table(os.path.join(self.directory, schema.REJECTED_FILE))
        return table[table["split"].isin(split.split("+"))].reset_index(drop=True)

    def identity(self) -> dict:
        """What makes two folders the same data for a model, wherever they lie."""
        classes = json.dumps([[one.source_id, one.train_count] for one in self.manifest.classes])
        return {
            "competition": self.manifest.competition,
            "classes": hashlib.sha256(classes.encode()).hexdigest(),
            "examples": {split: self.manifest.split_size(split) for split in self.manifest.splits},
        }

    def check_shards(self, split: str) -> None:
        """Raises UserError for a shard that is missing or has not the size that it was written with."""
        for shard in self.shards(split):
            path = self.path(shard)
            if not files.exists(path):
                raise UserError(f"shard {path} is missing; write it again with create_tfrecords.py")
            size = files.size(path)
            if size != shard.bytes:
                raise UserError(f"shard {path} has {size} bytes instead of {shard.bytes}: it was truncated or changed; "
                                "write it again with create_tfrecords.py")


def _read_table(path: str) -> pd.DataFrame:
    try:
        with files.open_file(path, "r") as file:
            return pd.read_csv(file, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; make it with create_tfrecords.py") from None


def load(directory: str) -> Dataset:
    """Reads dataset.json; raises UserError where there is none or it is not one of ours."""
    path = os.path.join(directory, schema.DATASET_FILE)
    if not files.exists(path):
        raise UserError(f"--data_dir: {directory} has no {schema.DATASET_FILE}; make it with create_tfrecords.py")
    fields = files.read_json(path)
    version = fields.get("format") if isinstance(fields, dict) else None
    if version != schema.FORMAT_VERSION:
        raise UserError(f"{path} has format {version!r}, this program reads {schema.FORMAT_VERSION}")
    try:
        return Dataset(directory, schema.Manifest.from_json(fields))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not a manifest of create_tfrecords.py: {error}") from None
