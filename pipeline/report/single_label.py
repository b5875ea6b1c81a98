"""The page of a task where one class alone is right."""

import dataclasses
from typing import Any, Mapping, Optional, Sequence

import numpy as np
import pandas as pd

from pipeline.answers import predictions
from pipeline.answers.example_table import ExampleTable
from pipeline.metrics import single_label as metrics
from pipeline.report import charts, classes, curves, facts, mistakes, outcomes as of_outcomes, page, pictures, world
from pipeline.report.elements import Cards, Figures, Heading, Note, PagedTable, Section, Table

MAPS = 3  # classes whose geo prior is drawn


@dataclasses.dataclass(frozen=True)
class Found:
    """What an evaluation has found, as the page needs it.

    Attributes:
      tables: heading → scores, a line each row.
      steps: by line of the ablation table its scores, top1_interval and what it gains; the last has everything on top.
      probes: by the folder of a probe's predictions its scores.
      predicted: with everything on top.
      members: what was blended, the first of them shown with what it looks at.
      prior: priors.PlacePrior; None: there is no geo prior.
      gains: float [classes], how many pictures of a class the geo prior and what else is on top made right.
      reliability: by what was done, frames of confidence and accuracy; as charts.reliability.
      notes: what is told beside that drawing.
    """

    tables: Mapping[str, pd.DataFrame]
    steps: Mapping[str, Mapping[str, Any]]
    probes: Mapping[str, Mapping[str, Any]]
    predicted: Any
    members: Sequence[predictions.Predictions]
    table: ExampleTable
    model_dirs: Sequence[str]
    warnings: Sequence[str] = ()
    prior: Any = None
    gains: Optional[np.ndarray] = None
    reliability: Mapping[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


def write(path: str, found: Found) -> None:
    """Writes the page. Of the pictures only those that are shown are read."""
    data, split = found.table.data, found.table.split
    outcomes = of_outcomes.single_label(found.predicted, found.table)
    chosen = mistakes.choose(outcomes)
    page.write(path, data.manifest.competition, split, [
        _headline(found, outcomes),
        Section("Scores", [*_steps(found), *_named(found.tables)]),
        *charts.certainty(found.reliability, found.notes),
        *mistakes.sections(chosen, pictures.read(data, split, chosen.ids), found.members, data),
        _classes(outcomes, found),
        *_maps(found, outcomes),
        *curves.drawn(found.model_dirs),
        *facts.of_data(data, split),
        facts.of_runs(found.members, found.model_dirs),
    ])


def _headline(found: Found, outcomes: pd.DataFrame) -> Section:
    data, last = found.table.data, list(found.steps.values())[-1]
    cards = [(f"{last['top1']:.3f}", "top-1", "95 %: {:.3f} to {:.3f}".format(*last["top1_interval"]))]
    score = metrics.competition_score(data.manifest.metric, last)
    if score is not None and data.manifest.metric != "top1":
        cards.append((f"{score:.4f}", data.manifest.metric.replace("_", " "), "the competition's own"))
    cards.append((f"{last['top5']:.3f}", "top-5", ""))
    cards.append((f"{last['log_loss']:.3f}", "log loss", "nats"))
    cards += [(f"{one['top1']:.3f}", "top-1 of the probe", directory) for directory, one in found.probes.items()]
    name, share = classes.most_frequent_class(outcomes, data)
    cards.append((f"{share:.3f}", "top-1 of the most frequent class", f"always {name}"))
    told = f"{len(outcomes):,} labelled pictures of {outcomes['label'].nunique():,} of {len(data.manifest.classes):,} classes"
    return Section("", [Note(told), *(Note(one, warning=True) for one in found.warnings), Cards(cards)])


def _steps(found: Found) -> list[Any]:
    if len(found.steps) < 2:
        return []
    return [Figures([(charts.steps(found.steps), "what each step on top of the pictures brings")])]


def _named(tables: Mapping[str, pd.DataFrame]) -> list[Any]:
    return [one for heading, frame in tables.items() for one in (Heading(heading), Table(frame, index=True))]


def _classes(outcomes: pd.DataFrame, found: Found) -> Section:
    data = found.table.data
    table = classes.by_class(outcomes, data)
    drawn = [Figures([(charts.by_size(table), "a point each class")])] if (table["in train"] > 0).sum() > 1 else []
    return Section("Classes", [*drawn, Note("worst first; a heading sorts"), PagedTable(table, "classes")])


def _maps(found: Found, outcomes: pd.DataFrame) -> list[Section]:
    """Of the classes that what is on top helped most, else of the most frequent ones."""
    if found.prior is None:
        return []
    counts = outcomes["label"].value_counts().reindex(range(len(found.table.data.manifest.classes)), fill_value=0).to_numpy()
    gains = np.zeros(len(counts)) if found.gains is None else found.gains
    order = np.lexsort((np.arange(len(counts)), -counts, -gains))
    shown = [int(one) for one in order[:MAPS] if counts[one]]
    return [Section("Places and dates", [Figures(world.maps(found.prior, shown, found.table.data))])]
