"""Reliability against scikit-learn's calibration curve, the error against a loop, its bootstrap against scipy's."""

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve

from pipeline.metrics import calibration, intervals


def drawn(count, seed=0, too_sure=1.5):
    """(confidence, hits) of answers that are less often right than they say."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.2, 1, count)
    return confidence, random.random(count) < confidence ** too_sure


@pytest.mark.parametrize("count, bins, levels", [(999, 15, None), (20, 15, None), (8, 15, None), (999, 15, 12), (300, 4, 3)])
def test_bins_are_scikit_learns(count, bins, levels):
    """(Of counts at which no quantile is an example itself: theirs is then rounded to one side or the other.)"""
    confidence, hits = drawn(count)
    if levels:  # many equals
        confidence = np.round(confidence * levels) / levels
    found = calibration.reliability(confidence, hits, bins)
    accuracy, mean = calibration_curve(hits, confidence, n_bins=bins, strategy="quantile")
    np.testing.assert_allclose(found["accuracy"], accuracy)
    np.testing.assert_allclose(found["confidence"], mean)
    assert found["count"].sum() == count
    if levels is None:
        assert found["count"].max() - found["count"].min() <= 1
    order = np.random.default_rng(1).permutation(count)
    np.testing.assert_allclose(calibration.reliability(confidence[order], hits[order], bins), found)


@pytest.mark.parametrize("seed", range(3))
def test_the_error_by_a_loop(seed):
    confidence, hits = drawn(605, seed)
    order = np.argsort(confidence)
    edges = [int(np.ceil(604 * one / 15 + 1e-9)) for one in range(1, 15)]  # what is above the quantile begins a bin
    expected = sum(len(part) * abs(hits[part].mean() - confidence[part].mean()) for part in np.split(order, edges)) / 605
    assert calibration.expected_error(calibration.reliability(confidence, hits)) == pytest.approx(expected)
    assert calibration.expected_error(calibration.reliability(np.full(10, 0.5), np.arange(10) < 8)) == pytest.approx(0.3)


def test_the_error_by_chance_is_that_of_new_draws():
    confidence, _ = drawn(150)
    errors = [calibration.expected_error(calibration.reliability(confidence, np.random.default_rng(seed).random(150) < confidence))
              for seed in range(1, 400)]
    assert calibration.error_by_chance(confidence) == pytest.approx(np.mean(errors), abs=0.004) and np.mean(errors) > 0.05


def test_intervals_are_scipys_and_paired():
    confidence, hits = drawn(300)
    losses = np.where(hits, -np.log(confidence), 2.0)
    errors, means = calibration.resampled_errors([confidence, confidence], [hits, hits], [losses, losses + 0.25])

    def error(rows):
        rows = rows.astype(int)
        return calibration.expected_error(calibration.reliability(confidence[rows], hits[rows]))

    theirs = stats.bootstrap((np.arange(300),), error, method="percentile", n_resamples=600, vectorized=False,
                             random_state=1).confidence_interval
    low, high = intervals.interval(errors[:, 0])
    assert low == pytest.approx(theirs.low, abs=0.01) and high == pytest.approx(theirs.high, abs=0.01)
    low, high = intervals.interval(means[:, 0])
    of_mean = stats.bootstrap((losses,), np.mean, method="percentile", n_resamples=2000, random_state=1).confidence_interval
    assert low == pytest.approx(of_mean.low, abs=0.02) and high == pytest.approx(of_mean.high, abs=0.02)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.25)
    np.testing.assert_array_equal(errors[:, 1], errors[:, 0])
