"""95 % bootstrap intervals of means over pictures (top-1, F2), and of how much a step gains."""

import numpy as np

RESAMPLES = 1000
SEED = 0  # of the resampling alone: the same scores have the same intervals
PERCENTILES = (2.5, 97.5)


def resampled_means(values: np.ndarray) -> np.ndarray:
    """Means of RESAMPLES bootstrap samples over the examples: float64 [RESAMPLES, lines].

    All lines see the same samples, so that their differences are paired. Which examples have which values in which lines is
    all that counts; so the numbers of each such pattern are drawn, which is the same as drawing the examples one by one.

    Args: values: bool or float [lines, examples], at least one example.
    """
    patterns, counts = np.unique(values, axis=1, return_counts=True)
    drawn = np.random.default_rng(SEED).multinomial(counts.sum(), counts / counts.sum(), size=RESAMPLES)
    return drawn @ patterns.T.astype(np.float64) / counts.sum()


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """(low, high): the percentile bootstrap's 95 % interval, of float [RESAMPLES]."""
    low, high = np.percentile(resampled, PERCENTILES)
    return float(low), float(high)
