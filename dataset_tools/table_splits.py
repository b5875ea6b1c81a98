"""Into which split each row of a table goes: by its column, or drawn; a group never stands on two sides."""

import collections
from typing import Optional, Sequence

from absl import logging
import numpy as np

from dataset_tools.csv_files import Sheet
from dataset_tools.table_flags import DEFAULT_VAL_SHARE
from pipeline.errors import UserError

SPELLINGS = {"train": "train", "training": "train", "trn": "train", "train_mini": "train_mini", "val": "val", "valid": "val",
             "validation": "val", "dev": "val", "test": "test", "testing": "test", "tst": "test"}
_SEED = 42  # not --random_seed: a geo prior must not learn from what other commands hold out


def told(sheet: Sheet, texts: Optional[Sequence[str]], labelled: Sequence[bool]) -> list[str]:
    """By the column; without one, or where it is empty, train where there is a label, else test. Raises UserError."""
    splits = []
    for row, has_label in enumerate(labelled):
        text = texts[row] if texts else ""
        split = SPELLINGS.get(text.lower()) if text else "train" if has_label else "test"
        if split is None:
            raise UserError(f"{sheet.place(row)}: the split {text!r} is none of {', '.join(SPELLINGS)}")
        splits.append(split)
    return splits


def check_groups(sheet: Sheet, column: str, splits: Sequence[str], groups: Sequence[str], labelled: Sequence[bool]) -> None:
    """Raises UserError where the table's own splits break a group (pictures without a label apart, which score nothing)."""
    seen: dict[str, tuple[str, int]] = {}
    for row, (split, group, has_label) in enumerate(zip(splits, groups, labelled)):
        if not group or not has_label or split == "train_mini":
            continue
        other, before = seen.setdefault(group, (split, row))
        if other != split:
            raise UserError(f"{sheet.place(row)}: the group {group!r} ({column}) stands in {split} and, in {sheet.unit} "
                            f"{sheet.lines[before]}, in {other}; scores would be too good. Divide the table by whole groups, "
                            "or say --columns=group: if these are none")


def draw_val(ids: Sequence[str], labels: Sequence[Sequence[str]], groups: Sequence[str], splits: list[str],
             share: float) -> list[str]:
    """The splits with a share of train as val: about that share of every class, groups whole, of each class some in train.

    A function of ids, labels, groups and the share alone, not of the order of the rows.
    """
    rows = np.array([row for row, split in enumerate(splits) if split == "train" and labels[row]], np.int64)
    if not len(rows) or not share:
        return splits
    keys = [f"group {groups[row]}" if groups[row] else f"id {ids[row]}" for row in rows]
    _, units = np.unique(keys, return_inverse=True)
    index_of = {label: index for index, label in enumerate(sorted({one for row in rows for one in labels[row]}))}
    indices = [[index_of[one] for one in labels[row]] for row in rows]
    from dataset_tools import stratified_groups  # late: it imports SciPy, and run.py asks this module for nothing but places

    in_val = stratified_groups.divide(indices, units, np.array([share, 1 - share]), _SEED) == 0
    drawn = in_val[units] & ~_needed(indices, units, in_val)
    found = list(splits)
    for row in rows[drawn]:
        found[row] = "val"
    logging.info("%d of %d pictures are drawn for val", drawn.sum(), len(rows))
    return found


def _needed(indices: Sequence[Sequence[int]], units: np.ndarray, in_val: np.ndarray) -> np.ndarray:
    """bool [examples]: of a group that has to stay in train, as a class would else have no picture there."""
    kept = {label for one, unit in zip(indices, units) if not in_val[unit] for label in one}
    classes_of = collections.defaultdict(set)
    for one, unit in zip(indices, units.tolist()):
        if in_val[unit]:
            classes_of[unit].update(one)
    back = np.zeros(len(in_val), bool)
    for unit in sorted(classes_of):
        if not classes_of[unit] <= kept:
            back[unit] = True
            kept |= classes_of[unit]
    return back[units]


def share_to_draw(given: Optional[float], has_column: bool, splits: Sequence[str], path: str) -> float:
    """--val_share, or its default. Raises UserError where the table has a val of its own."""
    if given and "val" in splits:
        raise UserError(f"--val_share={given:g}: {path} tells a val by itself; leave the flag out")
    if given is not None:
        return given
    return 0.0 if has_column else DEFAULT_VAL_SHARE
