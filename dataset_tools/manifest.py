"""dataset.json, examples.csv and rejected.csv: written when the shards are there, the manifest last."""

import csv
import json
import math
from typing import Any, Collection, Container, Iterable, Mapping, NamedTuple, Optional, Sequence

from absl import logging

from dataset_tools import files, standing
from dataset_tools.table import MISSING, Example, Rejected, trained_split
from pipeline import files as whole_files, lock
from pipeline.errors import UserError
from pipeline.files import parse_json, target_of
from pipeline.records import schema

UNFINISHED_FILE = "unfinished.json"  # in a folder that is being written: which of its files are ours
FOLDS_NAME = "folds"  # of the note of an unfinished run on how it divided train
LISTED_GROUPS = 1000  # of duplicates, in dataset.json
_SHARD_NAME = ".tfrecord-"  # what the name of each shard of ours has in it


# What manifests say that were written before there was the setting.
_LATER_SETTINGS = {"folds": 0, "duplicate_distance": None, "max_side": 0, "short_side": 0, "folds_by": "copies"}


class Row(NamedTuple):
    """An accepted example and where it went."""

    row: int
    fold: Optional[int]
    example: Example


def read(directory: str) -> schema.Manifest:
    """The manifest of a folder of shards. Raises UserError where there is none, or another program's."""
    path = files.join(directory, schema.DATASET_FILE)
    if files.size_of(path) is None:
        raise UserError(f"{directory} has no {schema.DATASET_FILE}: it is no folder that create_tfrecords.py has finished")
    return schema.manifest_of(whole_files.read_json(path), path)


def summary(manifest: schema.Manifest, out_dir: str) -> str:
    """The last lines of the command: a line for each note, then how many pictures there are."""
    pictures = sum(shard.examples for shard in manifest.shards)
    line = (f"{pictures} picture{'s' * (pictures != 1)} in {len(manifest.shards)} "
            f"shard{'s' * (len(manifest.shards) != 1)} under {out_dir}; {manifest.rejected} set aside")
    if manifest.rejected:
        line += f", see {files.join(out_dir, schema.REJECTED_FILE)}"
    return "\n".join([*manifest.notes, line + (f"; {_folds_summary(manifest)}" if manifest.folds else "")])


def _folds_summary(manifest: schema.Manifest) -> str:
    listed = sum(len(ids) - 1 for ids in manifest.duplicates)
    line = (f"{manifest.folds} folds; {manifest.copies} "
            f"{'picture of train is a copy' if manifest.copies == 1 else 'pictures of train are copies'} of another")
    line += f", {manifest.parted_copies} have one in another fold" if manifest.parted_copies else ""
    return f"{line} ({listed} of them listed in {schema.DATASET_FILE})" if listed < manifest.copies else line


def present(groups: Iterable[Sequence[str]], split: str, rows: Iterable[Row]) -> tuple[tuple[str, ...], ...]:
    """The groups of ids without those that were set aside, where two and more are left."""
    ids = {row.example.id for row in rows if row.example.split == split}
    left = (tuple(files.printable(one) for one in group if one in ids) for group in groups)
    return tuple(group for group in left if len(group) > 1)


def parted(groups: Iterable[Sequence[str]], rows: Iterable[Row], split: str) -> int:
    """How many pictures of a split have a copy in another fold; groups: as `present` gives them."""
    fold_of = {files.printable(row.example.id): row.fold for row in rows if row.example.split == split}
    apart = (group for group in groups if len({fold_of[one] for one in group}) > 1)
    return sum(len(group) for group in apart)


