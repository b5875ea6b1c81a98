"""The long-tail table: top-1 for classes with many, a medium number of, and few pictures in train.

The division is that of Liu et al. 2019 (Large-Scale Long-Tailed Recognition in an Open World).
"""

import math
from typing import Any, Mapping

import numpy as np
import pandas as pd

GROUPS = (  # name, least and most train pictures of a class
    ("many-shot (> 100)", 101, math.inf),
    ("medium-shot (20 to 100)", 20, 100),
    ("few-shot (< 20)", 0, 19),
)


def top1_by_group(hits: Mapping[str, np.ndarray], labels: np.ndarray,
                  train_counts: np.ndarray) -> dict[str, dict[str, Any]]:
    """For each group that has examples: classes and examples (their numbers), and top1 by line.

    Args:
      hits: by line, bool [examples].
      labels: int [examples], class indices.
      train_counts: int [classes].
    """
    found = {}
    for name, least, most in GROUPS:
        counts = train_counts[labels]
        inside = (least <= counts) & (counts <= most)
        if inside.any():
            found[name] = {"classes": len(np.unique(labels[inside])), "examples": int(inside.sum()),
                           "top1": {line: float(one[inside].mean()) for line, one in hits.items()}}
    return found


def frame(found: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table for people, a row each group."""
    return pd.DataFrame.from_dict(
        {name: {"classes": one["classes"], "examples": one["examples"], **one["top1"]} for name, one in found.items()},
        orient="index").astype({"classes": int, "examples": int})
