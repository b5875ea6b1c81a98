"""F2 with a threshold: against scikit-learn, in NumPy and in the step; cross-fitting; blends; what meta.json tells."""

import types

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, special
from sklearn.metrics import fbeta_score, precision_score, recall_score

from pipeline.answers import blend, fusion, predictions, thresholds
from pipeline.answers.mixture import Mixture
from pipeline.metrics import multi_label
from pipeline.tasks import registry as tasks
from pipeline.training import step_metrics
from predicted_data import make_dataset, random_logs, write_predictions


def drawn(n, classes, seed=0):
    """(probabilities [n, classes] as float32 logarithms, truth bool [n, classes] with a label in every row)."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, classes)) < min(0.3, 3 / classes)
    truth[np.arange(n), rng.integers(0, classes, n)] = True
    logits = rng.normal(-1.5, 1.5, truth.shape) + 2.5 * truth
    return -np.log1p(np.exp(-logits)).astype(np.float32), truth


def lists(truth):
    return [np.flatnonzero(row).tolist() for row in truth]


def answered(log_probabilities, threshold):
    """bool [n, classes], word by word: from the threshold on, the best one at least, the ten best at most."""
    result = np.zeros(log_probabilities.shape, bool)
    for row, logs in zip(result, log_probabilities.astype(float)):
        order = sorted(range(len(logs)), key=lambda index: (-logs[index], index))[:10]
        row[[index for index in order if np.exp(logs[index]) >= threshold] or order[:1]] = True
    return result


@pytest.mark.parametrize("classes", [3, 12, 60])
def test_scores_equal_scikit_learn(classes):
    logs, truth = drawn(40, classes)
    each = multi_label.scores(logs, lists(truth))
    assert each.shape == (4, 40, 99)
    for index in range(0, 99, 7):
        answers = answered(logs, multi_label.THRESHOLDS[index])
        assert 1 <= answers.sum(axis=1).min() and answers.sum(axis=1).max() <= 10
        arguments = {"average": "samples", "zero_division": 0}
        f2, precision, recall, labels = each[:, :, index].mean(axis=1)
        assert f2 == pytest.approx(fbeta_score(truth, answers, beta=2, **arguments))
        assert precision == pytest.approx(precision_score(truth, answers, **arguments))
        assert recall == pytest.approx(recall_score(truth, answers, **arguments))
        assert labels == pytest.approx(answers.sum(axis=1).mean())
        assert multi_label.answers(logs, multi_label.THRESHOLDS[index]) == [
            sorted(np.flatnonzero(row), key=lambda one: (-logs[number, one], one)) for number, row in enumerate(answers)]


@pytest.mark.parametrize("classes", [3, 60])
def test_the_step_scores_as_numpy_does(classes):
    logs, truth = drawn(30, classes, seed=1)
    logits = (logs - np.log(-np.expm1(logs))).astype(np.float32)
    expected = multi_label.scores(logs, lists(truth))[0]
    targets = tf.constant(truth, tf.float32)
    for function in (step_metrics.f2_by_threshold, tf.function(step_metrics.f2_by_threshold, jit_compile=True)):
        found = function(targets, tf.constant(logits)).numpy()
        # A probability on the very border of a threshold may fall to either side of it in float32.
        assert (np.abs(found - expected) > 1e-5).mean() < 0.001
    metric = step_metrics.BestF2()
    weights = np.r_[np.ones(20), np.zeros(10)].astype(np.float32)
    metric.update_state(targets[:10], tf.constant(logits[:10]))
    metric.update_state(targets[10:], tf.constant(logits[10:]), tf.constant(weights[10:]))
    assert float(metric.result()) == pytest.approx(expected[:20].mean(axis=0).max(), abs=1e-4)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_the_curve_finds_the_threshold_and_cross_fits_it():
    logs, truth = drawn(90, 20, seed=2)
    groups = np.arange(90) % 3
    curve = multi_label.ThresholdCurve()
    for start in range(0, 90, 40):
        chosen = slice(start, start + 40)
        curve.update(logs[chosen], lists(truth[chosen]), groups[chosen])
    f2 = multi_label.scores(logs, lists(truth))[0]
    assert curve.best_threshold() == pytest.approx((f2.mean(axis=0).argmax() + 1) / 100)
    np.testing.assert_allclose(curve.means()["f2"], f2.mean(axis=0))
    total = 0.0
    for group in range(3):
        fitted = f2[groups != group].mean(axis=0).argmax()
        assert curve.best_threshold(without=group) == pytest.approx((fitted + 1) / 100)
        total += f2[groups == group, fitted].sum()
    assert curve.cross_fitted()["f2"] == pytest.approx(total / 90)


def write_member(folder, logs, ids, classes):
    predictions.write(str(folder), [(ids, logs)], {"examples": len(ids), "class_ids": classes, "split": "train"})
    return predictions.Predictions(str(folder))


@pytest.fixture
def members(tmp_path):
    """(a good member, one that knows nothing, the labels by id); their ids and classes stand in different orders."""
    logs, truth = drawn(60, 8, seed=3)
    ids, classes = [f"id{number}" for number in range(60)], list("abcdefgh")
    noise, _ = drawn(60, 8, seed=4)
    order, columns = np.random.default_rng(5).permutation(60), np.random.default_rng(6).permutation(8)
    other = write_member(tmp_path / "2", noise[order][:, columns], [ids[i] for i in order], [classes[i] for i in columns])
    return write_member(tmp_path / "1", logs, ids, classes), other, dict(zip(ids, lists(truth))), (logs, noise, truth)


def test_blend_weights_have_the_smallest_binary_log_loss(members):
    good, bad, labels, (logs, noise, truth) = members
    (mixture,) = blend.fit_members([good, bad], table_of(labels))
    assert mixture.weights.sum() == pytest.approx(1)

    def tempered(logs, temperature):
        return special.expit((logs - np.log(-np.expm1(logs.astype(float)))) / temperature)

    def loss(probabilities):
        return -np.where(truth, np.log(probabilities), np.log1p(-probabilities)).mean()

    assert mixture.temperatures[0] != 1
    for own, said in zip(mixture.temperatures, (logs, noise)):
        def of(one):
            return truth.size * loss(tempered(said, one)) + np.log(one) ** 2 / (2 * 0.5 ** 2)

        assert own == 1 or of(own) <= optimize.minimize_scalar(of, bounds=(1 / 8, 8), method="bounded").fun + 0.01
    one, other = (tempered(said, own) for said, own in zip((logs, noise), mixture.temperatures))

    def held_near_equal(weight):  # as if twenty labels more were told by one of both each
        return truth.size * loss(weight * one + (1 - weight) * other) - 10 * np.log(weight) - 10 * np.log(1 - weight)

    assert held_near_equal(mixture.weights[0]) <= min(held_near_equal(weight) for weight in np.linspace(0.001, 0.999, 200)) + 1e-3


def table_of(labels, count=60):
    """In the place of an ExampleTable: four groups."""
    data = types.SimpleNamespace(task=tasks.MULTI_LABEL, class_ids=list("abcdefgh"))
    return types.SimpleNamespace(label_lists=labels, data=data,
                                 groups=lambda ids: np.array([int(one[2:]) % 4 for one in ids]))


def test_cross_fitted_mixtures_do_not_know_their_own_group(members):
    good, bad, labels, _ = members
    groups = table_of(labels).groups(good.ids)
    before = blend.for_scoring([good, bad], "oof", table_of(labels)).scoring
    for position in np.flatnonzero(groups == 2):
        labels[good.ids[position]] = [0]
    after = blend.for_scoring([good, bad], "oof", table_of(labels)).scoring
    for one, other in ((before.weights, after.weights), (before.temperatures, after.temperatures)):
        np.testing.assert_array_equal(one[groups == 2], other[groups == 2])
        assert (one[groups != 2] != other[groups != 2]).any(axis=1).all()
    np.testing.assert_allclose(before.weights.sum(axis=1), 1)


def test_of_many_pictures_some_are_looked_at(members, monkeypatch):
    good, bad, labels, _ = members
    half = dict(list(labels.items())[::2])
    (of_all,), (of_half,) = (blend.fit_members([good, bad], table_of(one)) for one in (labels, half))
    assert (of_half.temperatures != of_all.temperatures).any()
    for limit, values in (("MOST_TEMPERED", 60 * 8), ("MOST_VALUES", 60 * 8 * 2)):  # of a member; parts of truths × members
        with monkeypatch.context() as patched:
            patched.setattr(blend, limit, values // 2)
            (some,) = blend.fit_members([good, bad], table_of(labels))
        np.testing.assert_array_equal(some.temperatures, of_half.temperatures)
        np.testing.assert_array_equal(some.weights, of_half.weights)


def test_a_mean_of_sigmoids_is_one_in_probability(members):
    good, bad, _, (logs, noise, _) = members
    (_, blended), = fusion.Blend([good, bad], Mixture(blend.parse("3:1", 2))).chunks()
    np.testing.assert_allclose(np.exp(blended), 0.75 * np.exp(logs) + 0.25 * np.exp(noise), rtol=5e-3)


def test_records_without_labels_take_the_threshold_that_predictions_tell(tmp_path):
    """It was fitted on no picture at all, and 0.01."""
    data = make_dataset(tmp_path / "records", [None] * 6, splits=["test"] * 6)
    labelled = make_dataset(tmp_path / "labelled", [0, 1, 2])
    (tmp_path / "m").mkdir()
    for place, own, split in (("out_of_fold", labelled, "val"), ("test", data, "test")):
        write_predictions(tmp_path / "m" / place, own, random_logs(len(own.examples(split))), split, threshold=0.37,
                          seen={"pictures": 0})
    blended = fusion.Blend([predictions.Predictions(str(tmp_path / "m" / "test"))])
    assert thresholds.for_submission(blended, data, np.ones(3, bool)) == pytest.approx(0.37)
