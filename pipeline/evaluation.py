"""Scores of predictions against the labels in examples.csv: each member, their blend, and what each member adds."""

import dataclasses
from typing import Optional, Sequence

import numpy as np

from pipeline import (blend, cross_fitting, dataset as datasets, files, fusion, metrics, multi_label_blend,
                      multi_label_evaluation, open_set, predictions, report, score_table, thresholds)
from pipeline.errors import UserError


def labels_by_id(data: datasets.Dataset, split: str, fold: Optional[int] = None) -> dict[str, int]:
    """The class index of every labelled example of a split, or of one of its folds."""
    examples = data.examples(split)
    if fold is not None and (examples["fold"] == fold).any():
        examples = examples[examples["fold"] == fold]
    return {one: labels[0] for one, labels in zip(examples["id"], examples["labels"]) if labels}


def score(predicted, labels: dict[str, int], data: datasets.Dataset) -> dict[str, float]:
    """metrics.SingleLabelScores over the examples whose label is known.

    In an open-set competition also open_set_first and open_set_sum: MAP@5 of the answers by each rule of open_set.

    Args: `predicted` is a Blend or Predictions.
    """
    scores = metrics.SingleLabelScores(len(predicted.class_ids))
    answers = OpenSetScores(data) if data.manifest.unknown_answer else None
    for ids, log_probabilities in predicted.chunks():
        known = np.array([one in labels for one in ids])
        truth = np.array([labels[one] for one in ids if one in labels], np.int64)
        if len(truth):
            scores.update(truth, log_probabilities[known])
            if answers:
                answers.update(truth, log_probabilities[known])
    return {**scores.result(), **(answers.result() if answers else {})}


class OpenSetScores:
    """Accumulates MAP@5 where a class outside the known ones is to be answered by one common name."""

    def __init__(self, data: datasets.Dataset):
        self._known = np.array([one.known for one in data.manifest.classes])
        self._answers = min(5, open_set.count_answers(self._known))
        self._totals = {rule: 0.0 for rule in open_set.RULES}
        self._examples = 0

    def update(self, labels: np.ndarray, log_probabilities: np.ndarray) -> None:
        """int [n] class indices and float [n, classes]."""
        truth = np.where(self._known[labels], labels, open_set.UNKNOWN)
        self._examples += len(labels)
        for rule in self._totals:
            ranked = open_set.rank(log_probabilities, self._known, self._answers, rule)
            self._totals[rule] += metrics.mean_average_precision(truth, ranked) * len(labels)

    def result(self) -> dict[str, float]:
        return {f"open_set_{rule}": total / self._examples for rule, total in self._totals.items()}


def label_probabilities(members: Sequence[predictions.Predictions], labels: dict[str, int],
                        ) -> tuple[list[str], np.ndarray]:
    """(ids, what each member gives to their labels: float64 [ids, members]). Raises UserError for an id without a label."""
    equal = fusion.Blend(members)
    unknown = [one for one in equal.ids if one not in labels]
    if unknown:
        raise UserError(f"--blend={blend.FITTED}: {unknown[0]} of {members[0].directory} has no label to fit on")
    return equal.ids, equal.label_probabilities(np.array([labels[one] for one in equal.ids]))


def fitted_weights(members: Sequence[predictions.Predictions], data: datasets.Dataset) -> np.ndarray:
    """Weights [members] for predictions without labels, fitted on the same models' predictions with labels."""
    labelled = [blend.out_of_fold_of(member) for member in members]
    if data.manifest.multi_label:
        return multi_label_blend.fit(labelled, thresholds.labels_by_id(data, labelled[0].meta["split"]))
    _, given = label_probabilities(labelled, labels_by_id(data, labelled[0].meta["split"]))
    return blend.fit(given)


