"""Scores where one class alone is right: of each member, their blend, and each step on top of it."""

import dataclasses
from typing import Any, Mapping, Optional, Sequence

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.answers import blend, calibration as calibrations, open_set_choice, predictions, priors as prior_layers, unseen
from pipeline.answers.example_table import ExampleTable
from pipeline.errors import UserError
from pipeline.evaluation import (ablation, calibrate, certainty, members as members_of, open_set_scores, probe, scoring,
                                 shot_groups)
from pipeline.evaluation.request import Request
from pipeline.metrics import single_label as metrics
from pipeline.records import dataset as datasets
from pipeline.report import single_label as report


@dataclasses.dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Attributes:
      final: the scores with everything on top that was asked for.
      members: scores of each of several members, of the mean of all but each, and of the blend, without priors.
      steps: ablation.scores.
      long_tail: shot_groups.top1_by_group; empty where train was not counted.
      weights: of the blend, by the members' folders; own_temperatures: of the members under it, empty where they have none.
      warnings: what takes worth from the scores.
      probes: probe.scores.
      certainty: certainty.scores, of the blend without and with its temperature, and of everything: with reliability's bins.
      temperature: that a submission has; None: none.
      data: what was predicted.
      gains: int [classes], how many more pictures of a class are right with everything on top than without.
      open_set: open_set_scores.of, with everything on top; None where the set is closed.
    """

    final: dict[str, float]
    members: dict[str, dict[str, float]]
    steps: dict[str, dict[str, Any]]
    long_tail: dict[str, dict[str, Any]]
    weights: dict[str, float]
    own_temperatures: dict[str, float]
    warnings: list[str]
    probes: dict[str, dict[str, Any]]
    certainty: dict[str, dict[str, Any]]
    temperature: Optional[float]
    data: datasets.Dataset
    gains: np.ndarray
    open_set: Optional[open_set_scores.OpenSet] = None

    def to_json(self) -> dict[str, Any]:
        return {**self.final, "weights": self.weights, "member_temperatures": self.own_temperatures, "lines": self.members,
                "steps": self.steps, "long_tail": self.long_tail, "warnings": self.warnings, "probe": self.probes,
                "temperature": self.temperature, "calibration": self.certainty,
                **({"open_set": self.open_set.to_json()} if self.open_set else {})}

    def tables(self) -> dict[str, pd.DataFrame]:
        """Heading → table for people; of one member alone the steps say all."""
        tables = {"With and without each step": scoring.told_once(ablation.frame(self.steps), self.data)}
        if len(self.weights) > 1:
            tables = {"Predictions and their blend": scoring.told_once(_frame(self.members), self.data), **tables}
        if self.long_tail:
            tables["Top-1 by the number of train pictures"] = shot_groups.frame(self.long_tail)
        if self.open_set:
            tables[self.open_set.heading] = self.open_set.frame()
        calibration = certainty.frame(self.certainty)
        return tables if calibration is None else {**tables, "Calibration": calibration}


def run(data: datasets.Dataset, members: Sequence[predictions.Predictions], table: ExampleTable, request: Request) -> None:
    """Prints the scores of the blend of `members`, of each, of all but each, and of each step on top of the blend.

    Writes JSON and a report if asked. Raises UserError for what the user can mend.
    """
    if request.min_samples or request.threshold is not None:
        flag = "--min_samples" if request.min_samples else "--threshold"
        raise UserError(f"{flag} is for several labels a picture; {data.directory} has one")
    priors = prior_layers.Priors(request.priors, data)
    if priors.geo and priors.exponent == prior_layers.FIT:
        unseen.require(members, f"--geo_exponent={prior_layers.FIT}")
    view = ablation.View(members, request.blend, table, calibrate.asked(request, members))
    lines = _steps(view, request, table, priors)
    warnings = unseen.warnings(members, data) + (prior_layers.warnings_of(table.split) if priors.geo else [])
    if not request.calibrate:
        warnings += calibrations.warnings(request.calibration, table.split, data)
    last = list(lines.values())[-1]
    of_open_set = open_set_scores.of(last.predicted, members, table, request,
                                     lambda others: view.of_others(others, priors, last))
    result = dataclasses.replace(_result(view, lines, request, table, warnings), open_set=of_open_set)
    _print(result, table, priors, calibrate.told(result.certainty, view))
    calibrate.write(result.certainty, view, table, request)
    if request.out:
        files.write_json(request.out, result.to_json())
    if request.report:
        report.write(request.report, report.Found(
            tables=result.tables(), steps=result.steps, probes=result.probes, predicted=list(lines.values())[-1].predicted,
            members=members, table=table, model_dirs=request.model_dirs, warnings=warnings, prior=priors.geo,
            gains=result.gains, reliability=certainty.bins(result.certainty), notes=calibrate.told(result.certainty, view)))
        print(f"report: {request.report}")


def fold_scores(predicted, data: datasets.Dataset) -> dict[str, float]:
    """The columns of the folds' table. In an open set MAP@5 stands there twice, each with what it is over."""
    scores = scoring.score(predicted, ExampleTable.of(predicted, data)).summary
    named = scoring.headings(data)
    map5 = {named[key]: scores[key] for key in (scoring.OVER_IDS, scoring.OVER_ANSWERS)} if named else {"map5": scores["map5"]}
    return {"accuracy": scores["top1"], "top5": scores["top5"], **map5}


