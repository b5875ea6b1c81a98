"""Scores of predictions where a picture has several labels: F2 with its threshold, for each member and the blend.

F2, precision, recall and the number of labels are cross-fitted: every picture is judged at a threshold that was fitted
on the others' folds. The threshold that is told is fitted on all of them: it is what a submission uses. With a given
threshold nothing is fitted, so that pictures which a model has seen can be scored too, with a warning.
"""

from typing import Optional, Sequence

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.answers import blend, calibration as calibrations, predictions, priors as prior_layers, thresholds, unseen
from pipeline.answers.example_table import ExampleTable
from pipeline.errors import UserError
from pipeline.evaluation import ablation, calibrate, certainty, members as members_of, probe
from pipeline.evaluation.request import Request
from pipeline.metrics import multi_label, single_label as metrics
from pipeline.records import dataset as datasets
from pipeline.report import multi_label as report

NEIGHBOURHOOD = 5  # thresholds on either side of the fitted one, that are told


def score(predicted, data: datasets.Dataset, min_samples: int = 0, threshold: Optional[float] = None) -> dict[str, float]:
    """f2, threshold, precision, recall, labels and examples of a Blend or Predictions; threshold: None: cross-fitted."""
    return summary(_curve(predicted, data, min_samples), threshold)


def fold_scores(predicted, data: datasets.Dataset) -> dict[str, float]:
    """The columns of the folds' table."""
    scores = score(predicted, data)
    return {name: scores[name] for name in ("f2", "threshold")}


def summary(curve: multi_label.ThresholdCurve, threshold: Optional[float] = None) -> dict[str, float]:
    """`score` of a curve, over two groups or more where the threshold is cross-fitted."""
    scores = curve.cross_fitted() if threshold is None else curve.at(threshold)
    told = curve.best_threshold() if threshold is None else threshold
    return {"f2": scores.pop("f2"), "threshold": told, **scores, "examples": curve.examples}


def _curve(predicted, data: datasets.Dataset, min_samples: int) -> multi_label.ThresholdCurve:
    split = predicted.meta["split"]
    return thresholds.curve(predicted, thresholds.labels_by_id(data, split), thresholds.answerable(data, min_samples),
                            ExampleTable(data, split).groups(predicted.ids))


def _print_neighbourhood(curve: multi_label.ThresholdCurve) -> None:
    f2, fitted = curve.means()["f2"], curve.best_threshold()
    center = int(np.argmin(np.abs(multi_label.THRESHOLDS - fitted)))
    around = range(max(center - NEIGHBOURHOOD, 0), min(center + NEIGHBOURHOOD + 1, len(f2)))
    print(f"threshold {fitted:.2f}, fitted on all; F2 around it, where it was fitted: "
          + ", ".join(f"{multi_label.THRESHOLDS[index]:.2f}: {f2[index]:.4f}" for index in around))


def run(data: datasets.Dataset, members: Sequence[predictions.Predictions], table: ExampleTable, request: Request) -> None:
    """Prints the scores of each member and of their blend; writes JSON and a report if asked.

    With request.threshold that is what is answered; without, it is fitted, and scored by cross-fitting.
    """
    threshold, min_samples = request.threshold, request.min_samples
    prior_layers.refuse(request.priors, data)
    if threshold is None:
        unseen.require(members, "--threshold is missing")
    elif not np.isclose(multi_label.THRESHOLDS, threshold).any():
        raise UserError(f"--threshold={threshold:g}: give hundredths, from 0.01 to 0.99")
    view = ablation.View(members, request.blend, table, calibrate.asked(request, members))
    curve = _curve(view.blended, data, min_samples)
    told_curve = curve if view.blended is view.told else _curve(view.told, data, min_samples)
    result = summary(curve, threshold)
    if threshold is None:
        result["threshold"] = told_curve.best_threshold()
    lines = {**members_of.lines(members, lambda one: score(one, data, min_samples, threshold)),
             blend.title(members, request.blend): result}
    weighs, own = members_of.weights(members, view.mixtures.told), members_of.temperatures(members, view.mixtures.told)
    warnings = unseen.warnings(members, data)
    if not request.calibrate:
        warnings += calibrations.warnings(request.calibration, table.split, data)
    measured = calibrate.scores({ablation.PICTURE: view.picture}, table, view)
    members_of.print_heading(table, result["examples"])
    frame = pd.DataFrame.from_dict(lines, orient="index").drop(columns="examples")
    print(frame.to_string(float_format="{:.4f}".format))
    metric = data.manifest.metric
    of_competition = metrics.competition_score(metric, result)
    if of_competition is not None:
        how = "cross-fitted" if threshold is None else f"at the threshold {threshold:g}"
        print(f"the competition's own {metric} ({how}): {of_competition:.4f}")
    probes = probe.scores(members, table, lambda one: score(one, data, min_samples, threshold))
    probe.print_lines(probes, {"f2": "F2"})
    if threshold is None:
        _print_neighbourhood(told_curve)
    calibrated = certainty.frame(measured)
    if calibrated is not None:
        print(f"\nCalibration (of the most probable label)\n{calibrated.to_string(float_format='{:.4f}'.format)}")
    for sentence in calibrate.told(measured, view):
        print(sentence)
    for warning in warnings:
        print(f"warning: {warning}")
    members_of.print_mixture(weighs, own)
    calibrate.write(measured, view, table, request)
    if request.out:
        means = {name: values.tolist() for name, values in told_curve.means().items()}
        files.write_json(request.out, {**result, "weights": weighs, "member_temperatures": own, "lines": lines,
                               "warnings": warnings, "probe": probes,
                               "temperature": view.temperatures and view.temperatures.told, "calibration": measured,
                               "curve": {"threshold": multi_label.THRESHOLDS.tolist(), **means}})
    if request.report:
        report.write(request.report, report.Found(
            lines=lines, probes=probes, predicted=view.blended, members=members, curve=curve, data=data,
            allowed=thresholds.answerable(data, min_samples), threshold=threshold, told=result["threshold"],
            reliability=certainty.bins(measured), notes=calibrate.told(measured, view), model_dirs=request.model_dirs,
            warnings=warnings))
        print(f"report: {request.report}")
