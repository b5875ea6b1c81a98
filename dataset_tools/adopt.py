"""Takes TFRecord shards that others wrote, where they lie: reads every record once and writes a manifest of them.

Pictures that are not as ours would be (turned by EXIF, larger than --max_side, no plain JPEG) go into small shards of our
own; the shards of others are never written to.
"""

import dataclasses
import hashlib
import posixpath
import re
from typing import Any, Iterable, NamedTuple, Optional, Sequence

from absl import logging

from dataset_tools import files, manifest, parallel, remarks, words
from dataset_tools.competitions import find
from dataset_tools.table import SPLITS, Example, Rejected
from pipeline import command, lock
from pipeline.errors import UserError, unknown
from pipeline.files import matching, read_json
from pipeline.records import schema
from pipeline.records.schema import Key

_FOLD = re.compile(r"(?:^|[^a-z])fold\.(\d+)\.")
_SPLIT_BEFORE_GLOB = re.compile(r"([A-Za-z_]+)=(.*)", re.S)
_NUMBERED = re.compile(r"(.*-)\d{5}-of-(\d{5})")
_COMPETITION_OF = {"inat2021_solution": "inat2021", "turtle_recall_solution": "turtle_recall"}


class Source(NamedTuple):
    """One shard file to be adopted."""

    path: str
    split: str
    fold: Optional[int]
    size: int       # bytes
    mtime_ns: int
    max_side: int = 0  # pixels, of pictures that may stay as they are; 0: any


def adopt(specs: Sequence[str], out_dir: str, competition: Optional[str] = None, num_classes: Optional[int] = None,
          workers: int = 1, max_side: int = 0) -> schema.Manifest:
    """Writes dataset.json, examples.csv and rejected.csv for existing shards; a finished folder is left as it is.

    Records that can't be used (no picture, no label in train or val, an id for the second time) are set aside by row.

    Args:
      specs: globs, each maybe after `split=`; else the file's name tells (train_mini, train, val, test, fold.K.).
      out_dir: made when missing.
      competition: noted down; None for the one that the kind of records belongs to.
      num_classes: None for the largest label + 1.
      workers: processes.
      max_side: pixels of the longer side at most, 0 for as it is.

    Raises:
      UserError: an unknown competition, no file matches, no split can be told, a shard is truncated or of no known kind, the shards are of
        several kinds, a label is beyond `num_classes`, no record is usable, or `out_dir` holds other shards.
    """
    out_dir = files.absolute(out_dir)
    if competition is not None:
        find(competition)
    sources = [one._replace(max_side=max_side) for one in find_sources(specs)]
    settings = {"adopt_records": list(specs), "competition": competition, "num_classes": num_classes, "max_side": max_side,
                "fingerprint": _fingerprint(sources)}
    finished = manifest.find_finished(out_dir, settings)
    if finished:
        logging.info("%s is up to date", out_dir)
        return finished
    files.make_folder(out_dir)
    with lock.held(out_dir):
        manifest.reopen(out_dir)
        return _write(sources, out_dir, settings, workers)


def _write(sources: Sequence[Source], out_dir: str, settings: dict[str, Any], workers: int) -> schema.Manifest:
    manifest.begin(out_dir, ())
    from dataset_tools import adopted_records, mended  # late: they import TensorFlow

    total = sum(adopted_records.mib(source.size) for source in sources)
    read = parallel.run(adopted_records.read_shard, sources, workers, total, "shards checked", "MiB")
    _warn_of_missing(source.path for source in sources)
    taken = _taken(sources, read)
    tasks = mended.plan(taken.to_mend, taken.kind, out_dir, settings["max_side"])
    if tasks:
        manifest.begin(out_dir, [task.file for task in tasks])
        command.begin_work()
        _add_mended(taken, out_dir, tasks, parallel.run(
            mended.write, tasks, workers, sum(len(task.records) for task in tasks), "pictures copied as ours would be"))
    whole = _manifest(taken, sources, read, settings["competition"], settings["num_classes"], settings)
    manifest.write(out_dir, whole, taken.rows, taken.rejected)
    return whole


