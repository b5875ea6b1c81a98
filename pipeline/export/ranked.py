"""From log-probabilities to the answers that a served model gives: the best classes by the open set's rule, or the labels
that reach the threshold. The rules are those of answers.open_set and metrics.multi_label, as graph."""

import dataclasses
import math
from typing import Optional, Sequence

import numpy as np
import tensorflow as tf

from pipeline.answers import open_set, open_set_rules
from pipeline.export.description import UNKNOWN
from pipeline.metrics import multi_label

BEST = 5  # answers of a picture that has one label


@dataclasses.dataclass(frozen=True)
class Ranked:
    """Float32 log-probabilities [n, classes] → answers, best first; of equals the lower class index.

    Attributes:
      ids, names: texts, of each class, and at the end of the answer for what is none of the known.
      known: bool [classes], which may be answered as themselves.
      rule: as answers.open_set_rules reads it.
      threshold: where a picture has several labels, the least probability of an answer; None: it has one.
      allowed: bool [classes], which labels may be answered there.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    known: np.ndarray
    rule: str
    threshold: Optional[float] = None
    allowed: Optional[np.ndarray] = None

    def with_individuals(self, names: Sequence[str]) -> "Ranked":
        """With classes behind the others that may be answered as themselves."""
        ids, texts = ((*some[:-1], *names, some[-1]) for some in (self.ids, self.names))
        return dataclasses.replace(self, ids=ids, names=texts, known=np.append(self.known, np.ones(len(names), bool)))

    @property
    def answers(self) -> int:
        """How many are given of each picture."""
        possible = open_set.count_answers(self.known, self.rule)
        return min(BEST if self.threshold is None else multi_label.MOST, possible)

    def __call__(self, logs: tf.Tensor) -> dict[str, tf.Tensor]:
        """{'classes': int32 [n, answers], UNKNOWN for none of the known, 'scores': float32 [n, answers], probabilities
        (of UNKNOWN what its rule gives it, 1 at most), 'ids', 'names': string [n, answers]}; with several labels 'answered'
        too: bool [n, answers]."""
        if self.threshold is None:
            candidates, sources = self._one_label(logs)
        else:
            candidates, sources = tf.where(self.allowed, logs, -np.inf), np.arange(len(self.known))
        best, positions = tf.math.top_k(candidates, self.answers)
        chosen = tf.gather(tf.constant(sources, tf.int32), positions)
        texts = tf.where(chosen == UNKNOWN, len(self.known), chosen)
        scores = tf.minimum(tf.exp(best), 1.0)
        found = {"classes": chosen, "scores": scores, "ids": tf.gather(tf.constant(self.ids), texts),
                 "names": tf.gather(tf.constant(self.names), texts)}
        if self.threshold is not None:
            reached = (scores >= self.threshold) & (scores > 0)
            found["answered"] = reached | (tf.range(self.answers) < multi_label.LEAST)
        return found

    def _one_label(self, logs: tf.Tensor) -> tuple[tf.Tensor, np.ndarray]:
        """(scores of what may be answered, −inf for what may not [n, candidates]; the class index of each, or UNKNOWN)."""
        inside = tf.where(self.known, logs, -np.inf)
        rule = open_set_rules.parse(self.rule)
        if self.known.all() and rule.name != open_set_rules.THRESHOLD:
            return inside, np.arange(len(self.known))
        outside = tf.where(self.known, -np.inf, logs)
        if rule.name != open_set_rules.FIRST:  # of equals unknown comes last
            score = tf.reduce_logsumexp(outside, axis=1, keepdims=True) if rule.name == open_set_rules.SUM else (
                tf.zeros_like(logs[:, :1]))
            score += np.float32(math.log(rule.parameter))
            return tf.concat([inside, score], axis=1), np.append(np.arange(len(self.known)), UNKNOWN)
        best = tf.one_hot(tf.argmax(outside, axis=1), len(self.known), True, False, dtype=tf.bool)
        return tf.where(best, outside, inside), np.where(self.known, np.arange(len(self.known)), UNKNOWN)
