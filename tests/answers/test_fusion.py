"""The blend's mean of probabilities against NumPy's logaddexp in float64, on whatever numbers come."""

import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.answers import fusion, predictions
from pipeline.answers.mixture import Mixture
from pipeline.metrics import log_space

# Logarithms from a certain answer down to what float16 can just hold.
LOGS = st.floats(-60_000, 0, width=16)


def write(directory, ids, class_ids, logs):
    predictions.write(str(directory), [(ids, logs.astype(np.float32))],
                      {"examples": len(ids), "class_ids": class_ids, "split": "test"})
    return predictions.Predictions(str(directory))


def whole(blended):
    """All chunks of a prediction as one array."""
    return np.concatenate([logs for _, logs in blended.chunks()])


@st.composite
def blends(draw):
    """(log-probabilities [members, examples, classes], weights [examples, members], the second member's permutations)."""
    members, examples, classes = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    logs = draw(arrays.arrays(np.float16, (members, examples, classes), elements=LOGS))
    weights = draw(arrays.arrays(np.float64, (examples, members), elements=st.sampled_from([0.0, 0.25, 1.0, 3.0])))
    weights[weights.sum(axis=1) == 0] = 1.0
    rows, columns = draw(st.permutations(range(examples))), draw(st.permutations(range(classes)))
    return logs, weights / weights.sum(axis=1, keepdims=True), rows, columns


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(blends())
def test_a_blend_is_the_mean_of_the_probabilities(tmp_path_factory, case):
    logs, weights, rows, columns = case
    members, examples, classes = logs.shape
    ids, class_ids = [f"é{index}" for index in range(examples)], [str(index) for index in range(classes)]
    folder = tmp_path_factory.mktemp("blend")
    opened = [write(folder / "0", ids, class_ids, logs[0])]
    for index in range(1, members):  # in another order each
        opened.append(write(folder / str(index), [ids[row] for row in rows], [class_ids[column] for column in columns],
                            logs[index][rows][:, columns]))
    with np.errstate(divide="ignore"):  # the log of a weight of 0
        expected = np.logaddexp.reduce(logs.astype(np.float64) + np.log(weights.T)[:, :, np.newaxis], axis=0)
    np.testing.assert_allclose(whole(fusion.Blend(opened, Mixture(weights))), expected, rtol=3e-7, atol=1e-6)


@hypothesis.given(st.lists(st.tuples(LOGS, LOGS), min_size=1, max_size=30))
def test_sums_in_log_space(pairs):
    one, other = np.array(pairs, np.float32).T.copy()
    expected = np.logaddexp(one.astype(np.float64), other.astype(np.float64))
    np.testing.assert_allclose(log_space.add(one, other), expected, rtol=3e-7, atol=1e-6)


def test_normalized_rows_sum_to_one():
    rows = np.array([[-60_000, -60_001, -60_003], [0, -1, -2], [-3, -50_000, -3]], np.float32)
    probabilities = np.exp(log_space.normalize(rows).astype(np.float64))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(probabilities[0], np.exp([0, -1, -3]) / np.exp([0, -1, -3]).sum(), rtol=1e-5)


def test_one_member_alone_stays_as_it_is(tmp_path):
    logs = np.random.default_rng(0).uniform(-12, 0, (7, 4)).astype(np.float16)
    opened = write(tmp_path / "a", list("abcdefg"), list("wxyz"), logs)
    np.testing.assert_array_equal(whole(fusion.Blend([opened])), logs.astype(np.float32))


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_the_size_of_a_chunk_changes_nothing(tmp_path, monkeypatch, rows):
    logs = np.random.default_rng(1).uniform(-12, 0, (2, 10, 4)).astype(np.float16)
    opened = [write(tmp_path / str(index), list("abcdefghij"), list("wxyz"), one) for index, one in enumerate(logs)]
    expected = whole(fusion.Blend(opened))
    monkeypatch.setattr(predictions, "CHUNK_VALUES", 4 * rows)
    np.testing.assert_array_equal(whole(fusion.Blend(opened)), expected)
    assert [len(ids) for ids, _ in fusion.Blend(opened).chunks()] == [min(rows, 10 - start) for start in range(0, 10, rows)]


def test_the_whole_is_never_in_memory(tmp_path):
    """30,000 × 1,000 twice is 120 MB on disk and 240 MB as float32."""
    count, classes = 30_000, 1000
    ids, class_ids = [str(index) for index in range(count)], [str(index) for index in range(classes)]
    rows = np.random.default_rng(2).uniform(-12, 0, (1000, classes)).astype(np.float32)
    for name in "ab":
        predictions.write(str(tmp_path / name), ((ids[start:start + 1000], rows) for start in range(0, count, 1000)),
                          {"examples": count, "class_ids": class_ids, "split": "test"})
    tracemalloc.start()
    blended = fusion.Blend(fusion.find([str(tmp_path / "*")]))
    predictions.write(str(tmp_path / "mean"), blended.chunks(), {**blended.meta})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    np.testing.assert_allclose(predictions.Predictions(str(tmp_path / "mean")).rows(np.array([0, 29_999])), rows[[0, 999]],
                               rtol=1e-3)
