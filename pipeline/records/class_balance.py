"""--class_balance: how often an epoch shows each example, so that rare classes stand in it more often.

An example weighs n^(−power), n the number of examples of its class: power 0.5 (sqrt) shows a class in proportion to √n
(Mahajan et al. 2018), 1 (full) every class equally often (both in Kang et al. 2020, "Decoupling representation and
classifier for long-tailed recognition"). An epoch has as many pictures as without it.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from pipeline.ops import seeds
from pipeline.records.class_prior import POWERS
from pipeline.records.dataset import Part


@dataclasses.dataclass(frozen=True)
class ClassBalance:
    """The N examples of a part, class after class, on a line of length N: each takes its weight of it.

    Systematic sampling (Madow & Madow 1944): marks at distance 1 are laid along the line, beginning anywhere, and an
    example is copied once for every mark on it. So there are always exactly N copies, which keeps the arithmetic of a
    resumed epoch; a class is met as often as it should be to within one, an example of weight w ⌊w⌋ or ⌈w⌉ times.
    """

    labels: tf.Tensor    # float64 [N], ascending class indices
    rows: tf.Tensor      # int64 [N], of the same examples, less first_row
    bounds: tf.Tensor    # float64 [N + 1], ascending from 0 to N: where each example begins, and the end
    first_row: int
    last_row: int

    def copies(self, seed: tf.Tensor) -> tf.Tensor:
        """int32 [last_row − first_row + 1], N in all: how often an epoch shows each row from first_row on.

        `seed` is the epoch's, int [2]. Each epoch puts the examples of a class in another order along the line;
        otherwise the same ones would always be drawn together.
        """
        order_seed, start_seed = seeds.split(seed, 2)
        order = tf.argsort(self.labels + tf.random.stateless_uniform(self.labels.shape, order_seed, dtype=tf.float64))
        # A float32 has 24 bits: N + start is exact in float64 and below N + 1, so that there are N marks.
        start = tf.cast(tf.random.stateless_uniform([], start_seed), tf.float64)
        marks = tf.cast(tf.floor(self.bounds + start), tf.int32)
        return tf.scatter_nd(tf.gather(self.rows, order)[:, tf.newaxis], marks[1:] - marks[:-1],
                             [self.last_row - self.first_row + 1])


def make(part: Part, kind: str) -> ClassBalance:
    """The balance of a part whose examples have one label each; `kind` is a key of POWERS."""
    rows, labels = part.single_labels()
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    bounds = _bounds(counts[counts > 0], 1 - POWERS[kind])
    first_row = int(rows.min())
    return ClassBalance(tf.constant(labels[order], tf.float64), tf.constant(rows[order] - first_row),
                        tf.constant(bounds), first_row, int(rows.max()))


def _bounds(counts: np.ndarray, power: float) -> np.ndarray:
    """float64 [N + 1], N = Σ counts: each class takes of N in proportion to count^power, evenly for its examples."""
    shares = counts ** power
    ends = np.cumsum(shares) * (counts.sum() / shares.sum())
    ends[-1] = counts.sum()  # exactly
    begins = [0.0, *ends[:-1]]
    parts = [np.linspace(begin, end, count, endpoint=False) for begin, end, count in zip(begins, ends, counts)]
    return np.concatenate([*parts, ends[-1:]])


def log_prior(part: Part, classes: int, kind: str) -> np.ndarray:
    """float32 [classes]: the logarithm of each class's share of an epoch under --class_balance=`kind`.

    A class without an example counts as if it had one, so that its logarithm is finite.
    """
    _, labels = part.single_labels()
    shares = np.maximum(np.bincount(labels, minlength=classes), 1) ** (1 - POWERS[kind])
    return np.log(shares / shares.sum()).astype(np.float32)
