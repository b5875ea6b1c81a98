"""What may not be held out, started from or predicted out of fold, because a model has seen it."""

from typing import Any, Sequence

import pandas as pd

from pipeline.errors import UserError
from pipeline.records import dataset as datasets
from pipeline.runs import record as run_record, run as runs, seen as seen_of


def check_start(run: runs.Run, data: datasets.Dataset) -> None:
    """Raises UserError where --init_from has seen what this run holds out, unless --allow_seen."""
    held_out = runs.held_out_part(run, data)
    if not run.init_from or run.allow_seen or held_out is None:
        return
    theirs = seen_of.of_model(run.init_from, data)
    if theirs is None:
        if _is_made_anew(run_record.read(run.init_from), data):
            raise UserError(f"--init_from: {run.init_from} was made by an earlier version and its records are gone, so that "
                            "nobody can tell whether it was trained on what is held out here; --allow_seen takes it all "
                            "the same")
        return
    fold = seen_of.first_fold(run.init_from, data, run.fold)
    strangers = runs.strangers_part(run, data)
    asked = [held_out] if strangers is None else [held_out, strangers]
    seen = pd.concat([theirs.among(part, fold) for part in asked])
    if len(seen):
        model = run.init_from if fold is None else f"fold {fold} of {run.init_from}"
        who = "are held out here" if run.fold is None else f"fold {run.fold} holds out here"
        whole = sum(part.size for part in asked)
        raise UserError(f"--init_from: {model} was trained on {len(seen)} of the {whole} pictures that {who}, such as "
                        f"{seen['id'].iloc[0]}: scores on them would be too good. Start from a run that held out the same "
                        "ones (the same folds of the same records), or give --allow_seen")


def _is_made_anew(record: dict[str, Any], data: datasets.Dataset) -> bool:
    """Whether `data` are of the competition and classes of an earlier version's run.json."""
    ours = data.manifest.competition, data.classes_digest()
    return ours in [(one["competition"], one["classes"]) for one in record["same"].get("dataset", {}).values()]


def check_held_out(run: runs.Run, data: datasets.Dataset) -> None:
    """Raises UserError where pictures of a held-out fold are trained on too (train_mini is a part of train)."""
    if run.fold is None or "+" not in run.train_split or seen_of.ids_by_split(data):
        return
    trained = runs.training_part(run, data).identifiers()
    held_out = runs.held_out_part(run, data).identifiers()
    both = held_out[held_out["id"].isin(trained["id"])]
    if len(both):
        raise UserError(f"--train_split={run.train_split}: {len(both)} pictures that fold {run.fold} holds out are trained on "
                        f"too, such as {both['id'].iloc[0]}; train on one of the splits, or without --fold")


def check_out_of_fold(model_dir: str, data: datasets.Dataset, split: str, folds: Sequence[int]) -> None:
    """Raises UserError where the folds of the records are not those that the models of a run were trained by."""
    known = seen_of.of_model(model_dir, data)
    for fold in folds if known else ():
        both = known.among(data.held_out(split, fold), fold)
        if len(both):
            raise UserError(f"--split={split}: fold {fold} of {data.directory} holds {len(both)} pictures that fold {fold} "
                            f"of {model_dir} was trained on, such as {both['id'].iloc[0]}: predict the records that it was "
                            "trained by, or other folds' pictures by a split of their own")
