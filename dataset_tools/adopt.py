"""Takes TFRecord shards that others wrote, where they lie: reads every record once and writes a manifest of them."""

import hashlib
import posixpath
import re
from typing import Iterable, NamedTuple, Optional, Sequence

from absl import logging

from dataset_tools import files, manifest, parallel
from dataset_tools.competitions import find
from dataset_tools.table import SPLITS, Rejected
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


def adopt(specs: Sequence[str], out_dir: str, competition: Optional[str] = None, num_classes: Optional[int] = None,
          workers: int = 1) -> schema.Manifest:
    """Writes dataset.json, examples.csv and rejected.csv for existing shards; a finished folder is left as it is.

    Records that can't be used (no JPEG, no label in train or val, an id for the second time) are set aside by row.

    Args:
      specs: globs, each maybe after `split=`; else the file's name tells (train_mini, train, val, test, fold.K.).
      out_dir: made when missing.
      competition: noted down; None for the one that the kind of records belongs to.
      num_classes: None for the largest label + 1.
      workers: processes.

    Raises:
      UserError: an unknown competition, no file matches, no split can be told, a shard is truncated or of no known kind, the shards are of
        several kinds, a label is beyond `num_classes`, no record is usable, or `out_dir` holds other shards.
    """
    out_dir = files.absolute(out_dir)
    if competition is not None:
        find(competition)
    sources = find_sources(specs)
    settings = {"adopt_records": list(specs), "competition": competition, "num_classes": num_classes,
                "fingerprint": _fingerprint(sources)}
    finished = manifest.find_finished(out_dir, settings)
    if finished:
        logging.info("%s is up to date", out_dir)
        return finished
    files.make_folder(out_dir)
    manifest.begin(out_dir, ())
    from dataset_tools import adopted_records  # late: it imports TensorFlow

    total = sum(adopted_records.mib(source.size) for source in sources)
    read = parallel.run(adopted_records.read_shard, sources, workers, total, "shards checked", "MiB")
    _warn_of_missing(source.path for source in sources)
    whole, rows, rejected = _assemble(sources, read, competition, num_classes, settings)
    manifest.write(out_dir, whole, rows, rejected)
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


def _assemble(sources, read, competition, num_classes, settings):
    """(manifest, rows, rejected) from what the workers read."""
    kind = _common_kind(sources, read)
    shards, rows, rejected = [], [], []
    first_row = 0
    seen: dict[tuple[str, str], str] = {}
    for source, result in zip(sources, read):
        set_aside = []
        for position, (example, reason) in enumerate(zip(result.examples, result.reasons)):
            if not reason and (example.split, example.id) in seen:
                reason = f"its id is already in {seen[example.split, example.id]}"
            if reason:
                set_aside.append(first_row + position)
                rejected.append(Rejected(example.id, example.split, example.path, example.labels, reason))
            else:
                seen[example.split, example.id] = source.path
                rows.append(manifest.Row(first_row + position, source.fold, example))
        records = len(result.examples)
        shards.append(schema.Shard(source.path, source.split, source.fold, first_row, records, source.size,
                                   result.sha256, tuple(set_aside)))
        first_row += records
    if not rows:
        raise UserError(f"no usable record in {sources[0].path}" + (f": {rejected[0].reason}" if rejected else ""))
    folds = {source.fold for source in sources if source.fold is not None}
    whole = schema.Manifest(
        competition=competition or _COMPETITION_OF[kind], record_kind=kind,
        multi_label=any(len(row.example.labels) > 1 for row in rows),
        classes=manifest.class_infos(
            _classes(kind, sources, read, rows, num_classes), rows), shards=tuple(shards),
        folds=max(folds) + 1 if folds else 0, rejected=len(rejected), settings=settings)
    return whole, rows, rejected


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
