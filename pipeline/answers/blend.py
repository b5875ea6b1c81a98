"""Blend weights: equal, given, or found on predictions whose labels are known."""

import dataclasses
import os
from typing import Any, Optional, Sequence

import numpy as np
from scipy import optimize

from pipeline import files
from pipeline.answers import fusion, predictions, unseen
from pipeline.answers.example_table import ExampleTable
from pipeline.errors import UserError

EQUAL, FITTED = "equal", "oof"
_TINY = 1e-12  # probability; keeps the logarithm finite where every member is sure of something else


def parse(text: str, members: int) -> np.ndarray:
    """The weights [members] of --blend=equal or 2:1:1, summing to 1. Raises UserError."""
    if text == EQUAL:
        return np.full(members, 1 / members)
    try:
        weights = np.array([float(part) for part in text.split(":")])
    except ValueError:
        raise UserError(f"--blend={text} is none of {EQUAL}, {FITTED}, weights as in 2:1") from None
    if len(weights) != members:
        raise UserError(f"--blend={text} has {len(weights)} weights for {members} predictions")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum():
        raise UserError(f"--blend={text}: weights are 0 or more, and not all 0")
    return weights / weights.sum()


def title(members: Sequence[predictions.Predictions], text: str) -> str:
    """What a table of scores calls the blend of --blend=`text`."""
    if len(members) == 1:
        return members[0].directory
    if text == EQUAL:
        return "mean"
    return f"blend {text}" + (" (cross-fitted)" if text == FITTED else "")


def fit(label_probabilities: np.ndarray) -> np.ndarray:
    """The convex weights with the smallest log loss of the blend: −mean log Σ w·p, which is convex in w.

    Args: float [examples, members], what each member gives to each example's label. Returns [members], sum 1.
    """
    examples, members = label_probabilities.shape
    equal = np.full(members, 1 / members)
    if members == 1 or not examples:
        return equal

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        blended = np.maximum(label_probabilities @ weights, _TINY)
        return -np.log(blended).mean(), -(label_probabilities / blended[:, np.newaxis]).mean(axis=0)

    found = optimize.minimize(loss, equal, jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * members,
                              constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1,
                                           "jac": np.ones_like}, options={"ftol": 1e-9, "maxiter": 200})
    weights = np.clip(found.x, 0, None)
    return weights / weights.sum()


def cross_fit(label_probabilities: np.ndarray, groups: np.ndarray) -> dict[int, np.ndarray]:
    """For each group the weights [members] to score it by: they were fitted on all others.

    Args: float [examples, members], int [examples].

    (Scored where they were fitted, weights look better than they are.) With one group there is nothing to fit on, and
    they are equal.
    """
    return {group: fit(label_probabilities[groups != group]) for group in np.unique(groups).tolist()}


def label_probabilities(members: Sequence[predictions.Predictions], table: ExampleTable) -> tuple[np.ndarray, np.ndarray]:
    """(bool [ids of the first]: which have a label; what each member gives to these labels: float64 [labelled, members]).

    Raises UserError where none has one, or a model has seen the pictures.
    """
    unseen.require(members, f"--blend={FITTED}")
    equal = fusion.Blend(members)
    labels = table.label_indices(equal.ids)
    labelled = labels >= 0
    if not labelled.any():
        raise UserError(f"--blend={FITTED}: no picture of {members[0].directory} has a label to fit on")
    return labelled, equal.label_probabilities(np.maximum(labels, 0))[labelled]


@dataclasses.dataclass(frozen=True)
class ScoringWeights:
    """Weights of predictions whose labels are known.

    Attributes:
      told: [members], fitted on everything where they are fitted: what a submission should have.
      groups: int [examples], the cross-fitting groups, in the order of the first member's ids.
      by_group: for each of them the weights [members] to score it by; fitted without it where they are fitted.
    """

    told: np.ndarray
    groups: np.ndarray
    by_group: dict[int, np.ndarray]

    def by_example(self, by_group: dict[int, Any]) -> np.ndarray:
        """Array [examples, …] of what a dict has for their groups, such as `self.by_group`."""
        groups, which = np.unique(self.groups, return_inverse=True)
        return np.stack([by_group[group] for group in groups.tolist()])[which]


def for_scoring(members: Sequence[predictions.Predictions], text: str, table: ExampleTable) -> ScoringWeights:
    """The weights of --blend for predictions whose labels are known. Raises UserError."""
    groups = table.groups(members[0].ids)
    if text != FITTED:
        weights = parse(text, len(members))
        return ScoringWeights(weights, groups, {group: weights for group in np.unique(groups).tolist()})
    labelled, given = label_probabilities(members, table)
    told = fit(given)
    # What has no label is not scored; a group of such pictures alone gets the weights of all.
    return ScoringWeights(told, groups, {**dict.fromkeys(np.unique(groups).tolist(), told), **cross_fit(given, groups[labelled])})


VAL = os.path.join("predictions", "val")  # of a model directory, where predict.py puts it


def labelled_of(model_dir: str, places: Sequence[str] = (predictions.OUT_OF_FOLD, VAL),
                ) -> Optional[predictions.Predictions]:
    """A model's predictions whose labels are known and whose pictures it has not seen: the first of `places` in its
    directory that is there."""
    for place in places:
        directory = os.path.join(model_dir, place)
        if files.exists(os.path.join(directory, predictions.META_FILE)):
            found = predictions.Predictions(directory)
            if not unseen.seen_pictures(found):
                return found
    return None
