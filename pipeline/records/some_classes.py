"""A part of a dataset without some of its pictures, by their classes, where a picture has one label."""

import dataclasses
from typing import Collection, Iterable

import pandas as pd

from pipeline.records import damage, dataset as datasets, schema


def labels(part: datasets.Part) -> pd.DataFrame:
    """Of the part's examples: row, fold (−1: none) and label (−1: none), int64 each."""
    table = part.identifiers(["row", "labels"])
    with part.data.reading(schema.EXAMPLES_FILE):
        return pd.DataFrame({"row": table["row"].astype("int64"), "fold": table["fold"],
                             "label": [int(one.split()[0]) if one else -1 for one in table["labels"]]})


def without(part: datasets.Part, classes: Collection[int]) -> datasets.Part:
    """The part without the pictures of these class indices."""
    table = labels(part) if classes else None
    return part if table is None else without_rows(part, table["row"][table["label"].isin(classes)])


def without_rows(part: datasets.Part, rows: Iterable[int]) -> datasets.Part:
    """The part without these rows of examples.csv. Their records are passed over by position, before they are parsed, as
    those that were set aside are."""
    left_out = part.left_out | frozenset(rows)
    rows_of = damage.rows_by_shard(dataclasses.replace(part.data, lost=frozenset()))
    shards = []
    for shard in part.shards:
        aside = {shard.first_row + position for position, row in enumerate(rows_of(shard)) if row in left_out}
        shards.append(dataclasses.replace(shard, set_aside=tuple(sorted(aside.union(shard.set_aside)))))
    return dataclasses.replace(part, shards=tuple(shards), left_out=left_out)
