"""The temperature that makes the log loss of a blend smallest (Guo et al. 2017): one number, found in one pass.

It lies right on the blend: under the prior correction and the geo prior, which take probabilities for what they say. The log
loss is smooth in it, so that its values at a few temperatures, added up over the examples, describe it: a cubic spline
through them is minimized. (Nothing is kept of an example, so millions cost no memory.)
"""

import dataclasses
from typing import Optional, Union

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


def fit(losses: np.ndarray) -> float:
    """The temperature with the smallest loss.

    Args: float [TEMPERATURES], the loss at each, of any number of examples together; all 0: of none.
    """
    if not losses.any():
        return UNFITTED
    curve = interpolate.CubicSpline(np.log(TEMPERATURES), losses)
    found = optimize.minimize_scalar(curve, bounds=np.log(TEMPERATURES[[0, -1]]), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def curves(blended, table: ExampleTable, every: int = 1) -> dict[int, np.ndarray]:
    """For each group of ExampleTable.groups the log loss at TEMPERATURES, added up over its examples that have a label:
    float64 [TEMPERATURES]. `blended` is a Blend without a temperature, or Predictions; each `every`-th example is taken."""
    task, groups = table.data.task, table.groups(blended.ids)
    found = {group: np.zeros(len(TEMPERATURES)) for group in np.unique(groups).tolist()}
    start = 0
    with progress(len(blended.ids), "fit the temperature", "pictures") as bar:
        for ids, logs in blended.chunks():
            known = np.flatnonzero([(start + at) % every == 0 and one in table.label_lists for at, one in enumerate(ids)])
            labels = [table.label_lists[ids[at]] for at in known]
            of_chunk = groups[start + known]
            losses = np.stack([task.log_losses(task.temper(logs[known], one), labels) for one in TEMPERATURES], axis=1)
            for group in np.unique(of_chunk).tolist():
                found[group] += losses[of_chunk == group].sum(axis=0)
            start += len(ids)
            bar.update(len(ids))
    return found


def without(group: Optional[int], of_groups: dict[int, np.ndarray]) -> np.ndarray:
    """The sum of `curves` but a group's; None: of all."""
    return sum((curve for one, curve in of_groups.items() if one != group), np.zeros(len(TEMPERATURES)))


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
    return Temperatures(fit(without(None, found[told])), {group: fit(without(group, found[one])) for group, one in by_group.items()})
