"""Cross-entropies against Keras' own and NumPy formulas, their gradients against finite differences."""

import math

import numpy as np
import pytest
import tensorflow as tf

from pipeline.metrics import multi_label, single_label as metrics
from pipeline.training import losses
from pipeline.training.step_metrics import f2_by_threshold, label_ranks


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_softmax_cross_entropy_equals_keras_on_one_hot_labels(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(16, 7)).astype(np.float32) * 5
    labels = rng.integers(0, 7, 16)
    keras = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing, reduction="none")
    expected = keras(tf.one_hot(labels, 7), logits).numpy()
    ours = losses.softmax_cross_entropy(smoothing)(tf.constant(labels), tf.constant(logits)).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_logits_give_a_float32_loss():
    loss = losses.softmax_cross_entropy(0.1)(tf.constant([1]), tf.zeros([1, 4], tf.bfloat16))
    assert loss.dtype == tf.float32
    assert loss.numpy()[0] == pytest.approx(np.log(4), rel=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("tau, smoothing", [(1.0, 0.0), (0.7, 0.1)])
def test_logit_adjustment_equals_the_formula(tau, smoothing, compiled):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(16, 5)).astype(np.float32) * 3, rng.integers(0, 5, 16)
    prior = np.array([0.5, 0.3, 0.15, 0.049, 0.001])
    loss = losses.logit_adjusted(losses.softmax_cross_entropy(smoothing), np.log(prior), tau)
    if compiled:
        loss = tf.function(loss, jit_compile=True)
    # Menon et al. 2021, equation 10: −log(e^f_y · π_y^τ / Σ e^f_c · π_c^τ), here with a smoothed target.
    weighted = np.exp(logits.astype(np.float64)) * prior ** tau
    logs = np.log(weighted / weighted.sum(axis=1, keepdims=True))
    target = np.eye(5)[labels] * (1 - smoothing) + smoothing / 5
    np.testing.assert_allclose(loss(tf.constant(labels), tf.constant(logits)), -(target * logs).sum(axis=1), rtol=1e-5)


def test_a_logit_adjusted_loss_is_float32_under_bfloat16():
    adjusted = losses.logit_adjusted(losses.softmax_cross_entropy(0.0), np.log([0.999, 0.001]).astype(np.float32), 1.0)
    loss = adjusted(tf.constant([1]), tf.zeros([1, 2], tf.bfloat16))
    assert loss.dtype == tf.float32 and loss.numpy()[0] == pytest.approx(np.log(1000), rel=1e-6)


def test_label_ranks_with_ties_and_nan():
    logits = tf.constant([[0.0, 0.0, 0.0], [3.0, 1.0, 2.0], [1.0, float("nan"), 0.0], [float("nan")] * 3])
    labels = tf.constant([1, 1, 0, 0])
    # A tie goes to the lower index. No answer is a hit in a row with a NaN, which are none of the first five, of three.
    for ranks in (label_ranks, tf.function(label_ranks)):
        np.testing.assert_array_equal(ranks(labels, logits), [1, 2, tf.int32.max, tf.int32.max])


NAN, INFINITY = math.nan, math.inf


@pytest.mark.parametrize("compiled", [False, True, pytest.param("jit", marks=pytest.mark.slow)])
@pytest.mark.parametrize("logits, rank", [
    ([NAN, NAN, NAN], None), ([2.0, NAN, 0.0], None), ([INFINITY, 0.0, 1.0], None), ([-INFINITY] * 3, None),
    ([0.0, -INFINITY, 1.0], 1), ([-INFINITY, 0.0, -INFINITY], 1), ([1.0, -INFINITY, -INFINITY], 0)])
def test_what_is_no_number_is_no_hit(logits, rank, compiled):
    """The label is class 0; None: neither the first nor among the first five. TensorFlow and NumPy agree."""
    labels, rows = np.zeros(1, np.int64), np.array([logits], np.float32)
    targets = np.array([[1, 0, 0]], np.float32)
    if compiled:
        ranks, f2 = (tf.function(one, jit_compile=compiled == "jit") for one in (label_ranks, f2_by_threshold))
    else:
        ranks, f2 = label_ranks, f2_by_threshold
    for found in (int(ranks(tf.constant(labels), tf.constant(rows))[0]), int(metrics.label_ranks(labels, rows)[0])):
        assert found >= 5 if rank is None else found == rank
    if rank is None:
        assert not f2(tf.constant(targets), tf.constant(rows)).numpy().any()
        assert not multi_label.scores(rows, [[0]])[:3].any()