def find_sources(specs: Sequence[str]) -> list[Source]:
    """The files of all globs: train first, test last, by name within a split. Raises UserError."""
    found: dict[str, Source] = {}
    for spec in specs:
        split, pattern = _split_of_spec(spec)
        paths = _matching(pattern)
        if not paths:
            raise UserError(f"--adopt_records: no file matches {pattern}")
        for path in paths:
            if path in found:
                raise UserError(f"--adopt_records: {path} is matched twice")
            stat = files.stat_of(path)
            found[path] = Source(path, *(_split_and_fold(path, split)), stat.size, stat.mtime_ns)
    return sorted(found.values(), key=lambda one: (SPLITS.index(one.split), one.path))


def _split_of_spec(spec: str) -> tuple[Optional[str], str]:
    match = _SPLIT_BEFORE_GLOB.fullmatch(spec.strip())
    if not match:
        return None, spec.strip()
    if match[1] not in SPLITS and _matching(spec.strip()):
        return None, spec.strip()
    if match[1] not in SPLITS:
        raise unknown("split", match[1], SPLITS)
    return match[1], match[2]


def _matching(pattern: str) -> list[str]:
    pattern = files.absolute(pattern)
    with files.os_errors(pattern):
        return [path for path in matching(pattern) if files.stat_of(path)]


def _warn_of_missing(paths: Iterable[str]) -> None:
    """A set that says -of-00007 and has six files is worth a remark; it may be meant so."""
    counts: dict[tuple[str, int], int] = {}
    for path in paths:
        match = _NUMBERED.fullmatch(path)
        if match:
            key = match[1], int(match[2])
            counts[key] = counts.get(key, 0) + 1
    for (stem, wanted), count in counts.items():
        if count != wanted:
            logging.warning("only %d of %d shards %s* are taken", count, wanted, stem)


def _split_and_fold(path: str, told: Optional[str]) -> tuple[str, Optional[int]]:
    name = posixpath.basename(path)
    fold = _FOLD.search(name)
    split = told or ("train" if fold else next((one for one in ("train_mini", *SPLITS) if one in name), None))
    if split is None:
        raise UserError(f"--adopt_records: the name of {path} tells no split; write split=GLOB with one of "
                        f"{', '.join(SPLITS)}")
    return split, int(fold[1]) if fold and split == "train" else None


def _fingerprint(sources: Sequence[Source]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.path}\0{source.split}\0{source.size}\0{source.mtime_ns}\n".encode())
    return digest.hexdigest()


@dataclasses.dataclass
class _Taken:
    """What becomes of all records."""

    kind: str
    shards: list[schema.Shard] = dataclasses.field(default_factory=list)
    rows: list[manifest.Row] = dataclasses.field(default_factory=list)
    rejected: list[Rejected] = dataclasses.field(default_factory=list)
    to_mend: dict = dataclasses.field(default_factory=dict)  # list of mended.Record by (split, fold)
    next_row: int = 0
    mended: int = 0
    damaged: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # (path, remark)


def _taken(sources: Sequence[Source], read: Sequence) -> _Taken:
    """Where every record goes, from what the workers read."""
    from dataset_tools.mended import Record

    taken = _Taken(_common_kind(sources, read))
    seen: dict[tuple[str, str], str] = {}
    for source, result in zip(sources, read):
        set_aside = []
        for position, (example, reason) in enumerate(zip(result.examples, result.reasons)):
            if not reason and (example.split, example.id) in seen:
                reason = f"its id is already in {seen[example.split, example.id]}"
            if not reason:
                seen[example.split, example.id] = source.path
            if not reason and position not in result.mend:
                taken.rows.append(manifest.Row(taken.next_row + position, source.fold, example))
                continue
            set_aside.append(taken.next_row + position)
            if reason:
                taken.rejected.append(_rejected(example, reason))
            else:
                taken.to_mend.setdefault((source.split, source.fold), []).append(
                    Record(source.path, result.compression, position, result.mend[position], example))
        records = len(result.examples)
        if not result.mend or len(set_aside) < records:  # nothing is read of a shard that is mended as a whole
            taken.shards.append(schema.Shard(source.path, source.split, source.fold, taken.next_row, records, source.size,
                                             result.sha256, tuple(set_aside), result.compression))
        taken.next_row += records
    return taken


