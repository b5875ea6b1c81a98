"""Sums of probabilities that are kept as logarithms, by NumPy functions that run at the speed of the cache."""

import numpy as np

# The largest logarithm of a probability below 1 that float16, as predictions lie on disk, can tell from 0.
BELOW_CERTAIN = -2.0 ** -24


def rank_classes(logs: np.ndarray) -> np.ndarray:
    """Whether each row [n, classes] holds numbers that rank its classes: bool [n].

    No NaN and no +inf among them, but −inf for what can't be the answer, unless nothing is left then.
    """
    return np.isfinite(logs.max(axis=1))  # where there is a NaN, it is the maximum


def add(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """log(exp(one) + exp(other)), elementwise, of finite float arrays of one shape; both are overwritten.

    max + log(1 + exp(min − max)) as np.logaddexp has it, but through exp and log, which NumPy vectorizes: several times
    as fast. What log1p would add in precision is less than the rounding of float32 to 1 + x, 6e-8 of a probability.
    """
    high = np.maximum(one, other)
    low = np.minimum(one, other, out=one)
    low -= high
    np.exp(low, out=other)
    other += 1
    np.log(other, out=other)
    other += high
    return other


def normalizers(logs: np.ndarray) -> np.ndarray:
    """log Σ exp of each row: float [n, classes] → [n, 1] of its dtype; a row has a finite value."""
    high = logs.max(axis=1, keepdims=True)
    return high + np.log(np.exp(logs - high).sum(axis=1, keepdims=True))


def normalize(logs: np.ndarray) -> np.ndarray:
    """Rows [n, classes] shifted so that their probabilities sum to 1."""
    shifted = logs - logs.max(axis=1, keepdims=True)  # before the sum, which would be rounded away beside −60,000
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def log_rest(logs: np.ndarray) -> np.ndarray:
    """log(1 − p) of logarithms of p, elementwise; finite, since what is rounded to 1 is taken for BELOW_CERTAIN."""
    return np.log(-np.expm1(np.minimum(logs, logs.dtype.type(BELOW_CERTAIN))))
