"""Logistic regression on features, of one label a picture or of several: the optimum of scikit-learn's, which
OneVsRestClassifier finds label by label, for all classes in one product of matrices.

Minimized as scikit-learn does it, by SciPy's L-BFGS: C · (sum of the log losses) + ½ · (sum of the squared weights); the
biases are free. NumPy alone computes here.
"""

import dataclasses
from typing import Callable, Mapping, Optional

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.special

from pipeline.tasks.task import SIGMOID, SOFTMAX

MOST_ITERATIONS = 1000
_CHUNK_VALUES = 1 << 23  # logits that stand in memory at a time


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    peak = logits.max(axis=1, keepdims=True)
    shares = np.exp(logits - peak)
    total = shares.sum(axis=1, keepdims=True)
    shares /= total
    return peak[:, 0] + np.log(total[:, 0]), shares


def _sigmoid(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.logaddexp(0, logits), scipy.special.expit(logits)


# By a task's activation: logits [n, classes] → (what, summed up, the log loss is less the logits of the labels that are
# there; its gradient [n, classes], the probabilities).
PARTITIONS: Mapping[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {SOFTMAX: _softmax, SIGMOID: _sigmoid}


@dataclasses.dataclass(frozen=True)
class Linear:
    """kernel [features, classes] and bias [classes] of logits."""

    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Of [n, features], in their dtype."""
        return features @ self.kernel.astype(features.dtype) + self.bias.astype(features.dtype)


def log_loss(linear: Linear, features: np.ndarray, targets: scipy.sparse.csr_matrix, activation: str) -> float:
    """The sum over pictures (and, of several labels, over these) of −log of what is given to the truth."""
    return sum(_loss(linear.logits(features[rows]), targets[rows].toarray(), activation)[0]
               for rows in _chunks(targets.shape))


def _loss(logits: np.ndarray, targets: np.ndarray, activation: str) -> tuple[float, np.ndarray]:
    """The log loss summed up, and its gradient by the logits."""
    partition, probabilities = PARTITIONS[activation](logits)
    return float(partition.sum(dtype=np.float64) - (logits * targets).sum(dtype=np.float64)), probabilities - targets


def _chunks(shape: tuple[int, int]) -> list[slice]:
    rows = max(_CHUNK_VALUES // shape[1], 1)
    return [slice(start, start + rows) for start in range(0, shape[0], rows)]


def varying(targets: scipy.sparse.csr_matrix, activation: str) -> np.ndarray:
    """bool [classes]: of which there is something to learn. A class without a picture has nothing; nor has, of several
    labels, one that every picture has."""
    counts = np.asarray(targets.sum(axis=0)).ravel()
    return (counts > 0) & ((counts < targets.shape[0]) | (activation == SOFTMAX))


def fit(features: np.ndarray, targets: scipy.sparse.csr_matrix, activation: str, strength: float, tolerance: float,
        start: Optional[Linear] = None) -> Linear:
    """The classifier.

    A class of which there is nothing to learn (see `varying`) gets a kernel of 0 and the bias that makes it as likely as if
    half a picture among all had spoken otherwise.

    Args:
      features: [n, features]; products are computed in its dtype.
      targets: [n, classes] of the same dtype, 1 at each label.
      activation: SOFTMAX, one label a picture, or SIGMOID.
      strength: scikit-learn's C.
      tolerance: the search ends where no component of the gradient is above this share of its largest one at zero.
      start: where it begins, of the same classes; None: at zero.
    """
    chosen = np.flatnonzero(varying(targets, activation))
    kernel, bias = np.zeros((features.shape[1], targets.shape[1])), np.zeros(targets.shape[1])
    if start is not None:
        kernel[:], bias[:] = start.kernel, start.bias
    if len(chosen) > (activation == SOFTMAX):  # one class alone has nothing to be told from
        objective = _Objective(features, targets[:, chosen], activation, strength)
        first = np.concatenate([kernel[:, chosen], bias[np.newaxis, chosen]]).ravel()
        limit = tolerance * np.abs(objective(np.zeros_like(first))[1]).max()
        # SciPy's other limit, of the objective's own change, is below what float32 can tell: the gradient's ends it.
        found = scipy.optimize.minimize(objective, first, jac=True, method="L-BFGS-B", options={
            "gtol": limit, "ftol": np.finfo(np.float64).eps, "maxiter": MOST_ITERATIONS, "maxls": 50}).x
        kernel[:, chosen], bias[chosen] = np.split(found.reshape(-1, len(chosen)), [-1])
    rest = np.setdiff1d(np.arange(targets.shape[1]), chosen)
    kernel[:, rest] = 0
    bias[rest] = _of_half_a_picture(Linear(kernel[:, chosen], bias[chosen]), features, targets[:, rest], activation)
    return Linear(kernel, bias)


def _of_half_a_picture(linear: Linear, features: np.ndarray, targets: scipy.sparse.csr_matrix,
                       activation: str) -> np.ndarray:
    """The biases of classes whose kernels are 0."""
    count = features.shape[0]
    if activation == SIGMOID:
        there = np.asarray(targets.sum(axis=0)).ravel() > 0
        return np.where(there, 1, -1) * np.log(2 * count + 1)
    if not targets.shape[1]:
        return np.zeros(0)
    means = [PARTITIONS[activation](linear.logits(features[rows]))[0] for rows in _chunks((count, len(linear.bias)))]
    return np.full(targets.shape[1], np.concatenate(means).mean() - np.log(2 * count))


class _Objective:
    """Value and gradient at a vector (kernel and bias, class by class in the last axis), as scipy.optimize asks for them."""

    def __init__(self, features: np.ndarray, targets: scipy.sparse.csr_matrix, activation: str, strength: float):
        self._features, self._targets, self._activation = features, targets, activation
        # Of two classes scikit-learn has one vector of weights w; here they are w/2 and −w/2, half as large in all.
        halved = activation == SOFTMAX and targets.shape[1] == 2
        self._decay = (2 if halved else 1) / (strength * features.shape[0])

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, self._targets.shape[1])
        gradient, loss = np.zeros_like(weights), 0.0
        linear = Linear(weights[:-1], weights[-1])
        for rows in _chunks(self._targets.shape):
            features = self._features[rows]
            some, residual = _loss(linear.logits(features), self._targets[rows].toarray(), self._activation)
            loss += some
            gradient[:-1] += features.T @ residual
            gradient[-1] += residual.sum(axis=0, dtype=np.float64)
        gradient /= len(self._features)
        gradient[:-1] += self._decay * weights[:-1]
        return loss / len(self._features) + 0.5 * self._decay * np.square(weights[:-1]).sum(), gradient.ravel()
