"""Open-set answers and MAP@k against brute force that follows the rules word by word."""

import math
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.answers import open_set, open_set_rules
from pipeline.metrics import single_label as metrics


def by_first(row, known, answers):
    """Probability order over all classes; outsiders read as unknown; repeats skipped."""
    found = []
    for index in sorted(range(len(row)), key=lambda i: (-row[i], i)):
        answer = index if known[index] else open_set.UNKNOWN
        if answer not in found:
            found.append(answer)
    return found[:answers]


def by_sum(row, known, answers):
    """Every known class with its probability, unknown with the sum of the others'; unknown last among equals."""
    outside = [math.exp(value) for value, inside in zip(row, known) if not inside]
    scores = [(math.exp(value), -index, index) for index, value in enumerate(row) if known[index]]
    if outside:
        scores.append((math.fsum(outside), -math.inf, open_set.UNKNOWN))
    return [answer for *_, answer in sorted(scores, key=lambda one: (-one[0], -one[1]))][:answers]


def by_threshold(row, known, answers, threshold):
    """Known classes above the threshold, unknown, the other known ones."""
    inside = sorted((index for index in range(len(row)) if known[index]), key=lambda index: (-row[index], index))
    above = sum(row[index] >= math.log(threshold) for index in inside)
    return [*inside[:above], open_set.UNKNOWN, *inside[above:]][:answers]


@st.composite
def cases(draw, values):
    """(matrix, known, answers); few distinct values, so that there are ties."""
    classes = draw(st.integers(1, 9))
    matrix = draw(arrays.arrays(np.float32, (draw(st.integers(1, 6)), classes), elements=st.sampled_from(values)))
    known = draw(arrays.arrays(bool, classes).filter(np.any))
    possible = open_set.count_answers(known)
    return matrix, known, draw(st.integers(1, possible))


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(cases([-math.inf, -20.5, -3.0, -2.0, -1.5, -1.0, 0.0]))
def test_first_agrees_with_brute_force(case):
    matrix, known, answers = case
    found = open_set.rank(matrix, known, answers, "first")
    assert found.tolist() == [by_first(row, known, answers) for row in matrix.tolist()]


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(cases([-math.inf, 0.0]), cases([-9.0, -3.0, -2.5, -1.25, -1.0, -0.375]))
def test_sum_agrees_with_brute_force(with_exact_ties, case):
    # exp of the first kind is 0 or 1, so that sums are exact and ties are; those of the second kind never tie
    # with a sum of several.
    for matrix, known, answers in (with_exact_ties, case):
        found = open_set.rank(matrix, known, answers, "sum")
        assert found.tolist() == [by_sum(row, known, answers) for row in matrix.tolist()]


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(cases([-math.inf, -3.0, -2.0, -1.5, -1.0, -0.25, 0.0]), st.sampled_from([0.05, 0.2, math.exp(-1.0), 0.9]))
def test_a_threshold_agrees_with_brute_force(case, threshold):
    matrix, known, answers = case
    rule = open_set_rules.Rule("threshold", threshold)
    for most in (answers, open_set.count_answers(known, rule)):  # where all are known, unknown is one more
        found = open_set.rank(matrix, known, most, rule)
        assert found.tolist() == [by_threshold(row, known, most, threshold) for row in matrix.tolist()]


@hypothesis.given(cases([-9.0, -3.0, -2.5, -1.25, -1.0, -0.375]))
def test_a_factor_of_the_sum_is_a_shift_of_the_outside_classes(case):
    matrix, known, answers = case
    shifted = np.where(known, matrix, matrix + np.log(2.5)).astype(np.float64)
    expected = open_set.rank(shifted, known, answers, "sum")
    assert np.array_equal(open_set.rank(matrix.astype(np.float64), known, answers, "sum:2.5"), expected)


def test_sum_is_stable_where_probabilities_underflow():
    log_probabilities = np.array([[-1000.0, -1000.5, -1000.5, -1002.0]], np.float32)
    known = np.array([True, False, False, True])
    # exp(-1000) is 0 in any float; two outsiders of exp(-0.5) each are more than one.
    assert open_set.rank(log_probabilities, known, 3, "sum").tolist() == [[open_set.UNKNOWN, 0, 3]]
    assert open_set.rank(log_probabilities, known, 3, "first").tolist() == [[0, open_set.UNKNOWN, 3]]


@pytest.mark.parametrize("rule", open_set.RULES)
def test_all_known_is_the_plain_order(rule):
    matrix = np.random.default_rng(0).integers(0, 9, (50, 30)).astype(np.float16)
    expected = np.argsort(-matrix, axis=1, kind="stable")[:, :5]
    assert np.array_equal(open_set.rank(matrix, np.ones(30, bool), 5, rule), expected)


@pytest.mark.parametrize("rule", open_set.RULES)
def test_the_competitions_size_goes_in_seconds(rule):
    rng = np.random.default_rng(0)
    matrix, known = rng.normal(size=(4096, 2265)).astype(np.float32), rng.permutation(2265) < 100
    start = time.perf_counter()
    found = open_set.rank(matrix, known, 5, rule)
    assert found.shape == (4096, 5) and time.perf_counter() - start < 5  # 0.2 s; a loop over rows would take more
    assert all(len(set(row)) == 5 for row in found.tolist())


def test_impossible_requests():
    with pytest.raises(ValueError, match="3 answers of 2"):
        open_set.rank(np.zeros((1, 4)), np.array([True, False, False, False]), 3, "first")
    with pytest.raises(ValueError, match="no class"):
        open_set.rank(np.zeros((1, 2)), np.array([False, False]), 1, "first")
    with pytest.raises(ValueError, match="last"):
        open_set.rank(np.zeros((1, 2)), np.array([True, False]), 1, "last")


@hypothesis.given(st.lists(st.tuples(st.integers(-1, 4), st.lists(st.integers(-1, 4), min_size=3, max_size=3)),
                           min_size=1, max_size=8))
def test_mean_average_precision_agrees_with_brute_force(rows):
    expected = [1 / (answers.index(truth) + 1) if truth in answers else 0.0 for truth, answers in rows]
    truth, answers = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert metrics.mean_average_precision(truth, answers) == pytest.approx(math.fsum(expected) / len(rows))
