"""Cross-entropy against Keras' own and a NumPy formula."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline import losses
from pipeline.step import label_ranks


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
    # A tie goes to the lower index; a NaN stands before everything; of NaNs alone, none is a hit.
    np.testing.assert_array_equal(label_ranks(labels, logits), [1, 2, 1, 3])


def test_label_ranks_equal_a_stable_sort():
    rng = np.random.default_rng(1)
    logits = rng.integers(0, 5, (50, 9)).astype(np.float32)  # many ties
    labels = rng.integers(0, 9, 50)
    order = np.argsort(-logits, axis=1, kind="stable")
    expected = [list(row).index(label) for row, label in zip(order, labels)]
    np.testing.assert_array_equal(label_ranks(tf.constant(labels), tf.constant(logits)), expected)
