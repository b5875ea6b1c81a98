"""Which pictures the cross-validation of a probe holds out together: none that is held out from the stage is among them."""

import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from pipeline.records import schema

PARTS = 3


def divide(examples: pd.DataFrame, manifest: schema.Manifest, seed: int) -> np.ndarray:
    """int [n], the part of each picture, PARTS of them at most; all alike where nothing can be held out.

    They are the folds that are left to train on, where these are two and more: folds keep together what belongs together,
    groups too, which nothing else knows. Where there are none (or copies stand in several) the division is by label, and
    copies that are known stay together.

    Args:
      examples: the columns id, fold (−1: none) and labels of what is trained on, each with a label at least.
      seed: of the division by label.
    """
    folds, numbers = np.unique(examples["fold"].to_numpy(), return_inverse=True)
    if len(folds) > 1 and not manifest.parted_copies:
        return numbers % PARTS
    return _by_label(_rarest(examples["labels"]), _groups(examples["id"], manifest), seed)


def _rarest(labels: pd.Series) -> np.ndarray:
    """Of each picture the label that the fewest have, the lower of equals."""
    counts = np.bincount(np.concatenate([np.asarray(one, np.int64) for one in labels]))
    return np.array([min(one, key=lambda label: (counts[label], label)) for one in labels])


def _groups(ids: pd.Series, manifest: schema.Manifest) -> np.ndarray:
    """int [n], the same for copies of one picture."""
    group_of = {one: number for number, group in enumerate(manifest.duplicates) for one in group}
    return np.array([group_of.get(one, len(manifest.duplicates) + position) for position, one in enumerate(ids)])


def _by_label(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    parts = np.zeros(len(labels), np.int64)
    count = min(PARTS, np.bincount(labels).max())
    if count < 2:
        return parts
    some_together = len(np.unique(groups)) < len(groups)
    splitter = (StratifiedGroupKFold if some_together else StratifiedKFold)(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Classes with fewer pictures than parts are usual here: they go to as many parts.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        divided = splitter.split(np.zeros(len(labels)), labels, groups if some_together else None)
        for part, (_, held_out) in enumerate(divided):
            parts[held_out] = part
    return parts
