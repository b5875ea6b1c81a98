"""The temperature that makes the log loss of a blend smallest (Guo et al. 2017): one number, found in one pass.

It lies right on the blend: under the prior correction and the geo prior, which take probabilities for what they say. The log
loss is smooth in it, so that its values at a few temperatures, added up over the examples, describe it: a cubic spline
through them is minimized. (Nothing is kept of an example, so millions cost no memory.)
"""

import dataclasses
from typing import Optional, Sequence, Union

import numpy as np
from scipy import interpolate, optimize

from pipeline.answers.example_table import ExampleTable
from pipeline.progress import progress
from pipeline.tasks.task import Task

TEMPERATURES = np.geomspace(1 / 8, 8, 25)  # the fitted one lies between the first and the last
UNFITTED = 1.0                             # where there is nothing to fit on


@dataclasses.dataclass(frozen=True, eq=False)
class Temper:
    """What a Blend puts on itself.

    Attributes:
      temperatures: one, or float [examples] in the order of the blend's ids.
    """

    task: Task
    temperatures: Union[float, np.ndarray]

    def __call__(self, logs: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Float32 log-probabilities [n, classes] of the examples at `positions`, tempered."""
        if np.ndim(self.temperatures):
            return self.task.temper(logs, self.temperatures[positions, np.newaxis])
        return self.task.temper(logs, self.temperatures)

    def probability(self, untempered: float) -> float:
        """What becomes of a probability, where classes are tempered each by itself and by one temperature."""
        return float(np.exp(self.task.temper(np.log([[untempered]]), self.temperatures))[0, 0])


def fit(losses: np.ndarray, spread: float = np.inf) -> float:
    """The temperature with the smallest loss.

    Args:
      losses: float [TEMPERATURES], −log likelihood at each, of any number of examples together; all 0: of none.
      spread: standard deviation of the temperature's logarithm about 0 under a normal prior. (Of few examples, all of them right,
        the temperature would be as low as it may.)
    """
    if not losses.any():
        return UNFITTED
    curve = interpolate.CubicSpline(np.log(TEMPERATURES), losses + np.square(np.log(TEMPERATURES) / spread) / 2)
    found = optimize.minimize_scalar(curve, bounds=np.log(TEMPERATURES[[0, -1]]), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


class Curves(dict):
    """For each group the log loss at TEMPERATURES, added up over its examples: int → float64 [TEMPERATURES]."""

    def __init__(self, task: Task, groups: np.ndarray):
        super().__init__({group: np.zeros(len(TEMPERATURES)) for group in np.unique(groups).tolist()})
        self._task = task

    def add(self, logs: np.ndarray, labels: Sequence[Sequence[int]], groups: np.ndarray) -> None:
        """Args: log-probabilities [n, classes], class indices of each, int [n]."""
        if not len(labels):
            return
        losses = np.stack([self._task.log_losses(self._task.temper(logs, one), labels) for one in TEMPERATURES], axis=1)
        for group in np.unique(groups).tolist():
            self[group] += losses[groups == group].sum(axis=0)

    def without(self, group: Optional[int]) -> np.ndarray:
        """The sum of all but a group's; None: of all."""
        return sum((curve for one, curve in self.items() if one != group), np.zeros(len(TEMPERATURES)))


def curves(blended, table: ExampleTable) -> Curves:
    """By the groups of ExampleTable.groups, of the examples that have a label; `blended` is a Blend without a temperature."""
    groups = table.groups(blended.ids)
    found, start = Curves(table.data.task, groups), 0
    with progress(len(blended.ids), "fit the temperature", "pictures") as bar:
        for ids, logs in blended.chunks():
            known = np.flatnonzero([one in table.label_lists for one in ids])
            found.add(logs[known], [table.label_lists[ids[at]] for at in known], groups[start + known])
            start += len(ids)
            bar.update(len(ids))
    return found


@dataclasses.dataclass(frozen=True)
class Temperatures:
    """Of a blend whose labels are known.

    Attributes:
      told: fitted on everything where it is fitted: what a submission should have.
      by_group: for each cross-fitting group that to score it by; fitted without it where it is fitted.
    """

    told: float
    by_group: dict[int, float]


def cross_fit(told, by_group: dict[int, object], table: ExampleTable) -> Temperatures:
    """Fits on every example that has a label, and for each group on all others.

    Args:
      told: the Blend of a submission.
      by_group: for each group the Blend that it is scored by; each is read once, also where several groups share it.
    """
    found = {blended: curves(blended, table) for blended in {told, *by_group.values()}}
    return Temperatures(fit(found[told].without(None)),
                        {group: fit(found[one].without(group)) for group, one in by_group.items()})
