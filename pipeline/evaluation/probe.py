"""What the probe of a model scores on the pictures that the model is scored on: the baseline that costs a minute."""

import os
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

import numpy as np

from pipeline import files
from pipeline.answers import predictions, unseen
from pipeline.answers.example_table import ExampleTable


class _Among:
    """Some pictures of predictions, as predictions."""

    def __init__(self, whole: predictions.Predictions, ids: Sequence[str]):
        position_of = {one: position for position, one in enumerate(whole.ids)}
        self._whole, self._positions = whole, np.array([position_of[one] for one in ids])
        self.ids, self.class_ids, self.meta = list(ids), whole.class_ids, whole.meta

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """As Predictions.chunks."""
        for chunk in predictions.chunks(len(self.ids), len(self.class_ids)):
            yield [self.ids[one] for one in chunk], self._whole.rows(self._positions[chunk])


def scores(members: Sequence[predictions.Predictions], table: ExampleTable, score: Callable) -> dict[str, dict[str, Any]]:
    """By the folder of the probe's predictions, what it scores on the members' pictures.

    Of each model directory that has kept some of these pictures, all of which that probe has not seen; no others.

    Args: score: as members.lines has it.
    """
    ids, found = members[0].ids, {}
    for model_dir in dict.fromkeys(one.meta["model_dir"] for one in members if not one.of_another_program):
        kept = _kept(model_dir, members[0].meta["split"], table)
        if kept and set(ids) <= set(kept.ids) and unseen.seen_pictures(kept) == 0:
            found[kept.directory] = score(_Among(kept, ids))
    return found


def _kept(model_dir: str, split: str, table: ExampleTable) -> Optional[predictions.Predictions]:
    """What the model directory has kept of its probe's predictions of a split."""
    for kind in (split, predictions.OUT_OF_FOLD):
        directory = os.path.join(model_dir, predictions.PROBE, kind)
        if files.exists(os.path.join(directory, predictions.META_FILE)):
            kept = predictions.Predictions(directory)
            same_data = kept.class_ids == table.data.class_ids and kept.meta["dataset"] == table.data.identity(split)
            if kept.meta["split"] == split and same_data:
                return kept
    return None


def print_lines(found: Mapping[str, Mapping[str, float]], names: Mapping[str, str]) -> None:
    """A line for each of `scores`; `names`: of the scores that it tells, what people call them."""
    for directory, one in found.items():
        told = ", ".join(f"{called} {one[name]:.4f}" for name, called in names.items() if name in one)
        print(f"the probe has {told} ({directory})")
