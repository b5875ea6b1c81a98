"""Ids that stand in two splits: of one picture (train_mini is a part of train), or begun anew in each split."""

import collections
from typing import Iterable, Optional

from dataset_tools import source_pictures
from dataset_tools.image_bytes import BadImage
from dataset_tools.table import Example

_LOOKED_AT = 32  # ids; where numbers begin anew, the first one tells


def begin_anew(data_dir: str, examples: Iterable[Example]) -> Optional[bool]:
    """Whether one id names different pictures in different splits, by the bytes of some; None: no id stands in two."""
    splits_of: dict[str, dict[str, Example]] = collections.defaultdict(dict)
    for one in examples:
        splits_of[one.id][one.split] = one
    shared = [by_split for by_split in splits_of.values() if len(by_split) > 1]
    if not shared:
        return None
    step = -(-len(shared) // _LOOKED_AT)
    return any(len({_content(data_dir, one) for one in by_split.values()}) > 1 for by_split in shared[::step])


def _content(data_dir: str, example: Example) -> bytes:
    try:
        return source_pictures.read(data_dir, example)
    except BadImage:  # gone since it was written into a shard
        return example.path.encode()