def _rejected(example: Example, reason: str) -> Rejected:
    return Rejected(example.id, example.split, example.path, example.labels, reason)


def _add_mended(taken: _Taken, out_dir: str, tasks: Sequence, written: Sequence) -> None:
    for task, result in zip(tasks, written):
        if result.records:
            taken.shards.append(schema.Shard(task.file, task.split, task.fold, taken.next_row, result.records, result.size,
                                             result.sha256))
        else:
            files.remove(files.join(out_dir, task.file))
        for index, record in enumerate(task.records):
            if index in result.rejected:
                taken.rejected.append(_rejected(record.example, result.rejected[index]))
                continue
            taken.rows.append(manifest.Row(taken.next_row, task.fold, record.example))
            taken.next_row += 1
            if index in result.damaged:
                taken.damaged.append((record.example.path, result.damaged[index]))
        taken.mended += result.records


def _manifest(taken: _Taken, sources, read, competition, num_classes, settings) -> schema.Manifest:
    rows, rejected = taken.rows, taken.rejected
    if not rows:
        raise UserError(f"no usable record in {sources[0].path}" + (f": {rejected[0].reason}" if rejected else ""))
    folds = {source.fold for source in sources if source.fold is not None}
    classes = manifest.class_infos(_classes(taken.kind, sources, read, rows, num_classes), rows)
    notes = [*remarks.of_rejected(rejected), *remarks.of_damaged(taken.damaged)]
    if taken.mended:
        what = words.count(taken.mended, "picture was", "pictures were")
        notes.insert(0, f"{what} turned, shrunk or encoded anew, into shards beside the others; these are as they were")
    return schema.Manifest(
        competition=competition or _COMPETITION_OF[taken.kind], record_kind=taken.kind,
        multi_label=any(len(row.example.labels) > 1 for row in rows), classes=classes, shards=tuple(taken.shards),
        folds=max(folds) + 1 if folds else 0, rejected=len(rejected), settings=settings, notes=tuple(notes))


def _common_kind(sources, read) -> str:
    kinds = {result.kind: source.path for source, result in zip(sources, read) if result.kind}
    if len(kinds) > 1:
        (one, here), (other, there) = sorted(kinds.items())[:2]
        raise UserError(f"--adopt_records: {here} holds records of the kind {one}, {there} of the kind {other}")
    if not kinds:
        raise UserError(f"--adopt_records: the shards hold no records, e.g. {sources[0].path}")
    return next(iter(kinds))


def _classes_beside(sources) -> Optional[list[tuple[str, str]]]:
    """(source id, name) from the dataset.json beside shards of our own, whose records tell no source ids; else None."""
    found = set()
    for folder in {posixpath.dirname(source.path) for source in sources}:
        path = files.join(folder, schema.DATASET_FILE)
        if files.size_of(path) is None:
            return None
        try:
            there = schema.Manifest.from_json(read_json(path))
        except (KeyError, TypeError, ValueError):  # somebody else's dataset.json
            return None
        found.add(tuple((one.source_id, one.name) for one in there.classes))
    if len(found) > 1:
        raise UserError(f"--adopt_records: the {schema.DATASET_FILE} files beside the shards tell different classes")
    return list(found.pop())


def _classes(kind: str, sources, read, rows, num_classes: Optional[int]) -> list[tuple[str, str]]:
    """(source id, name) by label; the records tell names and, for Turtle Recall, source ids."""
    beside = _classes_beside(sources)
    largest = max((label for row in rows for label in row.example.labels), default=-1)
    count = largest + 1 if num_classes is None else num_classes
    if beside and largest < len(beside) and num_classes in (None, len(beside)):
        return beside
    if largest >= count:
        raise UserError(f"a record has the label {largest}, which is beyond --num_classes={num_classes}")
    if not count:
        raise UserError("--adopt_records: no record has a label; give --num_classes")
    texts: dict[int, str] = {}
    for result in read:
        texts = {**result.texts, **texts}
    if schema.RECORD_KINDS[kind].labels == Key.LABELS:
        return [(str(label), texts.get(label) or str(label)) for label in range(count)]
    return [(texts.get(label) or str(label),) * 2 for label in range(count)]
