"""Boxes: the part of every picture that matters, as localize.py writes them beside the shards.

RECORDS/boxes/NAME.csv has a row for each picture: left, top, right and bottom are fractions of the upright picture's width
and height; class and score (a probability) are what the coarse model took it for; mask, where localize.py --masks kept them,
is which cells of the picture the object takes (records.masks). NAME.json, written last, tells how they were made and which
splits they cover.
"""

import dataclasses
import hashlib
import io
import json
import os
from typing import Any

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.errors import UserError
from pipeline.records import masks

FOLDER = "boxes"
SIDES = ["left", "top", "right", "bottom"]
COLUMNS = ["row", "id", "split", *SIDES, "class", "score"]
MASK = "mask"  # a column more, where masks are kept
_DIGITS = 5  # of a fraction: a hundred thousandth of a side is no pixel


@dataclasses.dataclass(frozen=True)
class Boxes:
    """The boxes of one name.

    table: COLUMNS, perhaps MASK; row is int64, the sides and score are float64, class is a class's source id, mask is text.
    how: what they were made by and with (JSON values); equal where the boxes are.
    splits: split → Dataset.identity of the pictures that they were made for.
    """

    name: str
    table: pd.DataFrame
    how: dict[str, Any]
    splits: dict[str, Any]

    @property
    def digest(self) -> str:
        """Hexadecimal digest of `how`: what a run that is trained on these boxes remembers of them."""
        return hashlib.sha256(json.dumps(self.how, sort_keys=True).encode()).hexdigest()

    def covers(self, part) -> bool:
        """Whether there is a box for every picture of a dataset.Part."""
        return all(self.splits.get(split) == part.data.identity(split) for split in part.split.split("+"))

    def by_row(self, part) -> tuple[int, np.ndarray]:
        """(first row, float32 [rows, 4]: left, top, right, bottom by row − first row) of a dataset.Part's splits.

        Rows that are none of theirs hold NaN.
        """
        table = self._of(part)
        return _spread(table["row"].to_numpy(), table[SIDES].to_numpy(np.float32), np.nan)

    @property
    def has_masks(self) -> bool:
        return MASK in self.table

    def masks_by_row(self, part) -> tuple[int, np.ndarray]:
        """(first row, uint8 [rows, 2, masks.CELLS]: masks.counts by row − first row), as `by_row`; elsewhere 0."""
        table = self._of(part)
        return _spread(table["row"].to_numpy(), masks.counts(table[MASK]), 0)

    def _of(self, part) -> pd.DataFrame:
        return self.table[self.table["split"].isin(part.split.split("+"))]


def _spread(rows: np.ndarray, values: np.ndarray, fill: float) -> tuple[int, np.ndarray]:
    """(first row, values by row − first row); between them `fill`."""
    first = int(rows.min())
    spread = np.full((int(rows.max()) - first + 1, *values.shape[1:]), fill, values.dtype)
    spread[rows - first] = values
    return first, spread


def path(directory: str, name: str) -> str:
    """The table's, in a folder of shards."""
    return os.path.join(directory, FOLDER, f"{name}.csv")


def meta_path(directory: str, name: str) -> str:
    return os.path.join(directory, FOLDER, f"{name}.json")


def check_name(name: str) -> None:
    """Raises UserError for a name that can't be a file's."""
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UserError(f"boxes {name!r}: the name becomes a file's; use letters, digits, -, _ and .")


def exist(directory: str, name: str) -> bool:
    return files.exists(meta_path(directory, name))


def load(directory: str, name: str) -> Boxes:
    """Reads the boxes of a folder of shards; raises UserError where there are none or they are damaged."""
    check_name(name)
    make = f"python localize.py --data_dir={directory} --name={name}"
    if not exist(directory, name):
        raise UserError(f"there are no boxes {name} in {directory}: {make} --model_dir=COARSE_MODEL makes them")
    meta = files.read_json(meta_path(directory, name))
    content = b""
    if files.exists(path(directory, name)):
        with files.open_file(path(directory, name), "rb") as file:
            content = file.read()
    if hashlib.sha256(content).hexdigest() != meta["sha256"]:
        raise UserError(f"{path(directory, name)} is not what was written: delete {meta_path(directory, name)}, then {make} "
                        f"--model_dir={meta['model_dir']}")
    table = pd.read_csv(io.BytesIO(content), dtype={"id": str, "class": str, "split": str, MASK: str}, keep_default_na=False)
    return Boxes(name, table, meta["how"], meta["splits"])


def write(directory: str, boxes: Boxes, model_dir: str) -> None:
    """Writes NAME.csv, then NAME.json, without which they count for nothing."""
    files.make_dirs(os.path.join(directory, FOLDER))
    table = boxes.table.round({column: _DIGITS for column in [*SIDES, "score"]})
    columns = [*COLUMNS, *([MASK] if boxes.has_masks else [])]
    content = table.to_csv(columns=columns, index=False, lineterminator="\n").encode()
    files.remove(meta_path(directory, boxes.name))
    files.write_whole(path(directory, boxes.name), content)
    files.write_json(meta_path(directory, boxes.name), {
        "model_dir": model_dir, "how": boxes.how, "splits": boxes.splits, "sha256": hashlib.sha256(content).hexdigest()})
