"""Which example goes into which shard, at which row: a function of the table, the seed and the files' sizes."""

import dataclasses
import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, Optional, Sequence

import numpy as np
import pandas as pd

from dataset_tools import files
from dataset_tools.table import SPLITS, Example, rows_of

_REMOTE_STATS = 64  # at a time: each waits for the network


@dataclasses.dataclass(frozen=True)
class Folds:
    """How one split is divided."""

    split: str
    count: int
    fold_of: dict[str, int]   # by example id
    copies: tuple[tuple[str, ...], ...]   # groups of ids that show the same picture


@dataclasses.dataclass(frozen=True)
class PlannedShard:
    file: str                       # name inside the output folder
    split: str
    fold: Optional[int]
    first_row: int
    examples: tuple[Example, ...]   # row = first_row + position


def shuffle(examples: pd.DataFrame, split: str, seed: int) -> list[Example]:
    """The examples of one split in an order that depends on nothing but their ids, the split and the seed."""
    rows = sorted(rows_of(examples[examples["split"] == split]))
    order = np.random.default_rng([seed, zlib.crc32(split.encode())]).permutation(len(rows))
    return [rows[i] for i in order]


def _total_bytes(data_dir: str, rows: Sequence[Example]) -> int:
    def size(row: Example) -> Optional[int]:
        return files.size_of(files.join(data_dir, row.path)) if files.inside(row.path) else None

    if not files.is_remote(data_dir):
        return sum(size(row) or 0 for row in rows)
    with ThreadPoolExecutor(_REMOTE_STATS) as pool:
        return sum(found or 0 for found in pool.map(size, rows))


def plan(examples: pd.DataFrame, data_dir: str, shard_mib: int, seed: int,
         folds: Optional[Folds] = None) -> list[PlannedShard]:
    """Shuffles every split and cuts it, or each of its folds, into even shards of `shard_mib` MiB of source files."""
    shards: list[PlannedShard] = []
    first_row = 0
    for split in SPLITS:
        rows = shuffle(examples, split, seed)
        for fold, stem, part in _parts(split, rows, folds):
            shards += _cut(part, stem, split, fold, first_row, data_dir, shard_mib)
            first_row += len(part)
    return shards


def _parts(split: str, rows: list[Example],
           folds: Optional[Folds]) -> Iterator[tuple[Optional[int], str, list[Example]]]:
    """(fold, stem of the files' names, rows) of each part of a split that is not empty."""
    if not rows:
        return
    if folds is None or split != folds.split:
        yield None, split, rows
        return
    for fold in range(folds.count):
        part = [row for row in rows if folds.fold_of[row.id] == fold]
        if part:
            yield fold, f"{split}.fold.{fold}", part


def _cut(rows: list[Example], stem: str, split: str, fold: Optional[int], first_row: int, data_dir: str,
         shard_mib: int) -> Iterator[PlannedShard]:
    count = math.ceil(_total_bytes(data_dir, rows) / (shard_mib << 20))
    count = min(max(count, 1), len(rows))
    bounds = np.linspace(0, len(rows), count + 1).round().astype(int)
    for index, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:])):
        name = f"{stem}.tfrecord-{index:05d}-of-{count:05d}"
        yield PlannedShard(name, split, fold, first_row + int(start), tuple(rows[start:stop]))