def find_finished(out_dir: str, settings: dict[str, Any]) -> Optional[schema.Manifest]:
    """The manifest of an earlier run with the same settings.

    None where there is none, where its shards are damaged, or where a picture that was missing is there now.

    Raises:
      UserError: where one was made with other settings (naming them), or is no manifest.
    """
    path = files.join(out_dir, schema.DATASET_FILE)
    if files.size_of(path) is None:
        return None
    advice = "choose another --out_dir or delete it"
    try:
        manifest = schema.Manifest.from_json(parse_json(files.read_bytes(path)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is no manifest of shards; {advice}") from error
    there = {**_LATER_SETTINGS, **manifest.settings}
    asked = {**_LATER_SETTINGS, **settings}
    differing = [_difference(key, there.get(key), asked.get(key)) for key in sorted({*there, *asked})
                 if there.get(key) != asked.get(key)]
    if differing:
        raise UserError(f"{out_dir} holds shards made otherwise: {', '.join(differing)}; {advice}")
    damaged = _first_damaged(out_dir, manifest)
    found = None if damaged else first_found(out_dir, manifest)
    if damaged or found:
        if damaged:
            logging.warning("%s is missing or was changed: everything is written again", damaged)
        else:
            logging.warning("%s was missing and is there now: everything is written again", found)
        return None
    if has_begun(out_dir):  # the run that finished it was stopped before it had tidied up
        with lock.held(out_dir):
            _tidy(out_dir, manifest)
    return manifest


def reopen(out_dir: str) -> None:
    """Makes a finished folder, of which not everything is as it should be, one that is being written."""
    path = files.join(out_dir, schema.DATASET_FILE)
    if files.size_of(path) is not None:
        _mark(out_dir, [shard.file for shard in read(out_dir).shards])
        files.remove(path)


def _first_damaged(out_dir: str, manifest: schema.Manifest) -> Optional[str]:
    """A file of a finished folder that is not there, or a shard that has another size than it was written with."""
    for name in (schema.EXAMPLES_FILE, schema.REJECTED_FILE):
        if files.size_of(files.join(out_dir, name)) is None:
            return files.join(out_dir, name)
    shards = {files.join(out_dir, shard.file): shard.bytes for shard in manifest.shards}  # absolute ones stay so
    return next((path for path, size in shards.items() if files.size_of(path) != size), None)


def first_found(out_dir: str, manifest: schema.Manifest) -> Optional[str]:
    """A picture that was set aside as missing and has come since; a fingerprint of JSON alone would not tell."""
    data_dir = manifest.settings.get("data_dir")
    if not data_dir or not manifest.rejected:
        return None
    try:
        rows = files.read_csv(files.join(out_dir, schema.REJECTED_FILE))
        paths = [files.join(data_dir, row["path"]) for row in rows if row["reason"] == MISSING]
    except (ValueError, KeyError, TypeError, csv.Error):  # edited by hand: it tells nothing
        return None
    return next((path for path, size in zip(paths, files.sizes_of(paths)) if size is not None), None)


def _difference(key: str, there: Any, asked: Any) -> str:
    if key == "fingerprint":
        return "the source files have changed since"
    return f"{key} was {there!r} and is {asked!r} now"


def has_begun(out_dir: str) -> bool:
    """Whether an unfinished run of ours has left its mark."""
    return files.size_of(files.join(out_dir, UNFINISHED_FILE)) is not None


def begin_to_divide(out_dir: str) -> None:
    """Marks a folder as ours before it is known which shards it gets, leaving what an unfinished run has left.

    Raises UserError where there are tables of somebody else.
    """
    if not has_begun(out_dir):
        _refuse(out_dir, set(_names(())).intersection(_there(out_dir)))
        _mark(out_dir, ())


def begin(out_dir: str, shards: Iterable[str], kept: Container[str] = ()) -> None:
    """Makes room in a folder without a manifest: removes what an unfinished run of ours left, and nothing else.

    Args:
      shards: that are to be written.
      kept: those of them that the unfinished run has written whole.

    Raises:
      UserError: where a file that is not ours has a name that is to be written.
    """
    planned = list(shards)
    there = _there(out_dir)
    left = _left(there, _marked(out_dir)) if UNFINISHED_FILE in there else set()
    _refuse(out_dir, {*_names(planned), UNFINISHED_FILE}.intersection(there) - left)
    stays = {UNFINISHED_FILE, *_notes(())}.union(*({one, one + standing.NOTE} for one in planned if one in kept))
    for name in left.intersection(there) - stays:
        files.remove(files.join(out_dir, name))
    _mark(out_dir, planned)


def _there(out_dir: str) -> list[str]:
    return [name for name in files.list_names(out_dir) if files.size_of(files.join(out_dir, name)) is not None]


def _refuse(out_dir: str, foreign: Collection[str]) -> None:
    if foreign:
        raise UserError(f"{files.join(out_dir, min(foreign))} would be overwritten, and no unfinished run of this command "
                        "left it; choose another --out_dir or move it away")


def _notes(shards: Iterable[str]) -> list[str]:
    """The names of notes on what stands of an unfinished run."""
    return [one + standing.NOTE for one in (*shards, FOLDS_NAME)]


def _names(shards: Iterable[str]) -> list[str]:
    """Every name that is there before a folder is finished, beside temporary ones and the mark."""
    shards = list(shards)
    return [*shards, *_notes(shards), schema.EXAMPLES_FILE, schema.REJECTED_FILE]


def _left(there: Iterable[str], shards: Iterable[str]) -> set[str]:
    """Those of the names that an unfinished run has left which was to write these shards."""
    names = {*_names(shards), UNFINISHED_FILE}
    targets = {*names, schema.DATASET_FILE}
    return {one for one in there if one in names or target_of(one) in targets}


def _mark(out_dir: str, shards: Sequence[str]) -> None:
    content = {"about": "create_tfrecords.py is writing these shards, or was; it removes them when it starts over",
               "shards": list(shards)}
    with files.replacing(files.join(out_dir, UNFINISHED_FILE)) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _marked(out_dir: str) -> list[str]:
    """The shards of the unfinished run that left its mark. Raises UserError where the mark is none of ours."""
    path = files.join(out_dir, UNFINISHED_FILE)
    try:
        names = [str(name) for name in json.loads(files.read_bytes(path))["shards"]]
        return [name for name in names if _SHARD_NAME in name]  # whoever wrote it: nothing else is removed
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} was not written by this command; choose another --out_dir or move it away") from error


def class_infos(classes: Sequence[tuple[str, str]], rows: Sequence[Row],
                known: Optional[Sequence[bool]] = None,
                taxonomy: Sequence[Mapping[str, str]] = ()) -> tuple[schema.ClassInfo, ...]:
    """Classes with their counts over train, or over train_mini where there is no train; `known` None: all are."""
    counted = trained_split(row.example.split for row in rows)
    counts = [0] * len(classes)
    for row in rows:
        if row.example.split == counted:
            for label in row.example.labels:
                counts[label] += 1
    known = known or [True] * len(classes)
    ranks = [{rank: files.printable(text) for rank, text in one.items()} for one in taxonomy] or [{} for _ in classes]
    return tuple(schema.ClassInfo(index, files.printable(source_id), files.printable(name), counts[index], known[index],
                                  ranks[index]) for index, (source_id, name) in enumerate(classes))


def write(out_dir: str, manifest: schema.Manifest, rows: Iterable[Row], rejected: Iterable[Rejected]) -> None:
    """Writes the three files, each whole or not at all, the manifest last; then the mark of `begin` goes."""
    rows = list(rows)
    columns = schema.EXAMPLE_COLUMNS + (schema.GROUP_COLUMN,) * any(row.example.group for row in rows)
    files.write_csv(files.join(out_dir, schema.EXAMPLES_FILE), columns,
                    (_example_fields(row)[:len(columns)] for row in rows))
    files.write_csv(files.join(out_dir, schema.REJECTED_FILE), schema.REJECTED_COLUMNS,
                    ((*one[:3], _labels(one.labels), " ".join(one.reason.split())) for one in rejected))
    with files.replacing(files.join(out_dir, schema.DATASET_FILE)) as file:
        file.write(json.dumps(manifest.to_json(), indent=1, ensure_ascii=False) + "\n")
    _tidy(out_dir, manifest)


def _tidy(out_dir: str, manifest: schema.Manifest) -> None:
    """Removes the notes of a folder that is finished, and then the mark."""
    there = set(_there(out_dir))
    for name in (*_notes(shard.file for shard in manifest.shards), UNFINISHED_FILE):
        if name in there:
            files.remove(files.join(out_dir, name))


def _labels(labels: Sequence[int]) -> str:
    return " ".join(map(str, labels))


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _example_fields(row: Row) -> tuple[object, ...]:
    one = row.example
    return (row.row, one.id, one.split, "" if row.fold is None else row.fold, _labels(one.labels),
            _number(one.latitude), _number(one.longitude), _number(one.date), one.user, one.group)
