"""The geo prior's losses against sums written out in plain Python, and the whole step's loss against NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf

from geo_reference import encoding
from pipeline.geo import losses as geo_losses, prior as geo_prior
from pipeline.geo.points import Points
from pipeline.geo.records import Records
from pipeline.geo.runs import GeoRun
from pipeline.geo.step import Trainer

EPSILON = 1e-5


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def term(logit, is_there, weight=1.0):
    """Weighted binary cross-entropy with epsilon inside the logarithm."""
    s = sigmoid(logit)
    return -weight * math.log(s + EPSILON) if is_there else -math.log(1 - s + EPSILON)


def location_formula(labels, logits, weight):
    return [sum(term(x, k == label, weight) for k, x in enumerate(row)) / len(row) for label, row in zip(labels, logits)]


@pytest.fixture
def sample():
    random = np.random.default_rng(0)
    logits = (random.normal(size=(6, 5)) * 6).astype(np.float32)
    logits[0, 0], logits[1, 1] = 60, -60  # where 1 − s and s are 0 in float32
    return random.integers(0, 5, 6), logits


@pytest.mark.parametrize("weight", [1.0, 5.0, 2048.0])
@pytest.mark.parametrize("compiled", [False, True])
def test_location_loss(sample, weight, compiled):
    labels, logits = sample
    labels[:2] = 0, 1
    function = tf.function(geo_losses.location, jit_compile=True) if compiled else geo_losses.location
    found = function(tf.constant(labels), tf.constant(logits), weight)
    np.testing.assert_allclose(found, location_formula(labels, logits.tolist(), weight), rtol=2e-4)


def test_random_location_loss(sample):
    expected = [sum(term(x, False) for x in row) / 5 for row in sample[1].tolist()]
    np.testing.assert_allclose(geo_losses.random_location(tf.constant(sample[1])), expected, rtol=2e-4)


def test_photographer_losses_spare_unknown_ones(sample):
    labels, logits = sample
    known = np.array([1, 0, 1, 1, 0, 1], np.float32)
    there, random = logits[:, 0], logits[:, 1]
    expected = [k * 0.3 * (term(a, True) + term(b, False)) for k, a, b in zip(known, there.tolist(), random.tolist())]
    np.testing.assert_allclose(geo_losses.photographer(there, random, 0.3, known), expected, rtol=2e-4, atol=1e-4)
    expected = known * location_formula(labels, logits.tolist(), 5.0)
    np.testing.assert_allclose(geo_losses.affinity(tf.constant(labels), logits, 5.0, known), expected, rtol=2e-4)


def test_bfloat16_logits_give_a_float32_loss():
    loss = geo_losses.location(tf.constant([1]), tf.zeros([1, 4], tf.bfloat16), 3.0)
    assert loss.dtype == tf.float32 and loss.numpy()[0] == pytest.approx((3 + 3) * math.log(2) / 4, rel=1e-3)


@pytest.mark.parametrize("geo_loss, told, weight", [
    ("presence", None, 86.0), ("an_full", None, 2048.0), ("presence", 8.0, 8.0), ("an_full", 8.0, 8.0)])
def test_the_weight_of_a_presence(geo_loss, told, weight):
    assert geo_losses.positive_weight(geo_loss, 86, told) == weight


@pytest.mark.parametrize("photographers, weight, by", [
    (False, 5.0, "paper"), (True, 5.0, "paper"), (True, 2.0, "paper"), (True, 5.0, "solution"), (True, 2.0, "solution")])
def test_the_loss_of_a_step_is_the_sum_of_its_parts(photographers, weight, by):
    n, classes = 8, 5
    random = np.random.default_rng(1)
    columns = random.uniform(-1, 1, (6, n)).astype(np.float32) * np.array([[90], [180], [1]] * 2)
    points, elsewhere = (Points(*columns[k:k + 3].astype(np.float32)) for k in (0, 3))
    labels, who = random.integers(0, classes, n).astype(np.int32), np.array([0, 1, 2, 0, 1, -1, -1, 2], np.int32)
    records = Records(*points, labels, who, photographers=3, without_place=0)
    run = GeoRun("", photographers=photographers, photographer_loss=by, embed_dim=16, batch_size=n, positive_weight=weight)
    trainer = Trainer(run, records, classes, 1)
    seed = tf.constant([3, 4], tf.int64)
    both = Points(*(tf.concat(pair, 0) for pair in zip(points, elsewhere)))
    embedded = trainer.network.embed(both, seed).numpy().astype(np.float64)
    class_weights = trainer.network.classes.kernel.numpy()
    expected = np.mean(location_formula(labels, embedded[:n] @ class_weights, weight))
    expected += np.mean([term(x, False) for x in (embedded[n:] @ class_weights).ravel()])
    if photographers:
        vectors = trainer.photographers.numpy()
        for k in np.flatnonzero(who >= 0):
            vector = vectors[who[k]]
            one = (term(vector @ embedded[k], True) + term(vector @ embedded[n + k], False)) * weight / classes
            if by == "solution":  # at the true place both, of the mean over the three photographers
                there = [vector @ embedded[k] if who[k] == other else None for other in range(3)]
                one = np.mean([0 if x is None else term(x, True) + term(x, False) for x in there]) * weight / classes
            expected += (one + location_formula([labels[k]], [vector @ class_weights], weight)[0]) / n
    before = trainer.network.first.kernel.numpy()
    loss = tf.function(trainer.update)(points, elsewhere, tf.constant(labels), tf.constant(who), seed)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert not np.array_equal(trainer.network.first.kernel.numpy(), before)


def normalized(values, mean, variance, norm):
    return (values - mean) / np.sqrt(variance + 1e-3) * norm.gamma.numpy() + norm.beta.numpy()


@pytest.mark.parametrize("batch_norm, norms", [("off", 0), ("first", 1), ("on", 9)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_normalization_stands_before_each_relu(batch_norm, norms, training, monkeypatch):
    """By NumPy: over the batch in training (without dropout here), by the moving mean and variance in prediction."""
    monkeypatch.setattr("pipeline.geo.prior.DROPOUT", 0.0)
    random = np.random.default_rng(2)
    network = geo_prior.GeoNetwork(5, 8, True, 3, batch_norm)
    layers = [one for one in network.submodules if isinstance(one, tf.keras.layers.BatchNormalization)]
    assert len(layers) == norms
    for layer in layers:
        for variable in layer.weights:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    points = Points(*(random.uniform(low, high, 40).astype(np.float32) for low, high in ((-90, 90), (-180, 180), (0, 1))))
    before = {id(layer): layer.moving_mean.numpy() for layer in layers}

    def activate(values, norm):
        if norm is not None:
            mean, variance = values.mean(axis=0), values.var(axis=0)
            if not training:
                mean, variance = before[id(norm)], norm.moving_variance.numpy()
            values = normalized(values, mean, variance, norm)
        return np.maximum(values, 0)

    def dense(layer, x):
        return x @ layer.kernel.numpy() + layer.bias.numpy()

    x = activate(dense(network.first, encoding(points.latitude, points.longitude, points.date)), network.first_norm)
    for index, (first, second) in enumerate(network.blocks):
        pair = network.norms[index] if network.norms else (None, None)
        x = x + activate(dense(second, activate(dense(first, x), pair[0])), pair[1])
    found = tf.function(network.embed)(points, tf.constant([1, 2]) if training else None)
    np.testing.assert_allclose(found, x, rtol=2e-3, atol=2e-3)
    moved = [not np.array_equal(layer.moving_mean.numpy(), before[id(layer)]) for layer in layers]
    assert moved == [training] * norms
