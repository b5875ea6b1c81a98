"""Which example goes into which shard, at which row: a function of the table, the seed and the files' sizes."""

import dataclasses
import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Optional, Sequence

import numpy as np
import pandas as pd

from dataset_tools import files
from dataset_tools.table import SPLITS, Example

_REMOTE_STATS = 64  # at a time: each waits for the network


@dataclasses.dataclass(frozen=True)
class PlannedShard:
    file: str                       # name inside the output folder
    split: str
    first_row: int
    examples: tuple[Example, ...]   # row = first_row + position


def inside(path: str) -> bool:
    """Whether a relative path stays in the data folder."""
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return False
    return not path.startswith("/")


def shuffle(examples: pd.DataFrame, split: str, seed: int) -> list[Example]:
    """The examples of one split in an order that depends on nothing but their ids, the split and the seed."""
    rows = sorted(Example(*one) for one in
                  examples.loc[examples["split"] == split, list(Example._fields)].itertuples(index=False))
    order = np.random.default_rng([seed, zlib.crc32(split.encode())]).permutation(len(rows))
    return [rows[i] for i in order]


def _total_bytes(data_dir: str, rows: Sequence[Example]) -> int:
    def size(row: Example) -> Optional[int]:
        return files.size_of(files.join(data_dir, row.path)) if inside(row.path) else None

    if not files.is_remote(data_dir):
        return sum(size(row) or 0 for row in rows)
    with ThreadPoolExecutor(_REMOTE_STATS) as pool:
        return sum(found or 0 for found in pool.map(size, rows))


def plan(examples: pd.DataFrame, data_dir: str, shard_mib: int, seed: int) -> list[PlannedShard]:
    """Shuffles every split and cuts it into even shards of about `shard_mib` MiB of source files."""
    shards: list[PlannedShard] = []
    first_row = 0
    for split in SPLITS:
        rows = shuffle(examples, split, seed)
        if not rows:
            continue
        count = math.ceil(_total_bytes(data_dir, rows) / (shard_mib << 20))
        count = min(max(count, 1), len(rows))
        bounds = np.linspace(0, len(rows), count + 1).round().astype(int)
        for index, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:])):
            name = f"{split}.tfrecord-{index:05d}-of-{count:05d}"
            shards.append(PlannedShard(name, split, first_row + int(start), tuple(rows[start:stop])))
        first_row += len(rows)
    return shards
