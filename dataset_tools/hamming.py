"""Pairs of bit strings that differ in few bits, found without comparing all with all.

Multi-index hashing: of more than half as many substrings as bits may differ, one differs in at most one bit. So each
substring is looked up as it is and with each of its bits flipped, and only what is found there is compared in full. At
24 of 256 bits 100,000 strings take some 4 seconds, a million 4 minutes.
"""

from typing import Iterator

import numpy as np

_BLOCK = 1 << 21       # pairs compared at a time
_MIN_SUBSTRINGS = 8    # so that a substring fits into 64 bits
_ONES = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)  # NumPy 1.26 has no bitwise_count


def near_pairs(strings: np.ndarray, distance: int) -> np.ndarray:
    """Every pair of rows that differ in at most `distance` bits; exact.

    Args:
      strings: uint8 [n, bytes], packed bits; an even number of bytes, at most 64.
      distance: bits. The work grows with it: at n/10 of the bits substrings are so short that many rows share them.

    Returns:
      int64 [pairs, 2], the smaller row first, sorted, each pair once.
    """
    bits = np.unpackbits(strings, axis=1)
    substrings = max(distance // 2 + 1, _MIN_SUBSTRINGS)
    words = np.ascontiguousarray(strings).view(np.uint16)
    found = [np.empty((0, 2), np.int64)]
    for first in range(substrings):
        # Every so many-th bit, not neighbours: those tell much of each other, and buckets would be uneven.
        found += _pairs_of_substring(_as_numbers(bits[:, first::substrings]), words, distance)
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _as_numbers(bits: np.ndarray) -> tuple[np.ndarray, int]:
    """(uint64 [n], their width) of 0/1 [n, width]."""
    numbers = np.zeros(len(bits), np.uint64)
    for column in bits.T:
        numbers = (numbers << np.uint64(1)) | column
    return numbers, bits.shape[1]


def _pairs_of_substring(keys_and_width: tuple[np.ndarray, int], words: np.ndarray, distance: int) -> list[np.ndarray]:
    keys, width = keys_and_width
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    found = []
    for left, right in _candidates(keys, width):
        rows = order[left], order[right]
        near = _ONES[words[rows[0]] ^ words[rows[1]]].sum(axis=1, dtype=np.uint16) <= distance
        found.append(np.stack([rows[0][near], rows[1][near]], axis=1))
    return found


def _candidates(keys: np.ndarray, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions in the sorted `keys` whose keys are equal or differ in one bit."""
    everyone = np.arange(len(keys))
    yield from _ranges(everyone, everyone + 1, np.searchsorted(keys, keys, "right"))
    for bit in range(width):
        flag = np.uint64(1 << bit)
        without = np.flatnonzero((keys & flag) == 0)  # each pair from one side
        wanted = keys[without] | flag
        yield from _ranges(without, np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right"))


def _ranges(left: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """left[i] with each of starts[i] … stops[i] − 1, in blocks of about _BLOCK pairs."""
    some = stops > starts
    left, starts, counts = left[some], starts[some], (stops - starts)[some]
    ends = np.cumsum(counts)
    first = 0
    while first < len(left):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _BLOCK, "right")))
        repeats = counts[first:last]
        offsets = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        yield np.repeat(left[first:last], repeats), np.repeat(starts[first:last], repeats) + offsets
        first = last
