"""Blend weights: equal, given, or found on predictions whose labels are known, with a temperature of each member."""

import dataclasses
import os
from typing import Any, Optional, Sequence

import numpy as np
from scipy import optimize, special

from pipeline import files
from pipeline.answers import fusion, predictions, temperature, unseen
from pipeline.answers.example_table import ExampleTable
from pipeline.answers.mixture import Mixture
from pipeline.errors import UserError
from pipeline.progress import progress
from pipeline.tasks.task import Task

EQUAL, FITTED = "equal", "oof"
MOST_VALUES = 20_000_000  # parts of truths × members that weights are fitted on
MOST_TEMPERED = 200_000_000  # probabilities of a member that temperatures are fitted on: 13 s of a core
AS_IF = 20  # examples (parts of truths) told by one member each: few leave weights near equal, many overrule it
SPREAD = 0.5  # of the logarithm of a member's temperature, as a standard deviation, before an example is seen
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
    """The convex weights with the smallest `loss` of the blend, which is convex in them, and at its smallest where all are above 0:
    so it is looked for among the logits of their softmax.

    Args: float [examples, members], what each member gives to the truth of each example. Returns [members], sum 1.
    """
    def of_logits(logits: np.ndarray) -> tuple[float, np.ndarray]:
        weights = special.softmax(logits)
        value, slopes = loss(weights, truth)
        return value, weights * (slopes - weights @ slopes)

    found = optimize.minimize(of_logits, np.zeros(truth.shape[1]), jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-8})
    return special.softmax(found.x)


def loss(weights: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """(−mean log Σ w·p, its gradient [members]) over the examples, and over AS_IF more that tell nothing but that all members are
    alike: of each of them one member, each as often, gives the truth 1 and the others 0. (The posterior of a Dirichlet prior; of 25
    pictures alone a member that was right by chance would be all of the blend, and what one fold's models are worth another's need
    not be: why it is more than the pictures' own chance asks for.)

    Args: float [members], above 0; float [examples, members].
    """
    examples, members = truth.shape
    blended = np.maximum(truth @ weights, _TINY)
    logs = np.log(blended).sum() + AS_IF / members * np.log(weights).sum()
    slopes = (truth / blended[:, np.newaxis]).sum(axis=0) + AS_IF / members / weights
    return -logs / (examples + AS_IF), -slopes / (examples + AS_IF)


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
    """For each of `left_out` the mixture with a small log loss on the pictures of a table but those of that group of it (None:
    on all): each member's temperature is fitted by itself, then the weights; where the blend's loss is smaller without one of the
    temperatures, it is 1.

    (Weights alone would leave out who says less than he knows, as networks do that were trained on smoothed or mixed labels.)
    Of few pictures weights stay near equal and temperatures near 1: AS_IF, SPREAD.
    Where nothing remains to fit on, temperatures are 1 and weights equal. One member alone has no temperature. Of many pictures
    every second, third, … is looked at. Raises UserError where none has a label, or a model has seen them.
    """
    unseen.require(members, f"--blend={FITTED}")
    blended = fusion.Blend(members)
    known = np.array([position for position, one in enumerate(blended.ids) if one in table.label_lists], np.int64)
    if not len(known):
        raise UserError(f"--blend={FITTED}: no picture of {members[0].directory} has a label to fit on")
    if len(members) == 1:
        return [Mixture.equal(1)] * len(left_out)
    classes, task = len(blended.class_ids), table.data.task
    parts = task.truth_probabilities(np.zeros((1, classes)), [[0]]).shape[1]
    every = max(-(-len(known) * classes // MOST_TEMPERED), -(-len(known) * parts * len(members) // MOST_VALUES))
    chosen = known[::every]
    labels, groups = _labels(blended, table, chosen), table.groups(blended.ids)[chosen]
    curves = _curves(blended, task, chosen, labels, groups)
    plain = blended.truth_probabilities(labels, task, chosen)
    found = []
    for group in left_out:
        own = np.array([temperature.fit(one.without(group) * parts, SPREAD) for one in curves])
        tempered = fusion.Blend(members, Mixture(blended.mixture.weights, own, task)).truth_probabilities(labels, task, chosen)
        taken, weights = _chosen_temperatures(plain[groups != group], tempered[groups != group])
        found.append(Mixture(weights, np.where(taken, own, temperature.UNFITTED), task))
    return found


def _labels(blended: fusion.Blend, table: ExampleTable, positions: np.ndarray) -> list[list[int]]:
    """Of the pictures there, in the order of the blend's classes, which need not be that of the data's."""
    column = {name: index for index, name in enumerate(blended.class_ids)}
    columns = [column[name] for name in table.data.class_ids]
    return [[columns[label] for label in table.label_lists[blended.ids[one]]] for one in positions]


def _curves(blended: fusion.Blend, task: Task, positions: np.ndarray, labels: Sequence[Sequence[int]],
            groups: np.ndarray) -> list[temperature.Curves]:
    """Of each member by itself; labels, groups: of the pictures at `positions`."""
    found = [temperature.Curves(task, groups) for _ in blended.members]
    with progress(len(positions), "fit temperatures", "pictures") as bar:
        for chunk, parts in blended.parts(positions):
            for one, logs in zip(found, parts):
                one.add(logs, [labels[at] for at in chunk], groups[chunk])
            bar.update(len(chunk))
    return found


def _chosen_temperatures(plain: np.ndarray, tempered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bool [members]: whose temperature makes the blend's log loss smaller; the weights [members]).

    A temperature is fitted to what a member says by itself. Where it says nearly nothing of some pictures, as neighbours' votes
    do, it flattens all the others too, and the blend may be better without. One after the other is tried, from all and from none.

    Args: float [examples, parts, members], what each member gives to the truth without and with its temperature.
    """
    members = plain.shape[-1]
    plain, tempered = plain.reshape(-1, members), tempered.reshape(-1, members)

    def fitted(taken: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        truth = np.where(taken, tempered, plain)
        weights = fit(truth)
        return loss(weights, truth)[0], taken, weights

    found = []
    for start in (np.ones(members, bool), np.zeros(members, bool)):
        best = fitted(start)
        for member in range(members):
            other = best[1].copy()
            other[member] = ~other[member]
            best = min(best, fitted(other), key=lambda one: one[0])
        found.append(best)
    _, taken, weights = min(found, key=lambda one: one[0])
    return taken, weights


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
