"""What steps read and write, each as a digest of its contents: two that agree are the same, whenever they were written.

Things are named KIND:PATH, so that a plan is plain data; the kinds are the functions of _KINDS.
"""

import hashlib
import json
import os
from typing import Any, Callable, Optional

from pipeline import files
from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.records import boxes as boxes_of, dataset as datasets, schema
from pipeline.runs import record as run_record, run as runs

RAW = "raw"  # the competition's own files, whose digest the caller brings: this package knows no competition
WHOLE_LOCAL, WHOLE_REMOTE = 1 << 28, 1 << 24  # bytes up to which every byte counts
_CHECKPOINTS = ("best", "last", "kept")       # folders of a stage
_PIECES, _PIECE = 16, 1 << 20                 # of larger files: so many pieces of so many bytes, spread evenly, and the size


class Digests:
    """Digests of things by name, each taken once until `forget`.

    Args: raw: gives a text that changes when the competition's files do.
    """

    def __init__(self, raw: Callable[[], str]):
        self._raw = raw
        self._known: dict[str, Optional[str]] = {}

    def of(self, thing: str) -> Optional[str]:
        """The digest of KIND:PATH; None where it is not there, or not whole."""
        if thing not in self._known:
            kind, _, path = thing.partition(":")
            self._known[thing] = _digest(self._raw()) if kind == RAW else _KINDS[kind](path)
        return self._known[thing]

    def forget(self) -> None:
        """A step has run. The competition's files are none that it writes."""
        self._known = {thing: found for thing, found in self._known.items() if thing.startswith(RAW)}


def content(path: str) -> Optional[str]:
    """Of a file's bytes; of a large one's size and some of its bytes. None where there is no such file."""
    try:
        size = files.size(path)
    except Exception as error:  # gs:// has an error of TensorFlow's for it, which is not imported for local paths
        if isinstance(error, FileNotFoundError) or type(error).__name__ == "NotFoundError":
            return None
        raise
    whole = WHOLE_REMOTE if files.is_remote(path) else WHOLE_LOCAL
    starts = [0] if size <= whole else [(size - _PIECE) * piece // (_PIECES - 1) for piece in range(_PIECES)]
    digest = hashlib.sha256(str(size).encode())
    with files.open_file(path, "rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(size if size <= whole else _PIECE))
    return digest.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _of_files(*paths: str) -> Optional[str]:
    found = [content(path) for path in paths]
    return None if None in found else _digest(found)


def _of_records(directory: str) -> Optional[str]:
    """The manifest and its tables, and that the shards lie there (locally: in the sizes that they were written in)."""
    found = _of_files(*(os.path.join(directory, name) for name in (schema.DATASET_FILE, schema.EXAMPLES_FILE,
                                                                   schema.REJECTED_FILE)))
    if found is None:
        return None
    data = datasets.load(directory)
    paths = {data.path(shard): shard.bytes for shard in data.manifest.shards}
    if files.is_remote(directory):  # one listing, where asking for each size would take minutes
        whole = set(paths) <= {*files.glob(os.path.join(files.escape(directory), "*")), *filter(os.path.isabs, paths)}
    else:
        whole = all(files.exists(path) and files.size(path) == size for path, size in paths.items())
    return found if whole else None


def _of_shards(text: str) -> Optional[str]:
    """DIRECTORY:SPLIT+SPLIT: classes, and the contents of the splits' shards that are there."""
    directory, _, splits = text.rpartition(":")
    if not files.exists(os.path.join(directory, schema.DATASET_FILE)):
        return None
    data = datasets.load(directory)
    return _digest([data.identity(split) for split in splits.split("+") if split in data.manifest.splits])


def _of_model(model_dir: str) -> Optional[str]:
    """What a finished run was told that its predictions follow from, and the checkpoints of its last stages."""
    if not files.exists(os.path.join(model_dir, run_record.RUN_FILE)):
        return None
    record = run_record.read(model_dir)
    free = {name: value for name, value in record["free"].items() if name != "data_dir"}
    try:
        folds = runs.finished_folds(model_dir)
    except UserError:
        return None
    return _digest([record["same"], free, {str(fold): _of_stage(runs.last_stage_dir(model_dir, fold)) for fold in folds}])


def _of_stage(folder: str) -> dict[str, Optional[str]]:
    paths = [os.path.join(folder, runs.DONE_FILE), *(path for name in _CHECKPOINTS for path in _listed(folder, name))]
    return {path.removeprefix(folder): content(path) for path in paths}


def _listed(folder: str, *names: str) -> list[str]:
    """The files of a folder in it, in order."""
    return sorted(files.glob(os.path.join(files.escape(folder), *names, "*")))


def _of_geo_prior(model_dir: str) -> Optional[str]:
    """Of a finished geo prior: run.json, scores and checkpoint."""
    if not runs.is_done(model_dir):
        return None
    return _of_files(*(os.path.join(model_dir, name) for name in (run_record.RUN_FILE, runs.DONE_FILE)),
                     *_listed(model_dir, "last"))


def _of_boxes(text: str) -> Optional[str]:
    """DIRECTORY:NAME."""
    directory, _, name = text.rpartition(":")
    return _of_files(boxes_of.path(directory, name), boxes_of.meta_path(directory, name))


def _of_predictions(directory: str) -> Optional[str]:
    return _of_files(*(os.path.join(directory, name) for name in (predictions.META_FILE, predictions.IDS_FILE,
                                                                  predictions.MATRIX_FILE)))


def _of_export(directory: str) -> Optional[str]:
    """Of a whole one: what is told of it, graph and weights."""
    return _of_files(*(os.path.join(directory, name) for name in ("model.json", "saved_model.pb")),
                     *_listed(directory, "variables"))


_KINDS: dict[str, Callable[[str], Optional[str]]] = {
    "records": _of_records, "shards": _of_shards, "model": _of_model, "geo_prior": _of_geo_prior, "boxes": _of_boxes,
    "predictions": _of_predictions, "file": content, "export": _of_export}
