"""Whether models have seen the pictures that they predict: only if not are these fitted on, and scored without a warning."""

import os
from typing import Optional, Sequence

from pipeline import files
from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.records import dataset as datasets
from pipeline.runs import record as run_record


def seen_pictures(one: predictions.Predictions) -> Optional[int]:
    """How many of the predicted pictures the model was trained on; None: it can't be told."""
    told = one.meta.get("seen")
    return told["pictures"] if told else _by_splits(one)


def _by_splits(one: predictions.Predictions) -> Optional[int]:
    """`seen_pictures` of predictions from before meta.json told it, by what their model's run.json says."""
    model_dir = one.meta.get("model_dir") or ""
    if not files.exists(os.path.join(model_dir, run_record.RUN_FILE)):
        return None
    same = run_record.read(model_dir)["same"]
    if "train_split" not in same or same.get("init_from"):  # what that one has seen, predict.py alone works out
        return None
    trained, split = same["train_split"], one.meta["split"]
    held_out = same.get("by_folds") and split == trained  # each picture by the fold that did not see it
    if held_out or not set(trained.split("+")) & set(split.split("+")):
        return 0
    return one.meta["examples"]


def require(members: Sequence[predictions.Predictions], flag: str) -> None:
    """Raises UserError, which begins with `flag`, where a model has seen pictures that something is to be fitted on."""
    for one in members:
        count = seen_pictures(one)
        if count:
            raise UserError(f"{flag}: {one.directory} holds {count} pictures that its model was trained on, and what is "
                            "fitted there is too sure of itself; fit on out-of-fold predictions, or of a split that no model "
                            "has seen")


def warnings(members: Sequence[predictions.Predictions], data: datasets.Dataset) -> list[str]:
    """A sentence for each member whose model has seen pictures that are scored, or of which it can't be told; and one where
    the folds of `data` have seen copies of what they held out."""
    found = []
    for one in members:
        count = seen_pictures(one)
        if count:
            found.append(f"{one.directory}: its model was trained on {count} of these pictures, so that the scores are too "
                         "good")
        elif one.of_another_program:
            found.append(f"{one.directory} was made by another program: what its model was trained on is not known, and if "
                         "these pictures were among it, the scores are too good")
        elif count is None:
            found.append(f"{one.directory} does not tell what its model was trained on; predict anew to have it checked")
    parted = data.manifest.parted_copies
    if parted and any(_is_by_folds(one) for one in members):
        found.append(f"{parted} pictures of {data.directory} have a copy in another fold (--folds_by=rows), which the model "
                     "that is asked about them was trained on; scores out of fold are better than on new pictures")
    return found


def _is_by_folds(one: predictions.Predictions) -> bool:
    """Whether pictures of the split that was trained on are predicted by the folds that held them out."""
    told = one.meta.get("seen") or {}
    return told.get("held_out_fold") is not None and bool(set(told["splits"]) & set(one.meta["split"].split("+")))
