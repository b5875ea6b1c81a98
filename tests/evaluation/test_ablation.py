"""Bootstrap intervals against scipy's, the long-tail groups against a hand-made case."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.evaluation import ablation, scoring, shot_groups
from pipeline.metrics import intervals


def random_hits(examples, *shares, seed=0):
    return np.random.default_rng(seed).random((len(shares), examples)) < np.array(shares)[:, np.newaxis]


@pytest.mark.parametrize("examples, share", [(50, 0.5), (400, 0.9), (3000, 0.3)])
def test_intervals_equal_scipys_percentile_bootstrap(examples, share):
    hits = random_hits(examples, share)
    theirs = stats.bootstrap(hits.astype(float), np.mean, method="percentile", n_resamples=4000,
                             random_state=1).confidence_interval
    low, high = intervals.interval(intervals.resampled_means(hits)[:, 0])
    tolerance = 0.15 * (theirs.high - theirs.low)
    assert low == pytest.approx(theirs.low, abs=tolerance) and high == pytest.approx(theirs.high, abs=tolerance)


def test_differences_are_paired():
    first = random_hits(400, 0.6)[0]
    second = first | (np.arange(400) % 20 == 0)  # never worse
    resampled = intervals.resampled_means(np.stack([first, second]))
    gain = (second.astype(float) - first)
    theirs = stats.bootstrap((gain,), np.mean, method="percentile", n_resamples=4000, random_state=1).confidence_interval
    low, high = intervals.interval(resampled[:, 1] - resampled[:, 0])
    assert low == pytest.approx(theirs.low, abs=0.004) and high == pytest.approx(theirs.high, abs=0.004)
    assert low >= 0 and high < 0.06  # unpaired it would reach from −0.05 to 0.09


def test_the_same_hits_have_the_same_interval():
    hits = random_hits(100, 0.4, 0.5)
    np.testing.assert_array_equal(intervals.resampled_means(hits), intervals.resampled_means(hits))
    assert intervals.interval(intervals.resampled_means(np.ones((1, 5), bool))[:, 0]) == (1.0, 1.0)


def scored(hits):
    return {name: scoring.Scored({"top1": one.mean(), "log_loss": 1.0, "examples": one.size}, one)
            for name, one in hits.items()}


def test_the_table_tells_gains_over_the_first_line():
    hits = dict(zip(("picture", "+ geo"), random_hits(200, 0.5, 0.8)))
    lines = {"picture": ablation.Line(None), "+ geo": ablation.Line(None, 0.7)}
    found = ablation.scores(lines, scored(hits))
    assert "gain" not in found["picture"] and "geo_exponent" not in found["picture"]
    assert found["+ geo"]["gain"] == pytest.approx(hits["+ geo"].mean() - hits["picture"].mean())
    low, high = found["+ geo"]["gain_interval"]
    assert low < found["+ geo"]["gain"] < high and found["+ geo"]["geo_exponent"] == 0.7
    frame = ablation.frame(found)
    assert list(frame.columns) == ["top1", "95 %", "gain", "95 % of the gain", "log_loss"]
    assert frame.loc["+ geo", "gain"] == f"{found['+ geo']['gain']:+.4f}" and frame.loc["picture", "gain"] == ""


def test_groups_of_the_long_tail_by_hand():
    train_counts = np.array([500, 101, 100, 20, 19, 0, 300])  # the last class has no example
    labels = np.array([0, 0, 1, 2, 3, 3, 4, 5])
    hits = {"picture": np.array([1, 0, 1, 1, 0, 0, 0, 1], bool), "+ geo": np.ones(8, bool)}
    found = shot_groups.top1_by_group(hits, labels, train_counts)
    assert found == {
        "many-shot (> 100)": {"classes": 2, "examples": 3, "top1": {"picture": pytest.approx(2 / 3), "+ geo": 1.0}},
        "medium-shot (20 to 100)": {"classes": 2, "examples": 3, "top1": {"picture": pytest.approx(1 / 3), "+ geo": 1.0}},
        "few-shot (< 20)": {"classes": 2, "examples": 2, "top1": {"picture": 0.5, "+ geo": 1.0}},
    }
    frame = shot_groups.frame(found)
    assert list(frame.columns) == ["classes", "examples", "picture", "+ geo"]
    assert frame.loc["few-shot (< 20)", "classes"] == 2


def test_only_groups_that_exist():
    found = shot_groups.top1_by_group({"picture": np.array([True])}, np.array([0]), np.array([50, 500]))
    assert list(found) == ["medium-shot (20 to 100)"]
    assert isinstance(shot_groups.frame(found), pd.DataFrame)
