"""Blend weights where a picture has several labels: those with the smallest binary log loss, as blend.fit finds them.

What a blend gives to the truth of one (picture, label) pair, p where the picture has the label and 1 − p where not, is
the blend of what its members give to it: so each pair is an example to blend.fit.
"""

from typing import Mapping, Sequence

import numpy as np

from pipeline.answers import blend, fusion, predictions

MOST_VALUES = 20_000_000  # pairs × members that are looked at; of more pictures every second, third, … one is taken


def fit(members: Sequence[predictions.Predictions], labels: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Weights [members], sum 1; labels: class indices by id."""
    _, truth = truth_probabilities(members, labels)
    return blend.fit(truth.reshape(-1, len(members)))


def cross_fit(members: Sequence[predictions.Predictions], labels: Mapping[str, Sequence[int]],
              groups: np.ndarray) -> np.ndarray:
    """Weights [examples, members] for scoring: each example's were fitted without its group (int [examples])."""
    positions, truth = truth_probabilities(members, labels)
    weights = np.empty((len(groups), len(members)))
    for group in np.unique(groups):
        others = truth[groups[positions] != group]
        weights[groups == group] = blend.fit(others.reshape(-1, len(members)))
    return weights


def truth_probabilities(members: Sequence[predictions.Predictions], labels: Mapping[str, Sequence[int]],
                        ) -> tuple[np.ndarray, np.ndarray]:
    """(positions of the pictures among the first member's ids: int [n], what each member gives to the truth of their
    pairs: float64 [n, classes, members]). Pictures and classes are aligned by name."""
    ids = members[0].ids
    known = np.array([position for position, one in enumerate(ids) if one in labels])
    step = -(-len(known) * members[0].shape[1] * len(members) // MOST_VALUES)
    positions = known[::step]
    has_label = np.zeros((len(positions), members[0].shape[1]), bool)
    for row, position in zip(has_label, positions):
        row[list(labels[ids[position]])] = True
    truth = np.empty((*has_label.shape, len(members)))
    for index, member in enumerate(members):
        aligned = fusion.Blend([members[0], member], np.array([0.0, 1.0]))  # in the order of the first one's ids
        start = 0
        for chunk_ids, log_probabilities in aligned.chunks():
            chosen = np.flatnonzero((positions >= start) & (positions < start + len(chunk_ids)))
            probabilities = np.exp(log_probabilities[positions[chosen] - start].astype(np.float64))
            truth[chosen, :, index] = np.where(has_label[chosen], probabilities, 1.0 - probabilities)
            start += len(chunk_ids)
    return positions, truth
