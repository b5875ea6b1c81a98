"""Whether models have seen the pictures that they predict: only if not are these fitted on, and scored without a warning."""

import os
from typing import Optional, Sequence

from pipeline import files
from pipeline.answers import predictions
from pipeline.errors import UserError
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


def warnings(members: Sequence[predictions.Predictions]) -> list[str]:
    """A sentence for each member whose model has seen pictures that are scored, or of which it can't be told."""
    found = []
    for one in members:
        count = seen_pictures(one)
        if count:
            found.append(f"{one.directory}: its model was trained on {count} of these pictures, so that the scores are too "
                         "good")
        elif count is None:
            found.append(f"{one.directory} does not tell what its model was trained on; predict anew to have it checked")
    return found
