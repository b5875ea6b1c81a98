"""Boxes at random for every picture of a dataset, for tests of what reads them."""

import numpy as np
import pandas as pd

from pipeline.records import boxes, dataset, masks


def write(data: dataset.Dataset, name: str, splits: str, how=None, with_masks: bool = False) -> boxes.Boxes:
    """Writes boxes of at least a third of each side, and masks of cells of the middle; returns them as they are on disk."""
    examples = data.examples(splits)
    rng = np.random.default_rng(len(examples))
    table = pd.DataFrame({
        "row": examples["row"], "id": examples["id"], "split": examples["split"],
        "left": rng.uniform(0, 0.3, len(examples)), "top": rng.uniform(0, 0.3, len(examples)),
        "right": rng.uniform(0.7, 1, len(examples)), "bottom": rng.uniform(0.7, 1, len(examples)),
        "class": data.class_ids[0], "score": 0.5})
    if with_masks:
        cells = np.zeros((len(examples), masks.CELLS, masks.CELLS), bool)
        cells[:, 8:24, 8:24] = rng.random((len(examples), 16, 16)) < 0.5
        table[boxes.MASK] = [masks.to_text(one) for one in cells]
    table = table.sample(frac=1, random_state=0)
    boxes.write(data.directory, boxes.Boxes(name, table, how or {"size": 1},
                                            {split: data.identity(split) for split in splits.split("+")}), "coarse")
    return data.boxes(name)
