"""mixup and CutMix against NumPy, their shares against SciPy's Beta, and the order of batches over a restart."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from pipeline.ops import mixing, seeds
from pipeline.ops.mixing import Alphas, MixedLabels
from pipeline.records import input as inputs
from pipeline.training import losses, step_metrics
from training_runs import stage


def batch(count=5, size=12):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8), np.arange(count, dtype=np.int64)


def seed(number):
    return tf.constant([number, 3], tf.int64)


def weights_of(drawn, size=12):
    """Of a picture's own pixels, [size, size]."""
    top, bottom, left, right = drawn.box.numpy()
    weights = np.full([size, size], drawn.share, np.float32)
    weights[top:bottom, left:right] = 0
    return weights


@pytest.mark.parametrize("alphas", [Alphas(mixup=0.2), Alphas(cutmix=1.0), Alphas(0.4, 0.7)])
@pytest.mark.parametrize("number", range(4))
def test_pictures_and_labels_equal_numpy(alphas, number):
    images, labels = batch()
    weights = weights_of(mixing.draw(seed(number), alphas, 12))
    np.testing.assert_array_equal(mixing.draw_weights(seed(number), alphas, 12), weights)
    own = weights[None, :, :, None].astype(np.float64)
    expected = own * images + (1 - own) * images[[4, 0, 1, 2, 3]]
    for function in (mixing.mix, tf.function(mixing.mix)):
        mixed, marked = function(tf.constant(images), tf.constant(labels), seed(number), alphas)
        assert mixed.dtype == tf.uint8 and np.abs(mixed.numpy() - expected).max() <= 0.51
        assert isinstance(marked, MixedLabels)
        np.testing.assert_array_equal(marked.label, labels)
        np.testing.assert_array_equal(marked.partner, [4, 0, 1, 2, 3])
        np.testing.assert_allclose(marked.share, np.full(5, weights.mean()), rtol=1e-5)
    targets = np.eye(5, dtype=np.float32)
    _, soft = mixing.mix(tf.constant(images), tf.constant(targets), seed(number), alphas)
    np.testing.assert_allclose(soft, weights.mean() * targets + (1 - weights.mean()) * targets[[4, 0, 1, 2, 3]], atol=1e-6)


BY_PICTURE = Alphas(mixup=0.2, draw="picture")


@pytest.mark.parametrize("number", range(3))
def test_by_picture_equals_the_authors_arithmetic(number):
    """fastai's: λ = max(λ, 1 − λ) of each picture's own λ; x·λ + x[order]·(1 − λ), and labels in the same way."""
    images, labels = batch(9)
    share_seed, partner_seed = seeds.split(seed(number), 2)
    shares = mixing.draw_larger_shares(share_seed, 0.2, 9).numpy()
    order = mixing.draw_partners(partner_seed, 9).numpy()
    assert len(set(shares)) == 9 and shares.min() >= 0.5 and sorted(order) == list(range(9))
    own = shares[:, None, None, None].astype(np.float64)
    expected = own * images + (1 - own) * images[order]
    for function in (mixing.mix, tf.function(mixing.mix)):
        mixed, marked = function(tf.constant(images), tf.constant(labels), seed(number), BY_PICTURE)
        assert mixed.dtype == tf.uint8 and np.abs(mixed.numpy() - expected).max() <= 0.51
        np.testing.assert_array_equal(marked.label, labels)
        np.testing.assert_array_equal(marked.partner, labels[order])
        np.testing.assert_allclose(marked.share, shares, rtol=1e-6)
    targets = np.eye(9, dtype=np.float32)
    _, soft = mixing.mix(tf.constant(images), tf.constant(targets), seed(number), BY_PICTURE)
    np.testing.assert_allclose(soft, shares[:, None] * targets + (1 - shares[:, None]) * targets[order], rtol=1e-5)


def test_partners_are_random():
    draw = tf.function(lambda number: mixing.draw_partners(tf.stack([number, 2]), 6))
    orders = np.array([draw(tf.constant(number, tf.int64)) for number in range(600)])
    counts = np.array([np.bincount(column, minlength=6) for column in orders.T])  # who is whose partner, 100 times each
    assert stats.chisquare(counts.ravel()).pvalue > 0.001 and len(np.unique(orders, axis=0)) > 350


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_a_thousand_shares_are_of_the_folded_beta_distribution(alpha):
    shares = mixing.draw_larger_shares(seed(8), alpha, 1000).numpy()

    def folded(share):  # P(max(λ, 1 − λ) ≤ share)
        law = stats.beta(alpha, alpha)
        return law.cdf(share) - law.cdf(1 - share)

    assert shares.min() >= 0.5 and shares.max() <= 1
    assert stats.kstest(shares, folded).pvalue > 0.01
    by_numpy = np.random.default_rng(0).beta(alpha, alpha, 1000)
    assert stats.ks_2samp(shares, np.maximum(by_numpy, 1 - by_numpy)).pvalue > 0.01


