"""The linear probe: logistic regression on features that stand still, with its regularization found by cross-validation."""

import dataclasses
from typing import Mapping

from absl import logging
import numpy as np
import scipy.sparse
import threadpoolctl

from pipeline import preemption
from pipeline.training import logistic
from pipeline.training.logistic import Linear

# scikit-learn's C, of features of mean 0 and deviation 1; from the strongest regularization on, where each begins with the
# weights of the one before.
GRID = tuple(10.0 ** (exponent / 2) for exponent in range(-10, 5))
UNTOLD = 0.01       # where nothing can be held out, as no class has two pictures that may stand apart
# Pictures × features × classes below which one thread computes: in a short product, threads that wait for one another on cores
# that others use too cost minutes.
_FOR_ONE_THREAD = 1 << 28
_PATIENCE = 2       # so many worse ones in a row, and those beyond are not tried
_SEARCHING, _FINAL = 3e-3, 1e-5  # tolerances of logistic.fit


@dataclasses.dataclass(frozen=True)
class Probe:
    """What was fitted.

    Attributes:
      linear: of the features as they are.
      strength: C.
      losses: by C, of those that were tried, the mean log loss of the pictures of each part of the cross-validation, by a fit
        to the others.
      loss: the mean log loss where it was fitted.
    """

    linear: Linear
    strength: float
    losses: Mapping[float, float]
    loss: float


def fit(features: np.ndarray, targets: scipy.sparse.csr_matrix, parts: np.ndarray, activation: str) -> Probe:
    """The probe of pictures that are trained on.

    Args:
      features: float32 [n, features].
      targets: float32 [n, classes], 1 at each label.
      parts: int [n], the part of the cross-validation that each picture belongs to; all alike: there is none.
      activation: the task's.
    """
    threads = 1 if features.size * targets.shape[1] < _FOR_ONE_THREAD else None  # None: as many as there are
    with threadpoolctl.threadpool_limits(threads, "blas"):
        return _fit(features, targets, parts, activation)


def _fit(features: np.ndarray, targets: scipy.sparse.csr_matrix, parts: np.ndarray, activation: str) -> Probe:
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = features.std(axis=0, dtype=np.float64)
    # What is the same in all pictures (but for float32's last digits) tells nothing.
    deviation[deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)] = np.inf
    standard = (features - mean.astype(np.float32)) / deviation.astype(np.float32)
    losses = _cross_validated(standard, targets, parts, activation)
    strength = min(losses, key=losses.__getitem__) if losses else UNTOLD
    logging.info("probe of %d pictures, %d features: C = %.3g%s", *features.shape, strength,
                 f", log loss {losses[strength]:.4f} by cross-validation" if losses else "; too few to cross-validate")
    exact, wanted = standard.astype(np.float64), targets.astype(np.float64)
    linear = logistic.fit(exact, wanted, activation, strength, _FINAL)
    loss = logistic.log_loss(linear, exact, wanted, activation) / len(features)
    kernel = linear.kernel / deviation[:, np.newaxis]
    return Probe(Linear(kernel, linear.bias - mean @ kernel), strength, losses, loss)


def _cross_validated(features: np.ndarray, targets: scipy.sparse.csr_matrix, parts: np.ndarray,
                     activation: str) -> dict[float, float]:
    """By C, the mean log loss of what is held out, up to where it only grows; empty where nothing can be held out."""
    folds = [_Fold(features, targets, parts == part, activation) for part in np.unique(parts)]
    count = sum(fold.count for fold in folds)
    losses: dict[float, float] = {}
    if len(folds) < 2 or not count:
        return losses
    for strength in GRID:
        losses[strength] = sum(fold.loss(strength) for fold in folds) / count
        tried = list(losses.values())
        if len(tried) - 1 - int(np.argmin(tried)) >= _PATIENCE:
            break
    return losses


class _Fold:
    """A part that is held out, and the weights that the others gave last. (Rows are taken out anew each time: a fold's own
    copy of the features may be gigabytes.)"""

    def __init__(self, features: np.ndarray, targets: scipy.sparse.csr_matrix, held_out: np.ndarray, activation: str):
        self._features, self._targets, self._activation = features, targets, activation
        self._trained, self._held_out = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        known = logistic.varying(targets[self._trained], activation)
        if activation == logistic.SOFTMAX:  # what the others have no picture of says nothing about C
            self._held_out = self._held_out[np.asarray(targets[self._held_out][:, known].sum(axis=1)).ravel() > 0]
        self.count = len(self._held_out)
        self._linear = None

    def loss(self, strength: float) -> float:
        preemption.check()
        trained, held_out = self._trained, self._held_out
        self._linear = logistic.fit(self._features[trained], self._targets[trained], self._activation, strength, _SEARCHING,
                                    self._linear)
        return logistic.log_loss(self._linear, self._features[held_out], self._targets[held_out], self._activation)
