"""The page of a task where a picture has several labels."""

import dataclasses
from typing import Any, Mapping, Optional, Sequence

import numpy as np
import pandas as pd

from pipeline.answers import fusion, predictions, thresholds
from pipeline.answers.example_table import ExampleTable
from pipeline.metrics import intervals, multi_label as metrics
from pipeline.records.dataset import Dataset
from pipeline.report import charts, classes, curves, facts, mistakes, outcomes as of_outcomes, page
from pipeline.report.elements import Cards, Figures, Note, PagedTable, Section, Table


@dataclasses.dataclass(frozen=True)
class Found:
    """What an evaluation has found, as the page needs it.

    Attributes:
      lines: name → scores, a line of the table each; the last is that of `predicted`.
      curve: of `predicted`; its groups are those that thresholds are cross-fitted by.
      allowed: bool [classes], the labels that may be answered.
      threshold: that was given; None: it is fitted, and scored by cross-fitting.
      told: the threshold that a submission uses.
      reliability: of the most probable label; by what was done, frames of confidence and accuracy.
      notes: what is told beside that drawing.
    """

    lines: Mapping[str, Mapping[str, float]]
    probes: Mapping[str, Mapping[str, Any]]
    predicted: fusion.Blend
    members: Sequence[predictions.Predictions]
    curve: metrics.ThresholdCurve
    data: Dataset
    allowed: np.ndarray
    threshold: Optional[float]
    told: float
    model_dirs: Sequence[str]
    warnings: Sequence[str] = ()
    reliability: Mapping[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


def write(path: str, found: Found) -> None:
    """Writes the page. Of the pictures only those that are shown are read."""
    data, split = found.data, found.predicted.meta["split"]
    labels = thresholds.labels_by_id(data, split)
    outcomes = of_outcomes.several_labels(found.predicted, labels, found.allowed, _threshold_of(found, split))
    lines = pd.DataFrame.from_dict(found.lines, orient="index")
    page.write(path, data.manifest.competition, split, [
        _headline(found, outcomes.pictures, labels),
        Section("Scores", [Note(f"f2, precision, recall and labels (answers a picture) are {_how(found)}"),
                           Table(lines, index=True)]),
        Section("Thresholds", [Note("on the pictures of the curve itself"),
                               Figures([(charts.thresholds(found.curve, found.told), "means at every threshold")])]),
        *charts.certainty(found.reliability, found.notes),
        Section("Labels", [Note(f"each picture's answers {_how(found)}; worst first, a heading sorts"),
                           PagedTable(classes.by_label(outcomes.counts, data), "labels")]),
        *mistakes.of_labels(outcomes.pictures, data, split, found.members),
        *curves.drawn(found.model_dirs),
        *facts.of_data(data, split),
        facts.of_runs(found.members, found.model_dirs),
    ])


def _how(found: Found) -> str:
    return "cross-fitted" if found.threshold is None else f"at the threshold {found.threshold:g}"


def _threshold_of(found: Found, split: str) -> dict[str, float]:
    """By id the threshold that a picture is judged at: given, or fitted without its group."""
    ids = found.predicted.ids
    if found.threshold is not None:
        return dict.fromkeys(ids, found.threshold)
    fitted = {group: found.curve.best_threshold(without=group) for group in found.curve.groups}
    groups = ExampleTable(found.data, split).groups(ids).tolist()
    return {one: fitted[group] for one, group in zip(ids, groups) if group in fitted}


def _headline(found: Found, pictures: pd.DataFrame, labels: Mapping[str, Sequence[int]]) -> Section:
    f2 = list(found.lines.values())[-1]["f2"]
    low, high = intervals.interval(intervals.resampled_means(pictures["f2"].to_numpy()[np.newaxis])[:, 0])
    scored = {one: labels[one] for one in pictures["id"]}
    always, baseline = classes.most_frequent_labels(found.data, scored, metrics.MOST)
    names = ", ".join(found.data.manifest.classes[index].name for index in always)
    told = f"{len(pictures):,} labelled pictures, {len(found.data.manifest.classes):,} labels"
    return Section("", [Note(told), *(Note(one, warning=True) for one in found.warnings), Cards([
        (f"{f2:.4f}", "F2", f"{_how(found)}; 95 %: {low:.4f} to {high:.4f}"),
        (f"{found.told:.2f}", "threshold", "of a submission"),
        *((f"{one['f2']:.4f}", "F2 of the probe", directory) for directory, one in found.probes.items()),
        (f"{baseline:.4f}", "F2 of the most frequent labels", f"always {names}")])])
