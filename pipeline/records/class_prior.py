"""How frequent the classes are to a model: by their counts, and by what training shows and tells it of them.

Imports no TensorFlow, so that predictions are corrected without it.
"""

import numpy as np

from pipeline.errors import unknown

POWERS = {"none": 0.0, "sqrt": 0.5, "full": 1.0}  # of --class_balance: an example weighs n^(−power)


def prior_power(class_balance: str, logit_adjust: float) -> float:
    """What a model has learned of how frequent the classes are: it expects class c in proportion to n_c^power.

    An epoch shows n^(1 − POWERS[class_balance]), of which --logit_adjust=TAU leaves to the prior all but the share 1 − TAU.
    """
    if class_balance not in POWERS:
        raise unknown("class_balance", class_balance, POWERS)
    return (1 - POWERS[class_balance]) * (1 - logit_adjust)


def log_shares(counts: np.ndarray) -> np.ndarray:
    """float32 [classes], of float [classes], not all 0.

    A class without a picture counts as the smallest that has some: what was never seen says nothing about its frequency,
    and must not be raised above everything that was.
    """
    counts = np.maximum(counts, counts[counts > 0].min())
    return np.log(counts / counts.sum()).astype(np.float32)
