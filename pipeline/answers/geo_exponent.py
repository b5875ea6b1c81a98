"""The exponent of the geo prior that makes the log loss smallest: found in one pass over predictions with labels.

The log loss is convex in the exponent and smooth, so that its values and slopes at a few exponents, added up over the
examples, describe it: a cubic spline through them is minimized. (Nothing is kept of an example, so millions cost no
memory, and the geo prior, a network, is asked once.)
"""

from typing import Callable

import numpy as np
from scipy import interpolate, optimize

from pipeline.answers import fusion, priors as prior_layers
from pipeline.answers.example_table import ExampleTable
from pipeline.metrics import log_space
from pipeline.progress import progress

# The fitted one lies between the first and the last. (A prior by the presence loss is flat, the more so the fewer classes
# there are, and may want several times the solution's 1.)
EXPONENTS = np.array([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 13, 16], np.float64)
UNFITTED = 1.0                     # the solution's, where nothing with a place can be fitted on


def fit(losses: np.ndarray, slopes: np.ndarray) -> float:
    """The exponent with the smallest loss.

    Args: float [EXPONENTS], the loss and its derivative at each, of any number of examples together; all 0: of none.
    """
    if not slopes.any():
        return UNFITTED
    curve = interpolate.CubicHermiteSpline(EXPONENTS, losses, slopes)
    found = optimize.minimize_scalar(curve, bounds=(EXPONENTS[0], EXPONENTS[-1]), method="bounded",
                                     options={"xatol": 1e-5})
    return float(found.x)


class Fitter:
    """Fits the exponent on predictions with labels; each prediction is read once, however often it is fitted on.

    Args:
      layer: what lies between a blend and the geo prior, such as Priors.correct.
      prior, table: of the predictions' classes and examples.
    """

    def __init__(self, layer: Callable, prior: prior_layers.PlacePrior, table: ExampleTable):
        self._layer, self._prior, self._table = layer, prior, table
        self._curves: dict[fusion.Blend, dict[int, np.ndarray]] = {}

    def on_all(self, blended: fusion.Blend) -> float:
        """The exponent fitted on every example that has a label and a place."""
        return fit(*sum(self._curves_of(blended).values()))

    def without(self, group: int, blended: fusion.Blend) -> float:
        """The exponent to score a group of ExampleTable.groups by: fitted on all others."""
        others = [curve for one, curve in self._curves_of(blended).items() if one != group]
        return fit(*sum(others, np.zeros((2, len(EXPONENTS)))))

    def _curves_of(self, blended: fusion.Blend) -> dict[int, np.ndarray]:
        if blended not in self._curves:
            self._curves[blended] = curves(self._layer(blended), self._prior, self._table)
        return self._curves[blended]


def curves(predicted, prior: prior_layers.PlacePrior, table: ExampleTable) -> dict[int, np.ndarray]:
    """For each group of ExampleTable.groups the log loss at EXPONENTS and its derivative: float64 [2, EXPONENTS].

    Both are added up over the group's examples that have a label and a place. `predicted` is without the geo prior.
    """
    labels, groups = table.label_indices(predicted.ids), table.groups(predicted.ids)
    found = {group: np.zeros((2, len(EXPONENTS))) for group in np.unique(groups).tolist()}
    with progress(len(predicted.ids), "fit the geo exponent", "pictures") as bar:
        for chunk in prior.beside(predicted.chunks(), table.places(predicted.ids)):
            labelled = labels[chunk.positions] >= 0
            positions = chunk.positions[labelled]
            both = _losses(chunk.logs[chunk.placed][labelled], chunk.place_logs[labelled], labels[positions])
            for group in np.unique(groups[positions]).tolist():
                found[group] += both[:, groups[positions] == group].sum(axis=1)
            bar.update(len(chunk.ids))
    return found


def _losses(logs: np.ndarray, place_logs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log loss at EXPONENTS and its derivative: float64 [2, n, EXPONENTS], of float32 [n, classes] twice and int [n].

    −log p is log Σ exp(a + t·g) − (a + t·g)[label]; its derivative is the mean of g under p, less g[label].
    """
    rows = np.arange(len(labels))
    both = np.empty((2, len(labels), len(EXPONENTS)))
    for index, exponent in enumerate(EXPONENTS.astype(np.float32)):
        fused = log_space.normalize(logs + exponent * place_logs)
        both[0, :, index] = -fused[rows, labels]
        both[1, :, index] = np.einsum("nc,nc->n", np.exp(fused), place_logs) - place_logs[rows, labels]
    return both