def below_folds(predicted, data: datasets.Dataset) -> list[str]:
    """What out-of-fold predictions tell of strangers, where the folds left some out."""
    if not open_set_choice.is_unseen([predicted]):
        return []
    found = open_set_scores.of(predicted, [predicted], ExampleTable.of(predicted, data), Request(()),
                               lambda others: others[0])
    return [f"\n{found.heading}\n{found.frame().to_string(float_format='{:.4f}'.format)}", *open_set_scores.lines(found)]


def _result(view: ablation.View, lines: Mapping[str, ablation.Line], request: Request, table: ExampleTable,
            warnings: list[str]) -> Result:
    scored = {name: scoring.score(line.predicted, table) for name, line in lines.items()}
    picture = scoring.score(view.picture, table) if request.without_tta else scored[ablation.PICTURE]
    return Result(
        final=list(scored.values())[-1].summary,
        members={**members_of.lines(view.members, lambda one: scoring.score(one, table).summary),
                 blend.title(view.members, request.blend): picture.summary},
        steps=ablation.scores(lines, scored),
        long_tail=_long_tail(scored, table),
        weights=members_of.weights(view.members, view.mixtures.told),
        own_temperatures=members_of.temperatures(view.members, view.mixtures.told),
        warnings=warnings,
        probes=probe.scores(view.members, table, lambda one: scoring.score(one, table).summary),
        certainty=calibrate.scores({name: one.predicted for name, one in lines.items()}, table, view),
        temperature=view.temperatures and view.temperatures.told,
        data=table.data, gains=_gains(list(scored.values()), table))


def _gains(scored: Sequence[scoring.Scored], table: ExampleTable) -> np.ndarray:
    labels = np.fromiter(table.labels.values(), np.int64)
    more = scored[-1].hits.astype(np.int64) - scored[0].hits
    return np.bincount(labels, more, len(table.data.manifest.classes))


def _steps(view: ablation.View, request: Request, table: ExampleTable,
           priors: prior_layers.Priors) -> dict[str, ablation.Line]:
    """The lines of the ablation table; with --without_tta those of one view, then everything."""
    if not request.without_tta:
        return view.lines(priors)
    one_view = ablation.of_same_models(view.members, request.without_tta)
    table.check(one_view[0])
    of_one = ablation.View(one_view, request.blend, table, calibrate.asked(request, one_view))
    return {**of_one.lines(priors), ablation.TTA: view.everything(priors)}


def _long_tail(scored: Mapping[str, scoring.Scored], table: ExampleTable) -> dict[str, dict[str, Any]]:
    counts = np.array([one.train_count for one in table.data.manifest.classes])
    if not counts.any():
        return {}
    labels = np.fromiter(table.labels.values(), np.int64)
    return shot_groups.top1_by_group({name: one.hits for name, one in scored.items()}, labels, counts)


def _frame(lines: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(lines, orient="index").drop(columns="examples")


def _print(result: Result, table: ExampleTable, priors: prior_layers.Priors, of_calibration: Sequence[str]) -> None:
    members_of.print_heading(table, result.final["examples"])
    for heading, frame in result.tables().items():
        print(f"\n{heading}\n{frame.to_string(float_format='{:.4f}'.format)}")
    metric = table.data.manifest.metric
    score = metrics.competition_score(metric, result.final)
    if score is not None:
        over = f" ({scoring.headings(table.data)[scoring.OVER_ANSWERS]})" if table.data.manifest.unknown_answer else ""
        print(f"\nthe competition's own {metric}{over}: {score:.4f}")
    for line in open_set_scores.lines(result.open_set) if result.open_set else ():
        print(line)
    members_of.print_mixture(result.weights, result.own_temperatures)
    for sentence in of_calibration:
        print(sentence)
    if priors.geo:
        placed = prior_layers.has_place(table.places(list(table.labels))).sum()
        told = {name: one["geo_exponent"] for name, one in result.steps.items() if "geo_exponent" in one}
        print(f"geo prior: {placed} of {len(table.labels)} pictures have a place; exponent "
              + ", ".join(f"{exponent:.3f} ({name})" for name, exponent in told.items()))
    probe.print_lines(result.probes, {"top1": "top-1", "top5": "top-5"})
    for warning in result.warnings:
        print(f"warning: {warning}")
