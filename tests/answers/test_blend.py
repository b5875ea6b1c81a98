"""Blend weights against a grid search and by hand."""

import numpy as np
import pytest

from pipeline.answers import blend, fusion, predictions
from pipeline.errors import UserError
from pipeline.tasks import registry as tasks


def log_loss(weights, label_probabilities):
    return -np.log(label_probabilities @ weights).mean()


@pytest.mark.parametrize("seed", range(4))
def test_fitted_weights_are_no_worse_than_a_grid(seed):
    rng = np.random.default_rng(seed)
    label_probabilities = rng.beta([2, 4, 1], [1, 2, 3], (400, 3))
    weights = blend.fit(label_probabilities)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    grid = [np.array([a, b, 20 - a - b]) / 20 for a in range(21) for b in range(21 - a)]
    assert log_loss(weights, label_probabilities) <= min(log_loss(one, label_probabilities) for one in grid) + 1e-6


def test_a_member_that_knows_nothing_gets_nothing():
    rng = np.random.default_rng(0)
    good = rng.uniform(0.6, 1.0, 300)
    assert blend.fit(np.stack([good, np.full(300, 0.01)], axis=1)) == pytest.approx([1, 0], abs=1e-6)


def test_cross_fitting_never_looks_at_its_own_group():
    rng = np.random.default_rng(1)
    label_probabilities = rng.uniform(0.05, 1, (90, 2))
    groups = np.arange(90) % 3
    before = blend.cross_fit(label_probabilities, groups)
    changed = label_probabilities.copy()
    changed[groups == 1] = rng.uniform(0.05, 1, (30, 2))
    after = blend.cross_fit(changed, groups)
    np.testing.assert_array_equal(before[1], after[1])
    assert (before[0] != after[0]).any()
    weights = blend.ScoringWeights(np.ones(2), groups, before)
    assert weights.by_example(before).tolist() == [before[group].tolist() for group in groups]


@pytest.mark.parametrize("text, weights", [("equal", [0.5, 0.5]), ("2:1", [2 / 3, 1 / 3]), ("0:5", [0, 1])])
def test_given_weights(text, weights):
    np.testing.assert_allclose(blend.parse(text, 2), weights)


@pytest.mark.parametrize("text", ["2:1:1", "two:one", "-1:2", "0:0", "nan:1", ""])
def test_weights_that_are_none(text):
    with pytest.raises(UserError, match="--blend"):
        blend.parse(text, 2)


def test_blended_predictions_equal_numpy(tmp_path):
    rng = np.random.default_rng(2)
    members = []
    for index in range(2):
        matrix = rng.dirichlet(np.ones(4), 6)
        predictions.write(str(tmp_path / str(index)), [(list("abcdef"), np.log(matrix))],
                          {"examples": 6, "class_ids": list("wxyz"), "split": "val"})
        members.append(matrix)
    opened = fusion.find([str(tmp_path / "*")])
    (_, logs), = fusion.Blend(opened, np.array([0.25, 0.75])).chunks()
    np.testing.assert_allclose(np.exp(logs), 0.25 * members[0] + 0.75 * members[1], rtol=3e-3)
    (_, logs), = fusion.Blend(opened, np.array([0.0, 1.0])).chunks()
    np.testing.assert_allclose(np.exp(logs), members[1], rtol=3e-3)
    labels = np.array([0, 1, 2, 3, 0, 1])
    np.testing.assert_allclose(fusion.Blend(opened).truth_probabilities(labels[:, np.newaxis], tasks.SINGLE_LABEL)[:, 0],
                               np.stack([one[np.arange(6), labels] for one in members], axis=1), rtol=2e-3)
