"""Which pictures are copies of each other: the same bytes, the same pixels, recompressed or resized."""

from typing import Optional, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from dataset_tools import hamming
from dataset_tools.fingerprints import Fingerprint

# Bits of 256. On 3,000 sample photographs copies at JPEG quality 40 to 95 and 0.3 to 1 times the size are within 20
# (a few of a 128 px picture at 0.3 and quality 40 reach 28), the nearest distinct pictures 50 apart. Two frames of the
# same motif, shifted by some pixels, were 18 apart: they are taken for copies, as a fold's validation would want.
DEFAULT_DISTANCE = 24
EXACT_ONLY = -1     # as a distance: bytes and pixels alone
# Differences of thumbnails, root mean square in levels of 255: of hashes' pairs at most this or this share of the
# thumbnail's standard deviation, since a hash knows no colour. Copies have up to 0.13, distinct pictures 0.27 and more.
_COLOUR_LEVELS, _COLOUR_SHARE = 4.0, 0.25
# Without contrast a picture has nothing to be recognized by: blank ones would all be the same.
_MIN_CONTRAST = 4.0  # levels
# The hash of a picture without fine detail (fog, sky, drawings) is rounding noise: copies were 25 to 100 apart where
# the detail is below 5. Its thumbnail tells it instead. (1 % of sample photographs are below 8.)
_SMOOTH_DETAIL, _MIN_SPREAD, _SMOOTH_SHARE = 8.0, 8.0, 0.1
_ROWS_AT_A_TIME = 1 << 16
_NO_PAIRS = np.empty((0, 2), np.int64)


def group(prints: Sequence[Optional[Fingerprint]], distance: int = DEFAULT_DISTANCE) -> np.ndarray:
    """Numbers the groups of pictures that are copies of each other, or of copies of each other.

    Args:
      prints: of each picture; None for one that is on its own.
      distance: perceptual hashes that differ in at most so many bits are of copies; EXACT_ONLY: none are.

    Returns:
      int [n], the same number for copies.
    """
    there = np.array([index for index, one in enumerate(prints) if one is not None], np.int64)
    found = [prints[index] for index in there]
    pairs = [equal_pairs([one.content for one in found]), equal_pairs([one.pixels for one in found])]
    if distance != EXACT_ONLY:
        pairs.append(_near(found, distance))
    return components(there[np.concatenate(pairs)], len(prints))


def components(pairs: np.ndarray, count: int) -> np.ndarray:
    """int [count]: the number of each item's group, where int [pairs, 2] of them belong together."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def equal_pairs(values: Sequence) -> np.ndarray:
    """int [pairs, 2]: each item with the first one that equals it, where it is another."""
    if not len(values):
        return _NO_PAIRS
    _, first, inverse = np.unique(np.asarray(values), return_index=True, return_inverse=True)
    pairs = np.stack([first[inverse], np.arange(len(values))], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _near(prints: Sequence[Fingerprint], distance: int) -> np.ndarray:
    """int [pairs, 2]: recompressed and resized copies, by hash or, where there is no detail, by thumbnail."""
    rich = [index for index, one in enumerate(prints) if one.contrast >= _MIN_CONTRAST]
    looks = [prints[index].perceptual + prints[index].thumbnail for index in rich]
    same = equal_pairs(looks)
    # What looks the same to the byte is compared once: n copies of one picture would be n² / 2 pairs.
    once = np.delete(np.arange(len(rich)), same[:, 1])
    if len(once) < 2:
        return np.array(rich, np.int64)[same]
    some = [prints[rich[index]] for index in once]
    thumbnails = _rows([one.thumbnail for one in some])
    spread = _spread(thumbnails)
    by_hash = hamming.near_pairs(_rows([one.perceptual for one in some]), distance)
    by_hash = _alike(by_hash, thumbnails, np.maximum(_COLOUR_LEVELS, _COLOUR_SHARE * spread))
    smooth = np.flatnonzero((np.array([one.detail for one in some]) < _SMOOTH_DETAIL) & (spread >= _MIN_SPREAD))
    by_thumbnail = smooth[_near_shapes(_centred(thumbnails[smooth]) / spread[smooth, np.newaxis])]
    by_thumbnail = _alike(by_thumbnail, thumbnails, _SMOOTH_SHARE * spread)
    return np.array(rich, np.int64)[np.concatenate([same, once[by_hash], once[by_thumbnail]])]


def _rows(values: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)


def _centred(thumbnails: np.ndarray) -> np.ndarray:
    """float32 [n, numbers]: less the mean of each channel."""
    levels = thumbnails.reshape(len(thumbnails), thumbnails.shape[1] // 3, 3).astype(np.float32)
    return (levels - levels.mean(axis=1, keepdims=True)).reshape(thumbnails.shape)


def _spread(thumbnails: np.ndarray) -> np.ndarray:
    """Standard deviation of each, in levels."""
    return np.concatenate([_centred(some).std(axis=1) for some in _pieces(thumbnails)])


def _pieces(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, len(rows) // _ROWS_AT_A_TIME + 1)


def _alike(pairs: np.ndarray, thumbnails: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Those of int [pairs, 2] that differ by what both allow: root mean square, levels."""
    keep = []
    for some in _pieces(pairs):
        difference = thumbnails[some[:, 0]].astype(np.float32) - thumbnails[some[:, 1]]
        keep.append(np.sqrt(np.square(difference).mean(axis=1)) <= allowed[some].min(axis=1))
    return pairs[np.concatenate(keep)]


def _near_shapes(shapes: np.ndarray) -> np.ndarray:
    """Pairs of float [n, numbers], each divided by its own spread, that before may differ by _SMOOTH_SHARE of it.

    Differences of r times the smaller spread are at most 2 r after each is divided by its own.
    """
    if len(shapes) < 2:
        return _NO_PAIRS
    radius = 2 * _SMOOTH_SHARE * np.sqrt(shapes.shape[1])
    return cKDTree(shapes).query_pairs(radius, output_type="ndarray")
