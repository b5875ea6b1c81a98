"""From a competition's raw files to a folder of shards."""

import dataclasses
from typing import Any, Optional

from absl import logging

from dataset_tools import files, manifest, remarks, shard_plan, standing
from dataset_tools.competitions import find
from dataset_tools.table import MISSING, Competition, MissingTable, Rejected, Table
from dataset_tools.table_asked import Asked
from pipeline import lock
from pipeline.errors import UserError, WorkError
from pipeline.records import schema


def build(competition: str, data_dir: str, out_dir: str, shard_mib: int = 128, max_side: int = 0, workers: int = 1,
          seed: int = 42, folds: int = 0, distance: Optional[int] = None, short_side: int = 0, folds_by: str = "copies",
          asked: Asked = Asked()) -> schema.Manifest:
    """Writes shards, examples.csv, rejected.csv and, last, dataset.json; a finished folder is left as it is.

    Args:
      competition: a name of `competitions.COMPETITIONS`.
      data_dir: raw files; local or gs://.
      out_dir: made when missing; local or gs://.
      shard_mib: source MiB a shard.
      max_side: pixels of the longer side at most, 0 for as it is.
      workers: processes.
      seed: of the shuffle and of the folds.
      folds: to divide train into, written apart; 0 for none.
      short_side: pixels that the shorter side gets (it is enlarged too), 0 for as it is; not with max_side.
      distance: of the perceptual hashes of copies (`duplicates.group`), which stay in one fold; None for its default.
      folds_by: how train is divided, one of folds.METHODS.
      asked: what is said of a table, where that is the competition.

    Raises:
      UserError: wrong raw files, no usable picture, too few for so many folds, or an `out_dir` that holds other shards.
    """
    found = find(competition, asked)
    data_dir, out_dir = files.absolute(data_dir), files.absolute(out_dir)
    settings = {
        "competition": competition, "data_dir": data_dir, "random_seed": seed, "max_side": max_side,
        "short_side": short_side, "shard_mib": shard_mib, "fingerprint": found.fingerprint(data_dir), "folds": folds,
        "duplicate_distance": _distance(distance) if folds else None, "folds_by": folds_by, **asked.flags,
    }
    finished = manifest.find_finished(out_dir, settings)
    if finished:
        logging.info("%s is up to date", out_dir)
        return finished
    try:
        table = found.read(data_dir)
    except MissingTable as error:
        raise UserError(f"{error}{remarks.tables_elsewhere(data_dir)}") from error
    files.make_folder(out_dir)
    with lock.held(out_dir):
        manifest.reopen(out_dir)
        return _write(found.of(not table.multi_label), table, settings, out_dir, workers)


def _distance(distance: Optional[int]) -> int:
    from dataset_tools import duplicates  # late: it imports SciPy

    return duplicates.DEFAULT_DISTANCE if distance is None else distance


def _divide(table: Table, settings: dict[str, Any], out_dir: str, workers: int) -> Optional[shard_plan.Folds]:
    """Folds, as an unfinished run has left them or made now: for them every picture is read."""
    if not settings["folds"]:
        return None
    from dataset_tools import folds  # late: it imports scikit-learn and TensorFlow

    def divided() -> dict[str, Any]:
        return dataclasses.asdict(folds.divide(table, settings["data_dir"], settings["folds"], settings["duplicate_distance"],
                                               settings["random_seed"], workers, settings["folds_by"]))

    manifest.begin_to_divide(out_dir)
    table_of = table.examples.to_csv(index=False, encoding="utf-8", errors="backslashreplace")
    found = standing.kept(files.join(out_dir, manifest.FOLDS_NAME), standing.key_of(settings, table_of), divided)
    return shard_plan.Folds(found["split"], found["count"], found["fold_of"], tuple(map(tuple, found["copies"])))


def _check_still_there(competition: Competition, data_dir: str, fingerprint: str) -> None:
    """Raises WorkError where pictures are missing since the whole folder went (a disk that was unmounted) or was changed."""
    try:
        changed = not files.is_folder(data_dir) or competition.fingerprint(data_dir) != fingerprint
    except (OSError, UserError):
        changed = True
    if changed:
        raise WorkError(f"the data folder {data_dir} was changed while it was read, or is gone: pictures are missing that were "
                        "there; the same command goes on when it is there again")


def _write(competition: Competition, table: Table, settings: dict[str, Any], out_dir: str, workers: int) -> schema.Manifest:
    from dataset_tools import shard_writer, shared_ids  # late: they import TensorFlow

    data_dir = settings["data_dir"]
    folds = _divide(table, settings, out_dir, workers)
    planned = shard_plan.plan(table.examples, data_dir, settings["shard_mib"], settings["random_seed"], folds)
    tasks = shard_writer.make_tasks(planned, table.classes, data_dir, out_dir, settings["max_side"], settings["short_side"])
    before = shard_writer.standing_shards(tasks) if manifest.has_begun(out_dir) else {}
    manifest.begin(out_dir, [one.file for one in planned], before)
    written = shard_writer.write_shards(tasks, before, workers)
    if any(reason == MISSING for one in written for reason in one.rejected.values()):
        _check_still_there(competition, data_dir, settings["fingerprint"])
    rows, rejected, damaged = [], list(table.rejected), []
    for plan, result in zip(planned, written):
        for position, example in enumerate(plan.examples):
            if position in result.rejected:
                rejected.append(Rejected(*example[:4], result.rejected[position]))
            else:
                rows.append(manifest.Row(plan.first_row + position, plan.fold, example))
            if position in result.damaged:
                damaged.append((example.path, result.damaged[position]))
    if not rows:
        first = next((one for one in rejected if one.split), None)
        reasons = f"; the first: {first.path}: {first.reason}{remarks.lies_elsewhere(data_dir, first)}" if first else ""
        raise UserError(f"no usable picture in the data folder {data_dir}{reasons}")
    copies = manifest.present(folds.copies, folds.split, rows) if folds else ()
    classes = manifest.class_infos(table.classes, rows, table.known, table.taxonomy)
    whole = schema.Manifest(
        competition=competition.name, record_kind="fieldmark", multi_label=table.multi_label, task=table.task,
        classes=classes, shards=tuple(one.shard for one in written), folds=settings["folds"],
        rejected=sum(bool(one.split) for one in rejected), settings=settings, unknown_answer=table.unknown_answer,
        metric=competition.metric, ids_by_split=shared_ids.begin_anew(data_dir, (row.example for row in rows)),
        notes=(*table.notes, *remarks.of(data_dir, table, rejected, damaged, classes)),
        duplicates=copies[:manifest.LISTED_GROUPS], copies=sum(len(ids) - 1 for ids in copies),
        parted_copies=manifest.parted(copies, rows, folds.split) if folds else 0)
    manifest.write(out_dir, whole, rows, rejected)
    return whole
