"""Which pictures the cross-validation of a probe holds out together: none that is held out from the stage is among them."""

import warnings

import numpy as np
import pandas as pd
import scipy.sparse
import scipy.sparse.csgraph
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from pipeline.records import schema

PARTS = 3


def divide(examples: pd.DataFrame, manifest: schema.Manifest, seed: int) -> np.ndarray:
    """int [n], the part of each picture, PARTS of them at most; all alike where nothing can be held out.

    They are the folds that are left to train on, where these are two and more: folds keep together what belongs together.
    Where there are none (or copies stand in several) the division is by label, and groups and copies that are known stay
    together.

    Args:
      examples: the columns id, fold (−1: none), labels and group ('': none) of what is trained on, each with a label at least.
      seed: of the division by label.
    """
    folds, numbers = np.unique(examples["fold"].to_numpy(), return_inverse=True)
    if len(folds) > 1 and not manifest.parted_copies:
        return numbers % PARTS
    return _by_label(_rarest(examples["labels"]), _together(examples, manifest), seed)


def _rarest(labels: pd.Series) -> np.ndarray:
    """Of each picture the label that the fewest have, the lower of equals."""
    counts = np.bincount(np.concatenate([np.asarray(one, np.int64) for one in labels]))
    return np.array([min(one, key=lambda label: (counts[label], label)) for one in labels])


def _together(examples: pd.DataFrame, manifest: schema.Manifest) -> np.ndarray:
    """int [n], the same for copies of one picture and for members of a group."""
    copies = {one: f"copies {number}" for number, group in enumerate(manifest.duplicates) for one in group}
    bonds = [(position, bond) for position, (one, group) in enumerate(zip(examples["id"], examples["group"]))
             for bond in (copies.get(one), f"group {group}" if group else None) if bond]
    numbers, _ = pd.factorize(np.array([bond for _, bond in bonds], object))
    nodes = len(examples) + len(bonds)  # pictures, then bonds
    graph = scipy.sparse.coo_matrix((np.ones(len(bonds)), ([position for position, _ in bonds], len(examples) + numbers)),
                                    (nodes, nodes))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1][:len(examples)]


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