def test_xla_compiles_what_the_draw_is_applied_by():
    images, labels = map(tf.constant, batch())
    weights = mixing.draw_weights(seed(1), Alphas(cutmix=1.0), 12)
    for drawn in ((weights,), (tf.reshape(tf.linspace(0.5, 1.0, 5), [5, 1, 1]), tf.constant([2, 0, 1, 4, 3]))):
        compiled = tf.function(mixing.apply, jit_compile=True)(images, labels, *drawn)
        tf.nest.map_structure(np.testing.assert_array_equal, compiled, mixing.apply(images, labels, *drawn))
    mixed, marked = mixing.mix(images, labels, seed(1), Alphas(cutmix=1.0))
    np.testing.assert_array_equal(mixed, mixing.apply(images, labels, weights)[0])
    np.testing.assert_allclose(marked.share, mixing.apply(images, labels, weights)[1].share, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 3.0])
def test_shares_are_of_the_beta_distribution(alpha):
    draw = tf.function(lambda number: mixing.draw_share(tf.stack([number, 7]), alpha))
    shares = np.array([draw(tf.constant(number, tf.int64)) for number in range(400)])
    assert np.isfinite(shares).all() and shares.min() >= 0 and shares.max() <= 1
    if alpha >= 0.2:  # below, most are 0 or 1 in float32
        assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.001
    assert shares.mean() == pytest.approx(0.5, abs=0.08)


def test_cutmix_pastes_a_box_whose_area_is_what_the_share_lacks():
    whole = 0
    for number in range(60):
        share = tf.constant((number % 10) / 10, tf.float32)
        box = mixing.draw_box(seed(number), share, 40)
        inside = weights_of(mixing.Mix(tf.constant(1.0), box), 40) == 0
        rows, columns = inside.any(axis=1), inside.any(axis=0)
        np.testing.assert_array_equal(inside, rows[:, None] & columns[None])
        side = 2 * (int(40 * np.sqrt(1 - share)) // 2)
        assert np.abs(np.diff(rows.astype(int))).sum() <= 2 and rows.sum() <= side and columns.sum() <= side
        whole += rows.sum() == side and columns.sum() == side
    assert whole >= 10  # the others lie over the border


def test_both_are_drawn_about_equally_often():
    alphas = Alphas(mixup=1.0, cutmix=1.0)
    draw = tf.function(lambda number: mixing.draw(tf.stack([number, 0]), alphas, 8))
    drawn = [weights_of(draw(tf.constant(number, tf.int64)), 8) for number in range(200)]
    mixups = sum(0 < one.min() == one.max() < 1 for one in drawn)
    assert 70 < mixups < 130


def test_loss_and_hits_are_shared():
    logits = tf.constant(np.random.default_rng(1).normal(size=(4, 3)), tf.float32)
    labels = MixedLabels(tf.constant([0, 1, 2, 0], tf.int64), tf.constant([1, 1, 0, 2], tf.int64),
                         tf.constant([0.7, 0.2, 1.0, 0.0]))
    loss = losses.make(stage(label_smoothing=0.1))
    one, other = (loss(own, logits).numpy() for own in labels[:2])
    np.testing.assert_allclose(loss(labels, logits), labels.share * one + (1 - labels.share) * other, rtol=1e-6)
    told = step_metrics.SingleLabelMetrics().update(loss(labels, logits), labels, logits, None)
    first, share = logits.numpy().argmax(axis=1), labels.share.numpy()
    hits = share * (first == labels.label.numpy()) + (1 - share) * (first == labels.partner.numpy())
    assert float(told["accuracy"]) == pytest.approx(hits.mean()) and float(told["top5"]) == 1


@pytest.mark.parametrize("alphas, shares", [(Alphas(0.3, 1.0), 7), (BY_PICTURE, 60)])
def test_a_restart_sees_the_same_mixed_batches(tiny_data, alphas, shares):
    def pictures(start, count):
        made = inputs.train_batches(tiny_data.part("train"), inputs.TrainPictures(32, "inception", "", "squash"), 10, 4,
                                    start_step=start, mix=alphas)
        return [(features["image"].numpy(), labels.share.numpy()) for features, labels in made.take(count)]

    whole, later = pictures(0, 7), pictures(5, 2)
    for one, other in zip(whole[5:], later):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    found = len({one for _, share in whole for one in share})
    assert found == shares if alphas.draw == "batch" else shares < found <= 70  # some are 1 in float32


def test_each_of_several_hosts_mixes_its_own_pictures(tiny_data):
    """Partners are of the host's part of the batch, whose order is its own, and the same again."""
    pictures = inputs.TrainPictures(32, "eval", "", "squash")

    def labels_of(host, alphas):
        made = inputs.train_batches(tiny_data.part("train"), pictures, 20, 4, mix=alphas, host=inputs.Host(host, 2))
        return [labels for _, labels in made.take(3)]

    shares = []
    for host in (0, 1):
        plain, mixed, again = labels_of(host, Alphas()), labels_of(host, BY_PICTURE), labels_of(host, BY_PICTURE)
        for own, labels, other in zip(plain, mixed, again):
            np.testing.assert_array_equal(labels.label, own)
            assert sorted(labels.partner.numpy()) == sorted(own.numpy()) and labels.share.shape == [10]
            tf.nest.map_structure(np.testing.assert_array_equal, labels, other)
        shares.append(np.concatenate([labels.share for labels in mixed]))
    assert (shares[0] != shares[1]).any()
