"""Blend weights: equal, given, or found on predictions whose labels are known."""

import os
from typing import Optional, Sequence

import numpy as np
from scipy import optimize

from pipeline import files, predictions
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


def cross_fit(label_probabilities: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Weights [examples, members] for scoring: each example's were fitted without its group.

    (Scored where they were fitted, weights look better than they are.) With one group there is nothing to fit on, and
    they are equal.
    """
    groups = np.asarray(groups)
    weights = np.empty_like(label_probabilities)
    for group in np.unique(groups):
        weights[groups == group] = fit(label_probabilities[groups != group])
    return weights


def labelled_of(model_dir: str) -> Optional[predictions.Predictions]:
    """A model's predictions whose labels are known: of its folds, else of val; None where it has neither."""
    for place in (predictions.OUT_OF_FOLD, os.path.join("predictions", "val")):
        directory = os.path.join(model_dir, place)
        if files.exists(os.path.join(directory, predictions.META_FILE)):
            return predictions.Predictions(directory)
    return None


def out_of_fold_of(member: predictions.Predictions) -> predictions.Predictions:
    """`labelled_of` the member's model; raises UserError where there are none."""
    model_dir = member.meta["model_dir"]
    found = labelled_of(model_dir)
    if found:
        return found
    raise UserError(f"--blend={FITTED}: {model_dir} has no out-of-fold predictions and none of val; train it by "
                    "--fold=all, or predict val into its predictions/val")
