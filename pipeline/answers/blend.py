"""Blend weights: equal, given, or found on predictions whose labels are known, with a temperature of each member."""

import dataclasses
import os
from typing import Any, Optional, Sequence

import numpy as np
from scipy import optimize

from pipeline import files
from pipeline.answers import fusion, predictions, temperature, unseen
from pipeline.answers.example_table import ExampleTable
from pipeline.answers.mixture import Mixture
from pipeline.errors import UserError

EQUAL, FITTED = "equal", "oof"
MOST_VALUES = 20_000_000  # parts of truths × members × groups that weights are fitted on
MOST_TEMPERED = 200_000_000  # probabilities of a member that its temperature is fitted on: some 20 s of a core
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


@dataclasses.dataclass(frozen=True)
class ScoringMixtures:
    """How predictions whose labels are known are put together.

    Attributes:
      told: fitted on everything where it is fitted: what a submission should have.
      groups: int [examples], the cross-fitting groups, in the order of the first member's ids.
      by_group: for each of them the Mixture to score it by; fitted without it where it is fitted.
    """

    told: Mixture
    groups: np.ndarray
    by_group: dict[int, Mixture]

    def by_example(self, by_group: dict[int, Any]) -> np.ndarray:
        """Array [examples, …] of what a dict has for their groups, such as weights."""
        groups, which = np.unique(self.groups, return_inverse=True)
        return np.stack([by_group[group] for group in groups.tolist()])[which]

    @property
    def scoring(self) -> Mixture:
        """Each example by the mixture of its group."""
        weights = self.by_example({group: one.weights for group, one in self.by_group.items()})
        if self.told.temperatures is None:
            return Mixture(weights)
        temperatures = self.by_example({group: one.temperatures for group, one in self.by_group.items()})
        return Mixture(weights, temperatures, self.told.task)


def for_scoring(members: Sequence[predictions.Predictions], text: str, table: ExampleTable) -> ScoringMixtures:
    """What --blend stands for, of predictions whose labels are known. Raises UserError."""
    groups = table.groups(members[0].ids)
    if text != FITTED:
        given = Mixture(parse(text, len(members)))
        return ScoringMixtures(given, groups, dict.fromkeys(np.unique(groups).tolist(), given))
    known = np.isin(members[0].ids, list(table.label_lists))
    told, *others = fit_members(members, table, [None, *np.unique(groups[known]).tolist()])
    # What has no label is not scored; a group of such pictures alone is put together as all are.
    by_group = dict(zip(np.unique(groups[known]).tolist(), others))
    return ScoringMixtures(told, groups, {**dict.fromkeys(np.unique(groups).tolist(), told), **by_group})


def fit_members(members: Sequence[predictions.Predictions], table: ExampleTable,
                left_out: Sequence[Optional[int]] = (None,)) -> list[Mixture]:
    """For each of `left_out` the mixture with the smallest log loss on the pictures of a table but those of that group of it
    (None: on all): first each member's temperature, by itself, then the weights.

    (Weights alone would leave out who says less than he knows, as networks do that were trained on smoothed or mixed labels.)
    Where nothing remains to fit on, temperatures are 1 and weights equal. One member alone has no temperature. Raises UserError
    where no picture has a label, or a model has seen the pictures.
    """
    unseen.require(members, f"--blend={FITTED}")
    blended = fusion.Blend(members)
    known = np.array([position for position, one in enumerate(blended.ids) if one in table.label_lists], np.int64)
    if not len(known):
        raise UserError(f"--blend={FITTED}: no picture of {members[0].directory} has a label to fit on")
    if len(members) == 1:
        return [Mixture.equal(1)] * len(left_out)
    temperatures = member_temperatures(members, table, left_out)
    parts = table.data.task.truth_probabilities(np.zeros((1, len(blended.class_ids))), [[0]]).shape[1]
    chosen = known[::-(-len(known) * parts * temperatures.size // MOST_VALUES)]
    truth = blended.truth_probabilities([table.label_lists[blended.ids[one]] for one in chosen], table.data.task, chosen,
                                        temperatures)
    groups = table.groups(blended.ids)[chosen]
    return [Mixture(fit(of_one[groups != group].reshape(-1, len(members))), own, table.data.task)
            for group, own, of_one in zip(left_out, temperatures, truth)]


def member_temperatures(members: Sequence[predictions.Predictions], table: ExampleTable,
                        left_out: Sequence[Optional[int]]) -> np.ndarray:
    """Float [left_out, members]: each member's temperature, fitted by itself on all but a group.

    Of members that say more than MOST_TEMPERED probabilities every second, third, … picture is taken.
    """
    every = -(-len(members[0].ids) * len(members[0].class_ids) // MOST_TEMPERED)
    curves = [temperature.curves(one, table, every) for one in members]
    return np.array([[temperature.fit(temperature.without(group, of_one)) for of_one in curves] for group in left_out])


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