def _blend_weights(members: Sequence[predictions.Predictions], text: str, data: datasets.Dataset,
                   labels: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """(weights for scoring, weights to tell): the same but for oof, which is scored by cross-fitting."""
    if text != blend.FITTED:
        weights = blend.parse(text, len(members))
        return weights, weights
    ids, given = label_probabilities(members, labels)
    return blend.cross_fit(given, cross_fitting.groups(data, members[0].meta["split"], ids)), blend.fit(given)


def _print_line(name: str, scores: dict[str, float], columns: Sequence[str]) -> None:
    print(f"{name[-38:]:<38}" + "".join(f"{scores[column]:>16.4f}" for column in columns))


@dataclasses.dataclass(frozen=True)
class Request:
    """What evaluate.py was asked for, beside the data."""

    predictions: Sequence[str]            # folders or globs
    blend: str = blend.EQUAL
    out: Optional[str] = None             # JSON
    report: Optional[str] = None          # HTML
    model_dirs: Sequence[str] = ()        # empty: those that the predictions name
    min_samples: int = 0                  # with several labels a picture: rarer ones are not answered


def run_evaluation(data_dir: str, request: Request) -> None:
    """Prints the scores of the predictions' blend, of each, and of all but each; writes JSON and a report if asked."""
    data = datasets.load(data_dir)
    members = fusion.find(request.predictions)
    equal = fusion.Blend(members)
    if equal.class_ids != data.class_ids or equal.meta["dataset"]["classes"] != data.classes_digest():
        raise UserError(f"--predictions: the classes of {equal.directory} are not those of {data_dir}")
    split = equal.meta["split"]
    fold = equal.meta.get("fold")  # a number in what one fold predicts of the pictures that it held out
    labels = labels_by_id(data, split, fold if isinstance(fold, int) else None)
    if not labels:
        raise UserError(f"--predictions: split {split} has no labels in {data_dir}; predict val to score a model")
    _check_ids(equal, labels, data, split)
    model_dirs = request.model_dirs or list(dict.fromkeys(one.meta["model_dir"] for one in members))
    if data.manifest.multi_label:
        multi_label_evaluation.run(data, members, request.blend, request.min_samples, request.out, request.report, model_dirs)
        return
    scoring_weights, weights = _blend_weights(members, request.blend, data, labels)
    blended = fusion.Blend(members, scoring_weights)
    result = score(blended, labels, data)
    lines = {**_member_lines(members, equal, labels, data), _blend_name(members, request.blend): result}
    rejected = len(data.rejected(split))
    print(f"{split}: {result['examples']} examples" + (f" ({rejected} rejected ones not scored)" if rejected else ""))
    score_table.print_lines(lines)
    metric = data.manifest.metric
    if metric:
        print(f"the competition's own {metric}: {metrics.COMPETITION_METRICS[metric](result):.4f}")
    told = {one.directory: round(float(weight), 4) for one, weight in zip(members, weights)}
    if len(members) > 1:
        print("weights: " + ", ".join(f"{weight:.3f} {name}" for name, weight in told.items()))
    if request.out:
        files.write_json(request.out, {**result, "weights": told, "lines": lines})
    if request.report:
        report.write(request.report, lines, blended, labels, data, model_dirs)
        print(f"report: {request.report}")


def _check_ids(predicted: fusion.Blend, labels: dict[str, int], data: datasets.Dataset, split: str) -> None:
    """Raises UserError where predictions are of other pictures than the split's, or not of all that have a label."""
    there = set(data.examples(split)["id"])
    strange = [one for one in predicted.ids if one not in there]
    if strange:
        raise UserError(f"--predictions: {predicted.directory} holds {strange[0]}, which is not in {split} of "
                        f"{data.directory}")
    missing = set(labels).difference(predicted.ids)
    if missing:
        raise UserError(f"--predictions: {predicted.directory} lacks {len(missing)} pictures of {split}, such as "
                        f"{min(missing)}")


def _blend_name(members: Sequence[predictions.Predictions], text: str) -> str:
    if len(members) == 1:
        return members[0].directory
    if text == blend.EQUAL:
        return "mean"
    return f"blend {text}" + (" (cross-fitted)" if text == blend.FITTED else "")


def _member_lines(members: Sequence[predictions.Predictions], equal: fusion.Blend, labels: dict[str, int],
                  data: datasets.Dataset) -> dict[str, dict[str, float]]:
    """Scores of each of several members, of the mean of the others, and of the plain mean."""
    if len(members) == 1:
        return {}
    lines = {}
    for member in members:
        lines[member.directory] = score(member, labels, data)
    for member in members:
        others = [one for one in members if one is not member]
        lines[f"mean without {member.directory}"] = score(fusion.Blend(others), labels, data)
    return {**lines, "mean": score(equal, labels, data)}
