"""Groups divided with each class's share in every part, in memory of the labels alone."""

import resource
import time

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from dataset_tools import folds, stratified_groups


def unevenness(parts, labels, count):
    """Mean over the classes of the standard deviation of their shares over the parts."""
    table = np.zeros((count, labels.max() + 1))
    np.add.at(table, (parts, labels), 1)
    return (table / table.sum(axis=0)).std(axis=0).mean()


@pytest.mark.parametrize("seed", range(5))
def test_as_even_as_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 8, 2000), np.unique(rng.integers(0, 150, 2000), return_inverse=True)[1]
    theirs = np.empty(2000, np.int64)
    for part, (_, held_out) in enumerate(StratifiedGroupKFold(5).split(labels, labels, groups)):
        theirs[held_out] = part
    ours = stratified_groups.divide(labels[:, np.newaxis], groups, np.full(5, 0.2), seed)[groups]
    assert unevenness(ours, labels, 5) < unevenness(theirs, labels, 5) + 0.002
    assert np.ptp(np.bincount(ours)) <= np.ptp(np.bincount(theirs)) + 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), min_size=40, max_size=120), st.integers(2, 5), st.booleans())
def test_a_group_is_in_one_fold(pairs, count, several):
    labels = [[label, 6 + label % 2] if several else [label] for label, _ in pairs]
    groups = [f"g{group}" if group else "" for _, group in pairs]
    if len(set(groups) - {""}) + groups.count("") < 10 * count:
        groups = ["" if position % 2 else one for position, one in enumerate(groups)]
    found = folds.assign(labels, np.arange(len(pairs)), count, 1, groups, several)
    for group in set(groups) - {""}:
        assert len({fold for fold, one in zip(found, groups) if one == group}) == 1


def test_shares_that_differ():
    labels, groups = np.arange(3000) % 3, np.arange(3000) // 3
    parts = stratified_groups.divide(labels[:, np.newaxis], groups, np.array([0.1, 0.9]), 0)[groups]
    assert [int((labels[parts == 0] == one).sum()) for one in range(3)] == [100] * 3


@pytest.mark.slow
def test_two_hundred_thousand_rows_of_twenty_thousand_groups():
    rng = np.random.default_rng(0)
    labels = np.minimum(rng.zipf(1.3, 200_000) - 1, 9_999)[:, np.newaxis].tolist()
    groups = [f"g{one}" for one in rng.integers(0, 20_000, 200_000)]
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    found = folds.assign(labels, np.arange(200_000), 5, 0, groups)
    assert time.monotonic() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000  # kB
    assert np.bincount(found).min() > 39_000
