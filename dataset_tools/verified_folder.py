"""A folder of shards against its own tables: dataset.json, examples.csv, rejected.csv and every record."""

import collections
import csv
from typing import Sequence

import numpy as np

from dataset_tools import files, manifest, parallel
from dataset_tools.faults import Faults
from dataset_tools.table import SPLITS, trained_split
from dataset_tools.verified_shard import Row, Task, Verified, verify_shard
from pipeline.errors import UserError
from pipeline.records import schema

_Line = dict[str, str]  # of a table, text by column


def verify(directory: str, workers: int) -> tuple[schema.Manifest, Faults, list[str]]:
    """(the manifest, what is wrong, what is worth a remark) of a folder that create_tfrecords.py made.

    Raises UserError where it is none.
    """
    directory = files.absolute(directory)
    whole = manifest.read(directory)
    faults = Faults()
    examples = _examples(directory, faults)
    tasks = _tasks(directory, whole, examples, faults)
    records = sum(one.records for one in whole.shards)
    read = parallel.run(verify_shard, tasks, workers, records, "records verified", "records")
    faults.merge(one.faults for one in read)
    _check_tables(directory, whole, examples, faults)
    return whole, faults, _check_pictures(whole, read, faults) + _left_over(directory)


def _examples(directory: str, faults: Faults) -> list[_Line]:
    """The rows of examples.csv that can be used. Raises UserError where there are none or it is another table."""
    path = files.join(directory, schema.EXAMPLES_FILE)
    found, seen_rows, seen_ids = [], set(), set()
    for number, one in enumerate(_table(path, schema.EXAMPLE_COLUMNS, schema.GROUP_COLUMN), 2):
        if not one["row"].isdecimal() or not (one["fold"] or "0").isdecimal() or one["split"] not in SPLITS or not all(
                label.isdecimal() for label in one["labels"].split()):
            faults.add(f"lines of {schema.EXAMPLES_FILE} that can't be read", f"line {number}: {','.join(one.values())}")
            continue
        if one["row"] in seen_rows:
            faults.add(f"rows that stand in {schema.EXAMPLES_FILE} twice", f"row {one['row']}, line {number}")
        if (one["split"], one["id"]) in seen_ids:
            faults.add("ids that stand in a split twice", f"{one['id']} of {one['split']}, line {number}")
        seen_rows.add(one["row"])
        seen_ids.add((one["split"], one["id"]))
        found.append(one)
    return found


def _table(path: str, columns: Sequence[str], *maybe: str) -> list[_Line]:
    try:
        rows = files.read_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} can't be read: {error}") from error
    if any({*one} - {*maybe} != {*columns} or None in one.values() for one in rows):
        raise UserError(f"{path} is no table of create_tfrecords.py: its columns are not {', '.join(columns)}")
    return rows


def _tasks(directory: str, whole: schema.Manifest, examples: Sequence[_Line], faults: Faults) -> list[Task]:
    """A task a shard, with the rows of examples.csv that are numbered as its own."""
    shards = sorted(whole.shards, key=lambda one: one.first_row)
    bounds = [one.first_row for one in shards]
    rows: dict[str, list[Row]] = collections.defaultdict(list)
    for one in examples:
        index = int(np.searchsorted(bounds, int(one["row"]), side="right")) - 1
        shard = shards[index] if index >= 0 else None
        if shard is None or (one["split"], one["fold"]) != (shard.split, "" if shard.fold is None else str(shard.fold)):
            faults.add("examples of another split or fold than their shard's", f"{one['id']} (row {one['row']}) of "
                       f"{one['split']}" + (f", fold {one['fold']}" if one["fold"] else ""))
        if shard is not None:
            rows[shard.file].append(Row(int(one["row"]), one["id"], one["labels"]))
    return [Task(files.join(directory, one.file), one, whole.record_kind, len(whole.classes), tuple(rows[one.file]))
            for one in whole.shards]