def test_label_ranks_equal_a_stable_sort():
    rng = np.random.default_rng(1)
    logits = rng.integers(0, 5, (50, 9)).astype(np.float32)  # many ties
    labels = rng.integers(0, 9, 50)
    order = np.argsort(-logits, axis=1, kind="stable")
    expected = [list(row).index(label) for row, label in zip(order, labels)]
    np.testing.assert_array_equal(label_ranks(tf.constant(labels), tf.constant(logits)), expected)


def targets_and_logits(scale=4.0):
    rng = np.random.default_rng(2)
    return (rng.random((6, 9)) < 0.3).astype(np.float64), rng.normal(size=(6, 9)) * scale


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sigmoid_cross_entropy_equals_keras(smoothing):
    targets, logits = targets_and_logits()
    keras = tf.keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing, reduction="none")
    ours = losses.sigmoid_cross_entropy(smoothing)(tf.constant(targets, tf.float32), tf.constant(logits, tf.float32))
    np.testing.assert_allclose(ours, keras(targets, logits), rtol=1e-5)


def focal_by_hand(targets, logits, alpha, gamma, weight_logits=None):
    """The formula in float64; `weight_logits`: what the weights are made of, which no gradient goes through."""
    at = logits if weight_logits is None else weight_logits
    weights = 2 * (alpha * targets + (1 - alpha) * (1 - targets)) * sigmoid(-at * (2 * targets - 1)) ** gamma
    return (weights * -(targets * np.log(sigmoid(logits)) + (1 - targets) * np.log(sigmoid(-logits)))).mean(axis=1)


@pytest.mark.parametrize("alpha, gamma", [(0.5, 0.25), (0.25, 2.0), (0.9, 0.0)])
def test_focal_cross_entropy_and_its_gradient(alpha, gamma):
    targets, logits = targets_and_logits()
    targets[0] = 0.3  # as mixup makes them
    x = tf.Variable(logits, dtype=tf.float32)
    with tf.GradientTape() as tape:
        ours = losses.focal_cross_entropy(alpha, gamma, 0.0)(tf.constant(targets, tf.float32), x)
    np.testing.assert_allclose(ours, focal_by_hand(targets, logits, alpha, gamma), rtol=1e-4)
    gradient, step = tape.gradient(ours, x).numpy(), 1e-6
    for row, column in np.ndindex(logits.shape):
        ahead, behind = logits.copy(), logits.copy()
        ahead[row, column] += step
        behind[row, column] -= step
        difference = (focal_by_hand(targets, ahead, alpha, gamma, logits)[row]
                      - focal_by_hand(targets, behind, alpha, gamma, logits)[row]) / (2 * step)
        assert gradient[row, column] == pytest.approx(difference, rel=1e-3, abs=1e-7)


def test_focal_without_focus_is_binary_cross_entropy():
    targets, logits = (tf.constant(one, tf.float32) for one in targets_and_logits())
    np.testing.assert_allclose(losses.focal_cross_entropy(0.5, 0.0, 0.1)(targets, logits),
                               losses.sigmoid_cross_entropy(0.1)(targets, logits), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.sigmoid_cross_entropy(0.0), losses.focal_cross_entropy(0.5, 0.25, 0.0)])
def test_gradients_are_finite_at_any_logit(loss):
    logits = tf.Variable([[0.0, 90.0, -90.0, 1e4, -1e4, 1e30, -1e30]] * 2)
    for wrap in (lambda function: function, lambda function: tf.function(function, jit_compile=True)):
        with tf.GradientTape() as tape:
            value = wrap(loss)(tf.constant([[1.0] * 7, [0.0] * 7]), logits)
        assert np.isfinite(value.numpy()).all() and np.isfinite(tape.gradient(value, logits).numpy()).all()
    half = loss(tf.constant([[1.0, 0.0]]), tf.constant([[1.0, 2.0]], tf.bfloat16))
    assert half.dtype == tf.float32
