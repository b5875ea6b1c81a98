"""Scores of predictions where a picture has several labels: F2 with its threshold, for each member and the blend.

F2, precision, recall and the number of labels are cross-fitted: every picture is judged at a threshold that was fitted
on the others' folds. The threshold that is told is fitted on all of them: it is what a submission uses.
"""

from typing import Optional, Sequence

import numpy as np
import pandas as pd

from pipeline import (blend, dataset as datasets, files, fusion, metrics, multi_label, multi_label_blend,
                      multi_label_report, predictions, thresholds)
from pipeline.example_table import ExampleTable

NEIGHBOURHOOD = 5  # thresholds on either side of the fitted one, that are told


def score(predicted, data: datasets.Dataset, min_samples: int = 0) -> dict[str, float]:
    """f2, threshold, precision, recall, labels and examples of a Blend or Predictions."""
    return summary(_curve(predicted, data, min_samples))


def summary(curve: multi_label.ThresholdCurve) -> dict[str, float]:
    """`score` of a curve over two groups or more."""
    fitted = curve.cross_fitted()
    return {"f2": fitted.pop("f2"), "threshold": curve.best_threshold(), **fitted, "examples": curve.examples}


def _curve(predicted, data: datasets.Dataset, min_samples: int) -> multi_label.ThresholdCurve:
    split = predicted.meta["split"]
    return thresholds.curve(predicted, thresholds.labels_by_id(data, split), thresholds.answerable(data, min_samples),
                            ExampleTable(data, split).groups(predicted.ids))


def _blend_weights(members: Sequence[predictions.Predictions], text: str, data: datasets.Dataset,
                   ) -> tuple[np.ndarray, np.ndarray]:
    """(weights for scoring, weights to tell): the same but for oof, which is scored by cross-fitting."""
    if text != blend.FITTED:
        weights = blend.parse(text, len(members))
        return weights, weights
    split = members[0].meta["split"]
    labels = thresholds.labels_by_id(data, split)
    groups = ExampleTable(data, split).groups(members[0].ids)
    return multi_label_blend.cross_fit(members, labels, groups), multi_label_blend.fit(members, labels)


def _member_lines(members: Sequence[predictions.Predictions], data: datasets.Dataset, min_samples: int,
                  ) -> dict[str, dict[str, float]]:
    """Scores of each of several members, of the mean of the others, and of the plain mean."""
    if len(members) == 1:
        return {}
    lines = {one.directory: score(one, data, min_samples) for one in members}
    for member in members:
        others = [one for one in members if one is not member]
        lines[f"mean without {member.directory}"] = score(fusion.Blend(others), data, min_samples)
    return {**lines, "mean": score(fusion.Blend(members), data, min_samples)}


def _print_neighbourhood(curve: multi_label.ThresholdCurve) -> None:
    f2, fitted = curve.means()["f2"], curve.best_threshold()
    center = int(np.argmin(np.abs(multi_label.THRESHOLDS - fitted)))
    around = range(max(center - NEIGHBOURHOOD, 0), min(center + NEIGHBOURHOOD + 1, len(f2)))
    print(f"threshold {fitted:.2f}, fitted on all; F2 around it, where it was fitted: "
          + ", ".join(f"{multi_label.THRESHOLDS[index]:.2f}: {f2[index]:.4f}" for index in around))


def run(data: datasets.Dataset, members: Sequence[predictions.Predictions], blend_text: str, min_samples: int,
        out: Optional[str], report: Optional[str], model_dirs: Sequence[str]) -> None:
    """Prints the scores of each member and of their blend; writes JSON and a report where asked (evaluate.py)."""
    scoring_weights, weights = _blend_weights(members, blend_text, data)
    blended = fusion.Blend(members, scoring_weights)
    curve = _curve(blended, data, min_samples)
    told_curve = curve if scoring_weights is weights else _curve(fusion.Blend(members, weights), data, min_samples)
    result = {**summary(curve), "threshold": told_curve.best_threshold()}
    lines = {**_member_lines(members, data, min_samples), blend.title(members, blend_text): result}
    told = {one.directory: round(float(weight), 4) for one, weight in zip(members, weights)}
    rejected = len(data.rejected(blended.meta["split"]))
    print(f"{blended.meta['split']}: {result['examples']} examples"
          + (f" ({rejected} rejected ones not scored)" if rejected else ""))
    frame = pd.DataFrame.from_dict(lines, orient="index").drop(columns="examples")
    print(frame.to_string(float_format="{:.4f}".format))
    metric = data.manifest.metric
    if metric:
        print(f"the competition's own {metric} (cross-fitted): {metrics.COMPETITION_METRICS[metric](result):.4f}")
    _print_neighbourhood(told_curve)
    if len(members) > 1:
        print("weights: " + ", ".join(f"{weight:.3f} {directory}" for directory, weight in told.items()))
    if out:
        means = {name: values.tolist() for name, values in told_curve.means().items()}
        files.write_json(out, {**result, "weights": told, "lines": lines,
                               "curve": {"threshold": multi_label.THRESHOLDS.tolist(), **means}})
    if report:
        multi_label_report.write(report, lines, blended, told_curve, data, thresholds.answerable(data, min_samples),
                                 model_dirs)
        print(f"report: {report}")