def _check_tables(directory: str, whole: schema.Manifest, examples: Sequence[_Line], faults: Faults) -> None:
    """The tables against the manifest: classes, counts, folds."""
    counts = collections.Counter(one["split"] for one in examples)
    for split in sorted({*whole.splits, *counts}):
        if counts[split] != whole.split_size(split):
            faults.add(f"splits of another size than {schema.DATASET_FILE} tells",
                       f"{split} has {counts[split]:,} examples instead of {whole.split_size(split):,}")
    counted = trained_split(whole.splits)
    trained = [one for one in examples if one["split"] == counted]
    labels = collections.Counter(int(label) for one in trained for label in one["labels"].split())
    for one in whole.classes:
        if labels[one.index] != one.train_count:
            faults.add(f"classes with another number of {counted} pictures than {schema.DATASET_FILE} tells",
                       f"{one.source_id} has {labels[one.index]:,} instead of {one.train_count:,}")
    if not whole.multi_label and not whole.task:
        for one in examples:
            if len(one["labels"].split()) != 1 and one["split"] != "test" and (one["labels"] or one["split"] == counted):
                faults.add("examples without just one label", f"{one['id']} of {one['split']}")
    table = _table(files.join(directory, schema.REJECTED_FILE), schema.REJECTED_COLUMNS)
    rejected = sum(bool(one["split"]) for one in table)
    if rejected != whole.rejected:
        faults.add(f"another number of pictures set aside than {schema.DATASET_FILE} tells", f"{rejected:,} instead of "
                   f"{whole.rejected:,}", abs(rejected - whole.rejected))
    _check_groups([one for one in examples if one["labels"]], faults)
    folds = {one["id"]: one["fold"] for one in trained}
    for group in whole.duplicates if _keeps_copies(whole) else ():
        if len({folds[one] for one in group if one in folds}) > 1:
            faults.add("copies of a picture that stand in several folds", ", ".join(group[:4]))


def _check_groups(labelled: Sequence[_Line], faults: Faults) -> None:
    """A group that a table names stands in one split, and there in one fold."""
    places: dict[str, set[tuple[str, str]]] = collections.defaultdict(set)
    for one in labelled:
        places[one.get(schema.GROUP_COLUMN, "")].add((one["split"], one["fold"]))
    for group, found in places.items():
        if group and len(found) > 1:
            faults.add("groups that stand in several splits or folds", f"{group} in " + " and ".join(
                f"{split}{', fold ' * bool(fold)}{fold}" for split, fold in sorted(found)))


def _keeps_copies(whole: schema.Manifest) -> bool:
    """Whether folds were made so that copies of a picture stay in one of them."""
    return bool(whole.folds) and whole.settings.get("folds_by") == "copies"


def _check_pictures(whole: schema.Manifest, read: Sequence[Verified], faults: Faults) -> list[str]:
    """What the pictures' bytes tell over all shards: the same one in two folds is a fault where folds keep copies together;
    in two splits it is how the competition gave them, and a remark."""
    places = sorted({(one.split, one.fold) for one in whole.shards}, key=str)
    place_of = np.concatenate([np.full(len(one.rows), places.index((shard.split, shard.fold)))
                               for shard, one in zip(whole.shards, read)] or [np.empty(0, np.int64)])
    digests = np.concatenate([one.digests for one in read] or [np.empty((0, 16), np.uint8)])
    rows = np.concatenate([one.rows for one in read] or [np.empty(0, np.int64)])
    _, first, inverse = np.unique(np.ascontiguousarray(digests).view("V16").ravel(), return_index=True, return_inverse=True)
    pairs = first[inverse]
    remarks: collections.Counter[tuple[str, str]] = collections.Counter()
    for there in np.flatnonzero(place_of[pairs] != place_of):
        (one, fold), (other, other_fold) = places[place_of[pairs[there]]], places[place_of[there]]
        if one == other and _keeps_copies(whole):
            faults.add("copies of a picture that stand in several folds",
                       f"rows {rows[pairs[there]]} and {rows[there]}, of folds {fold} and {other_fold} of {one}")
        elif one != other:
            remarks[one, other] += 1
    return [f"{count:,} picture{'s' * (count != 1)} of {other} stand{'s' * (count == 1)} in {one} too, with the same bytes"
            for (one, other), count in remarks.items()]


def _left_over(directory: str) -> list[str]:
    found = [name for name in files.list_names(directory) if name == manifest.UNFINISHED_FILE or name.endswith(".tmp")]
    return [f"left by a run that did not finish: {', '.join(found[:3])}"] if found else []
