"""The nearest of many pictures by the cosine of their features, exactly, and what their labels vote for. NumPy alone."""

import os
from concurrent import futures

import numpy as np
import scipy.sparse
import threadpoolctl

QUERIES, PICTURES = 1024, 4096  # of a tile, whose products (16 MiB) stay near while they are looked through
TEMPERATURE = 0.07  # Wu et al. 2018
FLOOR = 1e-3        # share of the answer that is spread evenly, so that no logarithm is infinite


def unit(features: np.ndarray) -> np.ndarray:
    """float32 [n, D], each row of length 1; one of zeros stays so."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(lengths, np.finfo(np.float32).tiny)


def nearest(queries: np.ndarray, pictures: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` pictures with the greatest products with each query, the greatest first, of equals the first.

    All products are computed (float32, by BLAS), a tile at a time, of which a core has one.

    Args: float32 [n, D]; float32 [m, D], finite; from 1 to m.

    Returns: products float32 [n, count], positions int64 [n, count].
    """
    tiles = [queries[start:start + QUERIES] for start in range(0, max(len(queries), 1), QUERIES)]
    workers = min(os.cpu_count() or 1, len(tiles))
    # Several tiles: a thread each, which looks through its products while others multiply. One: BLAS has all cores.
    with threadpoolctl.threadpool_limits(1 if workers > 1 else None, "blas"), futures.ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda tile: _nearest_of_tile(tile, pictures, count), tiles))
    return tuple(map(np.concatenate, zip(*found)))


def _nearest_of_tile(queries: np.ndarray, pictures: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    best = np.full((len(queries), count), -np.inf, np.float32)
    positions = np.full((len(queries), count), -1, np.int64)
    products = np.empty((len(queries), min(PICTURES, len(pictures))), np.float32)
    for start in range(0, len(pictures), PICTURES):
        some = pictures[start:start + PICTURES]
        found = np.matmul(queries, some.T, out=products[:, :len(some)] if len(some) == products.shape[1] else None)
        rows = np.flatnonzero(found.max(axis=1) > best[:, -1])
        if len(rows):
            best[rows], positions[rows] = _merge(best[rows], positions[rows], found[rows], start)
    return best, positions


def _merge(best: np.ndarray, positions: np.ndarray, found: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """The best of those that stand and those that were found, which are greater than the last of them; [rows, count]."""
    rows, count = best.shape
    least = best[:, -1:]
    taken = found > least
    if np.isinf(least).any() and found.shape[1] > count:  # the first tile: not all of it need be sorted
        taken = found >= np.partition(found, -count, axis=1)[:, [-count]]
    row, column = np.divmod(np.flatnonzero(taken), found.shape[1])
    row = np.concatenate([np.repeat(np.arange(rows), count), row])
    values = np.concatenate([best.ravel(), found[taken]])
    where = np.concatenate([positions.ravel(), start + column])
    order = np.lexsort((where, -values, row))
    first = np.searchsorted(row[order], np.arange(rows))
    kept = order[first[:, np.newaxis] + np.arange(count)]
    return values[kept], where[kept]


def vote(cosines: np.ndarray, positions: np.ndarray, labels: scipy.sparse.csr_matrix, allowed: np.ndarray,
         exclusive: bool) -> np.ndarray:
    """float64 probabilities [n, classes] of what the nearest pictures vote for, each by exp(cosine / TEMPERATURE).

    Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination" (DINO has the same): a class
    has the share of the weights that its pictures have; here FLOOR of it is spread over the classes, or over yes and no of a
    label. Where no picture may vote all is spread.

    Args:
      cosines, positions: [n, k], as `nearest` gives them.
      labels: [m, classes], 1 at each label of a picture.
      allowed: bool [n, k], which of them may vote.
      exclusive: whether a picture has one label.
    """
    relative = np.where(allowed, cosines.astype(np.float64) / TEMPERATURE, -np.inf)
    highest = relative.max(axis=1, keepdims=True)
    weights = np.exp(relative - np.where(np.isfinite(highest), highest, 0.0))
    total = weights.sum(axis=1, keepdims=True)
    shares = weights / np.where(total > 0, total, 1.0)
    count, neighbours = cosines.shape
    voting = scipy.sparse.csr_matrix((shares.ravel(), positions.ravel(), np.arange(count + 1) * neighbours),
                                     (count, labels.shape[0]))
    even = 1 / labels.shape[1] if exclusive else 0.5
    return np.where(total > 0, (1 - FLOOR) * (voting @ labels).toarray() + FLOOR * even, even)
