"""Divides groups of examples into parts of given sizes, each with its share of every class; in memory of the labels alone.

As scikit-learn's StratifiedGroupKFold: the largest group first, each into the part where the classes are then divided best.
That one keeps a table of groups × classes (216 GB at iNaturalist's size) and knows parts of one size only. Here a class c of
N examples, of which n are in a part whose share is t, costs n² / (t·N²), which over the parts is least at n = t·N; the number
of all examples is divided like another class. A group changes the cost of its own classes alone.
"""

from typing import Sequence

import numpy as np
from scipy import sparse


def divide(labels: Sequence[Sequence[int]], groups: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """The part of each group: int [groups].

    Args:
      labels: class indices of each example; several, one or none.
      groups: int [examples], from 0 without a gap.
      shares: float [parts], their sum is 1.
      seed: any integer from 0; of the order of groups of one size.
    """
    table = _counts(labels, groups)
    sizes = np.asarray(table[:, -1].todense()).ravel()
    totals = np.asarray(table.sum(axis=0), np.float64).ravel()
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    scale = 1 / (np.asarray(shares)[:, np.newaxis] * totals[np.newaxis] ** 2)  # [parts, classes]
    filled = np.zeros_like(scale)
    part_of = np.empty(len(sizes), np.int64)
    for group in order.tolist():
        place = slice(table.indptr[group], table.indptr[group + 1])
        classes, counts = table.indices[place], table.data[place]
        costs = ((2 * filled[:, classes] + counts) * counts * scale[:, classes]).sum(axis=1)
        part = int(costs.argmin())
        filled[part, classes] += counts
        part_of[group] = part
    return part_of


def _counts(labels: Sequence[Sequence[int]], groups: np.ndarray) -> sparse.csr_matrix:
    """int64 [groups, classes and one more]: how many examples of a group have each class, and how many there are."""
    lengths = np.fromiter(map(len, labels), np.int64, len(labels))
    flat = np.fromiter((label for one in labels for label in one), np.int64, int(lengths.sum()))
    used, columns = np.unique(flat, return_inverse=True)
    rows = np.concatenate([np.repeat(groups, lengths), groups])
    columns = np.concatenate([columns, np.full(len(groups), len(used))])
    shape = int(groups.max()) + 1, len(used) + 1
    return sparse.coo_matrix((np.ones(len(rows), np.int64), (rows, columns)), shape=shape).tocsr()
