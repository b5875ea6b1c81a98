"""GeM and ArcFace against NumPy in float64: outputs, gradients, and what is loaded where."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.models import arcface, pooling
from pipeline.models.classifier import build
from pipeline.models.top import GEM, ArcFace, Top
from pipeline.ops import mixing
from pipeline.training import losses
from training_runs import stage

QUICK = "kecam/EfficientNetV2Tiny"
RNG = np.random.default_rng(0)


def gem(features, p):
    """In float64, by the formula; with a hand-written derivative by p and by the features."""
    x = np.maximum(features.astype(np.float64), 1e-6)
    mean = (x ** p).mean(axis=(1, 2))
    pooled = mean ** (1 / p)
    by_p = pooled * ((x ** p * np.log(x)).mean(axis=(1, 2)) / (p * mean) - np.log(mean) / p ** 2)
    by_x = np.where(features > 1e-6, x ** (p - 1), 0) * (mean ** (1 / p - 1) / x[0, :, :, 0].size)[:, None, None]
    return pooled, by_p, by_x


@pytest.mark.parametrize("p", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("jit", [False, True])
def test_gem_and_its_gradients_equal_the_formula(p, jit):
    layer = pooling.GeM(dtype="float32")
    features = RNG.normal(0.3, 1, (4, 3, 5, 6)).astype(np.float32)
    layer(features)
    layer.p.assign(p)

    def step(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            pooled = layer(values)
        return pooled, tape.gradient(pooled, [layer.p, values])

    found, (by_p, by_x) = tf.function(step, jit_compile=jit)(tf.constant(features))
    expected, expected_by_p, expected_by_x = gem(features, p)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    np.testing.assert_allclose(by_p, expected_by_p.sum(), rtol=1e-3)
    np.testing.assert_allclose(by_x, expected_by_x, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(layer.shares(features).numpy().mean(axis=(1, 2)), expected, rtol=1e-4)


def test_gem_is_finite_and_float32_in_bfloat16_where_all_is_zero_or_huge():
    layer = pooling.GeM(dtype="float32")
    maps = tf.cast(np.stack([np.zeros((2, 2, 3)), np.full((2, 2, 3), 1e30), np.full((2, 2, 3), -5)]), tf.bfloat16)
    with tf.GradientTape() as tape:
        pooled = layer(maps)
    assert pooled.dtype == tf.float32 and np.isfinite(tape.gradient(pooled, layer.p))
    np.testing.assert_allclose(pooled[:, 0], [1e-6, 1e30, 1e-6], rtol=1e-2)


def test_a_network_that_pools_itself_takes_no_gem():
    with pytest.raises(UserError, match="--pool=gem"):
        build("kecam/BeitTiny", 32, 3, top=Top(GEM))


@pytest.mark.parametrize("subcentres", [1, 3])
def test_logits_are_scaled_cosines_of_the_embedding_and_the_nearest_centre(subcentres):
    built = build(QUICK, 32, 5, top=Top(GEM, ArcFace(16, 20.0, subcentres)), dropout=0.3)
    pixels = RNG.integers(0, 255, (4, 32, 32, 3)).astype(np.uint8)
    extractor = tf.keras.Model(built.model.input, [built.model.get_layer("pool").output, built.likeness, built.model.output])
    pooled, embedding, logits = (one.numpy().astype(np.float64) for one in extractor({"image": pixels}))
    dense = built.model.get_layer("embedding_dense").kernel.numpy()
    norm = built.model.get_layer("embedding")
    np.testing.assert_allclose(embedding, (pooled @ dense - norm.moving_mean) / np.sqrt(norm.moving_variance + 1e-5) + norm.beta,
                               rtol=1e-4, atol=1e-5)
    centres = built.head.kernel.numpy().reshape(16, 5, subcentres)
    cosines = np.einsum("bd,dck->bck", embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
                        centres / np.linalg.norm(centres, axis=0))
    np.testing.assert_allclose(logits, 20 * cosines.max(axis=2), rtol=1e-4, atol=1e-4)
    assert logits.shape == (4, 5) and norm.gamma is None


def moved(cosine, margin):
    """As Deng et al. write it, by the angle."""
    angle = np.arccos(cosine)
    return np.where(angle + margin < np.pi, np.cos(angle + margin), cosine - margin * np.sin(margin))


def margin_loss(labels, logits, margin, scale, smoothing=0.0, offsets=0.0):
    logits = logits.copy()
    rows = np.arange(len(labels))
    logits[rows, labels] = scale * moved(logits[rows, labels] / scale, margin)
    logs = scipy.special.log_softmax(logits + offsets, axis=1)
    return -(1 - smoothing) * logs[rows, labels] - smoothing * logs.mean(axis=1)


@pytest.mark.parametrize("margin, smoothing", [(0.5, 0.0), (0.3, 0.1), (0.0, 0.0)])
@pytest.mark.parametrize("jit", [False, True])
def test_the_margin_and_its_gradient_equal_the_formula(margin, smoothing, jit):
    scale, labels = 30.0, np.arange(12) % 5
    cosines = RNG.uniform(-0.95, 0.95, (12, 5))
    cosines[:3, :3] = -0.99  # whose angle would pass π
    logits = scale * cosines
    loss = losses.make_training(stage(loss="arcface", arcface_margin=margin, label_smoothing=smoothing), scale)

    def step(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            found = loss(tf.constant(labels), values)
        return found, tape.gradient(found, values)

    found, gradient = tf.function(step, jit_compile=jit)(tf.constant(logits, tf.float32))
    np.testing.assert_allclose(found, margin_loss(labels, logits, margin, scale, smoothing), rtol=2e-4, atol=2e-4)
    numeric = np.empty_like(logits)
    for index in np.ndindex(*logits.shape):
        step_of = np.zeros_like(logits)
        step_of[index] = 1e-4
        ends = [margin_loss(labels, logits + sign * step_of, margin, scale, smoothing)[index[0]] for sign in (1, -1)]
        numeric[index] = (ends[0] - ends[1]) / 2e-4
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-4)


def test_the_margin_has_a_finite_gradient_at_the_centre_itself():
    loss = losses.make_training(stage(loss="arcface"), 30.0)
    logits = tf.constant([[30.0, -30.0], [30.001, 0.0], [-30.0, 30.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = loss(tf.constant([0, 0, 0]), logits)
    assert np.isfinite(found).all() and np.isfinite(tape.gradient(found, logits)).all()


def test_mixed_labels_have_a_margin_each_and_validation_has_none():
    chosen = stage(loss="arcface", arcface_margin=0.4)
    logits = 30 * RNG.uniform(-0.9, 0.9, (6, 5))
    first, second, share = np.arange(6) % 5, (np.arange(6) + 2) % 5, RNG.uniform(0, 1, 6)
    mixed = mixing.MixedLabels(tf.constant(first), tf.constant(second), tf.constant(share, tf.float32))
    found = losses.make_training(chosen, 30.0)(mixed, tf.constant(logits, tf.float32))
    expected = share * margin_loss(first, logits, 0.4, 30) + (1 - share) * margin_loss(second, logits, 0.4, 30)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(losses.make(chosen)(tf.constant(first), tf.constant(logits, tf.float32)),
                               margin_loss(first, logits, 0.0, 30), rtol=1e-4, atol=1e-4)


def test_the_adjusted_logits_are_those_behind_the_margin():
    prior = np.log([0.6, 0.3, 0.1])
    logits, labels = 30 * RNG.uniform(-0.9, 0.9, (6, 3)), np.arange(6) % 3
    found = losses.make_training(stage(loss="arcface", logit_adjust=0.7), 30.0, prior)(
        tf.constant(labels), tf.constant(logits, tf.float32))
    np.testing.assert_allclose(found, margin_loss(labels, logits, 0.5, 30, offsets=0.7 * prior), rtol=1e-4, atol=1e-4)


def test_a_head_of_cosines_comes_back_from_its_own_configuration():
    head = arcface.CosineHead(4, 12.0, 2)
    logits = head(tf.constant(RNG.normal(size=(3, 8)), tf.float32))
    again = arcface.CosineHead.from_config(head.get_config())
    again.build((None, 8))
    again.set_weights(head.get_weights())
    assert (again.units, again.scale, again.subcentres) == (4, 12.0, 2) and logits.shape == (3, 4)
