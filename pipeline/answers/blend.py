"""Blend weights: equal, given, or found on predictions whose labels are known."""

import dataclasses
import os
from typing import Any, Mapping, Optional, Sequence

import numpy as np
from scipy import optimize

from pipeline import files
from pipeline.answers import fusion, predictions, unseen
from pipeline.answers.example_table import ExampleTable
from pipeline.errors import UserError
from pipeline.tasks.task import Task

EQUAL, FITTED = "equal", "oof"
MOST_VALUES = 20_000_000  # parts of truths × members that weights are fitted on
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


def fit(truth: np.ndarray) -> np.ndarray:
    """The convex weights with the smallest log loss of the blend: −mean log Σ w·p, which is convex in w.

    Args: float [examples, members], what each member gives to the truth of each example. Returns [members], sum 1.
    """
    examples, members = truth.shape
    equal = np.full(members, 1 / members)
    if members == 1 or not examples:
        return equal

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        blended = np.maximum(truth @ weights, _TINY)
        return -np.log(blended).mean(), -(truth / blended[:, np.newaxis]).mean(axis=0)

    found = optimize.minimize(loss, equal, jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * members,
                              constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1,
                                           "jac": np.ones_like}, options={"ftol": 1e-9, "maxiter": 200})
    weights = np.clip(found.x, 0, None)
    return weights / weights.sum()


def cross_fit(truth: np.ndarray, groups: np.ndarray) -> dict[int, np.ndarray]:
    """For each group the weights [members] to score it by: they were fitted on all others.

    (Scored where they were fitted, weights look better than they are.) With one group there is nothing to fit on, and
    they are equal.

    Args: float [examples, members], what each member gives to the truth; int [examples].
    """
    return {group: fit(truth[groups != group]) for group in np.unique(groups).tolist()}


def truth_probabilities(members: Sequence[predictions.Predictions], labels: Mapping[str, Sequence[int]],
                        task: Task) -> tuple[np.ndarray, np.ndarray]:
    """(positions of the pictures among the first member's ids: int [n]; what each member gives to the truth of each, in
    the parts that the task has it: float64 [n, parts, members]). Pictures and classes are aligned by name.

    Of so many that there are more than MOST_VALUES, every second, third, … picture is taken. Raises UserError where none
    has a label, or a model has seen the pictures.

    Args: labels: class indices by id.
    """
    unseen.require(members, f"--blend={FITTED}")
    blended = fusion.Blend(members)
    known = np.array([position for position, one in enumerate(blended.ids) if one in labels], np.int64)
    if not len(known):
        raise UserError(f"--blend={FITTED}: no picture of {members[0].directory} has a label to fit on")
    parts = task.truth_probabilities(np.zeros((1, len(blended.class_ids))), [[0]]).shape[1]
    positions = known[::-(-len(known) * parts * len(members) // MOST_VALUES)]
    return positions, blended.truth_probabilities([labels[blended.ids[one]] for one in positions], task, positions)


def fit_members(members: Sequence[predictions.Predictions], labels: Mapping[str, Sequence[int]], task: Task) -> np.ndarray:
    """The weights [members] with the smallest log loss on pictures whose labels are known; labels: class indices by id."""
    _, truth = truth_probabilities(members, labels, task)
    return fit(truth.reshape(-1, len(members)))


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
    told, by_group = fit_and_cross_fit(members, table.label_lists, groups, table.data.task)
    # What has no label is not scored; a group of such pictures alone gets the weights of all.
    return ScoringWeights(told, groups, {**dict.fromkeys(np.unique(groups).tolist(), told), **by_group})


def fit_and_cross_fit(members: Sequence[predictions.Predictions], labels: Mapping[str, Sequence[int]], groups: np.ndarray,
                      task: Task) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The weights [members] fitted on all labelled pictures, and those to score each of their groups by.

    Args:
      labels: class indices by id.
      groups: int [ids of the first member].
    """
    positions, truth = truth_probabilities(members, labels, task)
    flat = truth.reshape(-1, len(members))
    return fit(flat), cross_fit(flat, np.repeat(groups[positions], truth.shape[1]))


VAL = os.path.join("predictions", "val")  # of a model directory, where predict.py puts it


def labelled_of(member: predictions.Predictions, places: Sequence[str] = (predictions.OUT_OF_FOLD, VAL),
                ) -> Optional[predictions.Predictions]:
    """Predictions of a member's model, made as the member was (by its head, or by as many neighbours), whose labels are
    known and whose pictures it has not seen: the first of `places` in its directory that is there."""
    model_dir, neighbours = member.meta["model_dir"], member.meta.get("neighbours")
    for place in places if model_dir else ():  # another program's predictions have none
        directory = os.path.join(model_dir, _of_neighbours(place, member) if neighbours else place)
        if files.exists(os.path.join(directory, predictions.META_FILE)):
            found = predictions.Predictions(directory)
            if found.meta.get("neighbours") == neighbours and not unseen.seen_pictures(found):
                return found
    return None


def _of_neighbours(place: str, member: predictions.Predictions) -> str:
    """Where predict.py --neighbours puts what stands at a place."""
    if place == predictions.OUT_OF_FOLD:  # which nothing but predict.py makes: of the split that was trained on
        place = os.path.join("predictions", "_".join((member.meta.get("seen") or {}).get("splits", ["train"])))
    return place + predictions.NEIGHBOURS
