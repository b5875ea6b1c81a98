"""Pictures of where a model goes wrong: confident mistakes, and classes that it takes for each other."""

import dataclasses
from typing import Sequence

import numpy as np
import pandas as pd

from pipeline.answers import predictions
from pipeline.records.dataset import Dataset
from pipeline.report import classes, looks, pictures as of_pictures
from pipeline.report.elements import Gallery, Note, Pairs, Section, Shot

SHOWN = 12     # mistakes
PAIRS = 8      # of classes
OF_A_CLASS = 2  # pictures


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Which pictures are shown: rows of an outcomes table.

    Attributes:
      mistakes: the most confident ones.
      pairs: (one, other, how often), class indices, with the pictures of each.
    """

    mistakes: pd.DataFrame
    pairs: list[tuple[int, int, int, pd.DataFrame, pd.DataFrame]]

    @property
    def ids(self) -> list[str]:
        return [*self.mistakes["id"], *(one for *_, first, second in self.pairs for one in (*first["id"], *second["id"]))]


def choose(outcomes: pd.DataFrame) -> Chosen:
    wrong = outcomes[~outcomes["hit"]].sort_values(["confidence", "id"], ascending=[False, True])
    pairs = [(one, other, times, _of_pair(outcomes, one, other), _of_pair(outcomes, other, one))
             for one, other, times in classes.confused(outcomes).head(PAIRS).itertuples(index=False)]
    return Chosen(wrong.head(SHOWN), pairs)


def _of_pair(outcomes: pd.DataFrame, label: int, other: int) -> pd.DataFrame:
    """Pictures of a class, those first that were taken for the other one."""
    own = outcomes[outcomes["label"] == label]
    order = np.lexsort((own["id"], -own["confidence"], own["answer"] != other))
    return own.iloc[order[:OF_A_CLASS]]


def sections(chosen: Chosen, pictures: of_pictures.Pictures, members: Sequence[predictions.Predictions],
             data: Dataset) -> list[Section]:
    """The galleries; where no picture could be read, why."""
    if pictures.reason:
        return [Section("Mistakes", [Note(pictures.reason)])]
    names = [one.name for one in data.manifest.classes]
    found = []
    if len(chosen.mistakes):
        seen = looks.of(members[0], chosen.mistakes, pictures, data)
        shots = [_shot(one, pictures, names, seen.by_id.get(one.id)) for one in chosen.mistakes.itertuples()]
        found.append(Section("Confident mistakes", [Note(seen.note), Gallery(shots)]))
    if chosen.pairs:
        pairs = [(f"{names[one]} and {names[other]}: {times} mistaken", *(
            Gallery([_shot(row, pictures, names) for row in some.itertuples()]) for some in (first, second)))
            for one, other, times, first, second in chosen.pairs]
        found.append(Section("Taken for each other", [Pairs(pairs)]))
    return found


def _shot(row, pictures: of_pictures.Pictures, names: Sequence[str], seen=None) -> Shot:
    if row.hit:
        return Shot(pictures.uri(row.id, seen), names[row.label], [f"right, {row.confidence:.2f}", row.id])
    return Shot(pictures.uri(row.id, seen), names[row.label],
                [f"answered {names[row.answer]}, {row.confidence:.2f} (its own {row.own:.2f})", row.id])


def of_labels(found: pd.DataFrame, data: Dataset, split: str, members: Sequence[predictions.Predictions]) -> list[Section]:
    """Galleries where a picture has several labels: what is answered surely and is not labelled, and what is missed.

    Args: found: as outcomes.SeveralLabels.pictures.
    """
    sure = found.sort_values(["wrong_p", "id"], ascending=[False, True]).head(SHOWN)
    missed = found.sort_values(["missed_p", "id"]).head(SHOWN)
    pictures = of_pictures.read(data, split, [*sure["id"], *missed["id"]])
    if pictures.reason:
        return [Section("Mistakes", [Note(pictures.reason)])]
    names = [one.name for one in data.manifest.classes]
    seen = looks.of(members[0], sure.rename(columns={"wrong": "answer"}), pictures, data)
    wrong = [Shot(pictures.uri(one.id, seen.by_id.get(one.id)), names[one.wrong], [f"{one.wrong_p:.2f}, not labelled", one.id])
             for one in sure.itertuples()]
    left = [Shot(pictures.uri(one.id), names[one.missed], [f"labelled, {one.missed_p:.3f}", one.id])
            for one in missed.itertuples()]
    return [Section("Most probable, and not labelled", [Note(seen.note), Gallery(wrong)]),
            Section("Labelled, and least probable", [Gallery(left)])]
