"""The temperature that makes the log loss of a blend smallest (Guo et al. 2017): one number, found in one pass.

It lies right on the blend: under the prior correction and the geo prior, which take probabilities for what they say. The log
loss is smooth in it, so that its values at a few temperatures, added up over the examples, describe it: a cubic spline
through them is minimized. (Nothing is kept of an example, so millions cost no memory.)
"""

import dataclasses
from typing import Union

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


def curves(blended, table: ExampleTable) -> dict[int, np.ndarray]:
    """For each group of ExampleTable.groups the log loss at TEMPERATURES, added up over its examples that have a label:
    float64 [TEMPERATURES]. `blended` is a Blend without a temperature."""
    task, groups = table.data.task, table.groups(blended.ids)
    found = {group: np.zeros(len(TEMPERATURES)) for group in np.unique(groups).tolist()}
    start = 0
    with progress(len(blended.ids), "fit the temperature", "pictures") as bar:
        for ids, logs in blended.chunks():
            known = np.array([one in table.label_lists for one in ids])
            labels = [table.label_lists[one] for one in ids if one in table.label_lists]
            of_chunk = groups[start:start + len(ids)][known]
            losses = np.stack([task.log_losses(task.temper(logs[known], one), labels) for one in TEMPERATURES], axis=1)
            for group in np.unique(of_chunk).tolist():
                found[group] += losses[of_chunk == group].sum(axis=0)
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

    def without(group: int) -> float:
        others = [curve for one, curve in found[by_group[group]].items() if one != group]
        return fit(sum(others, np.zeros(len(TEMPERATURES))))

    return Temperatures(fit(sum(found[told].values())), {group: without(group) for group in by_group})
