"""The graph of an export against what evaluate.py and make_submission.py do with NumPy: blend, priors, places, answers."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import special

import colour_export
import raw_data
from pipeline.answers import open_set
from pipeline.export import graph, look as looks, networks
from pipeline.metrics import log_space, multi_label
from pipeline.models import classifier as classifiers
from pipeline.tasks import registry as tasks

NAN = float("nan")
JPEGS = [raw_data.encode(raw_data.pixels(seed), quality=95) for seed in range(5)]
PLACES = np.array([[60, 10, 0.25], [-40, 10, 0.25], [60, 10, 0.75], [NAN, 10, 0.25], [60, 10, NAN]], np.float32)


def logits():
    """float64 [5, 3]: of the pictures squashed by Pillow, with whose antialiasing the graph agrees to a level."""
    resized = [Image.open(io.BytesIO(one)).resize((colour_export.SIZE,) * 2, Image.Resampling.BILINEAR) for one in JPEGS]
    return colour_export.logits(np.stack([np.asarray(one, np.float64) for one in resized]))


def normal(logs):
    return log_space.normalize(np.asarray(logs, np.float64))


def place_logs():
    latitude = np.nan_to_num(PLACES[:, :1].astype(np.float64)) / 30
    logs = np.concatenate([latitude, 0 * latitude, -latitude], axis=1)
    return normal(np.where(PLACES[:, 2:] > 0.5, 0, logs))


def serve(members, on_top=graph.OnTop(), ranked=None):
    served = graph.Served(members, on_top, ranked or colour_export.ranked())
    found = served.serve(tf.constant(JPEGS), *(tf.constant(column) for column in PLACES.T))
    return {name: one.numpy() for name, one in found.items()}


def test_members_are_blended_corrected_and_placed():
    one, other, third = (colour_export.network(views, multiplier=by)
                         for views, by in (("none", 1), ("flip", 2), ("none", 0.5)))
    before = [np.float32([0.1, -0.5, 1.0]), np.float32([0.4, 0.0, -0.7])]
    columns = np.array([2, 0, 1])
    members = [graph.Member([one, third], 0.7, None, before[0]), graph.Member([other], 0.3, columns, before[1])]
    after = np.float32([0.0, 0.3, -0.2])
    found = serve(members, graph.OnTop(after, colour_export.place_logs, 1.5, True))

    first = np.log((np.exp(normal(logits())) + np.exp(normal(0.5 * logits()))) / 2)
    parts = [normal(first - before[0]), normal(normal(2 * logits())[:, columns] - before[1])]
    pictures = normal(np.log(0.7 * np.exp(parts[0]) + 0.3 * np.exp(parts[1])) - after)
    expected = np.where(np.isfinite(PLACES[:, :1]), normal(pictures + 1.5 * place_logs()), pictures)
    # (What flip adds is the mirror image, whose mean colour is the same.)
    np.testing.assert_allclose(found["probabilities"], np.exp(expected), atol=0.02)
    np.testing.assert_allclose(found["probabilities_without_place"], np.exp(pictures), atol=0.02)
    np.testing.assert_array_equal(found["classes"], np.argsort(-found["probabilities"], axis=1))


def test_a_gallery_takes_its_share_from_every_class():
    """The mean of the networks' shares by their weights, under the geo prior and in both kinds of probabilities."""
    one, other, third = (colour_export.network(views, multiplier=by)
                         for views, by in (("none", 1), ("flip", 2), ("none", 0.5)))
    members = [graph.Member([one, third], 0.7), graph.Member([other], 0.3, np.array([2, 0, 1]))]
    towards = np.random.default_rng(0).normal(0, 5, (3, 3, 3)).astype(np.float32)  # network, colour, share
    shares = [lambda features, by=by: tf.nn.softmax(features @ by) for by in towards]
    ranked = colour_export.ranked().with_individuals(["new", "newer"])
    on_top = graph.OnTop(place_logs=colour_export.place_logs, date=True, shares=[shares[:2], shares[2:]])
    plain, found = serve(members, graph.OnTop(place_logs=colour_export.place_logs, date=True)), serve(members, on_top, ranked)

    direction = logits() / np.linalg.norm(logits(), axis=1, keepdims=True)
    expected = sum(weight * special.softmax(direction @ by, axis=1) for weight, by in zip((0.35, 0.35, 0.3), towards))
    for kind in ("probabilities", "probabilities_without_place"):
        np.testing.assert_allclose(found[kind][:, 3:], expected[:, :2], atol=0.02)
        np.testing.assert_allclose(found[kind][:, :3], plain[kind] * expected[:, 2:], atol=0.02)
        np.testing.assert_allclose(found[kind].sum(axis=1), 1, atol=1e-5)
    assert np.ptp(expected[:, 2]) > 0.1
    np.testing.assert_array_equal(found["classes"], np.argsort(-found["probabilities"], axis=1))
    texts = np.array([b"r", b"g", b"b", b"new", b"newer"])
    np.testing.assert_array_equal(found["ids"], texts[found["classes"]])


def test_the_temperature_lies_on_the_blend_and_under_the_correction():
    members = [graph.Member([colour_export.network("none", multiplier=by)], weight) for by, weight in ((1, 0.6), (2, 0.4))]
    after = np.float32([0.0, 0.6, -0.4])
    found = serve(members, graph.OnTop(after, temperature=1.7))
    picture = np.log(0.6 * np.exp(normal(logits())) + 0.4 * np.exp(normal(2 * logits())))
    np.testing.assert_allclose(found["probabilities"], np.exp(normal(normal(picture / 1.7) - after)), atol=0.02)

    logs = np.float32([[-0.001, -3.0, 0.0, -60_000.0], [-0.7, -1e-7, -20.0, -2.0]])
    of_labels = graph.tempered(tf.constant(logs), 1.7, exclusive=False).numpy()
    np.testing.assert_allclose(of_labels, tasks.MULTI_LABEL.temper(logs, 1.7), rtol=1e-4, atol=1e-6)
    expected = special.expit(special.logit(np.exp(logs.astype(np.float64))[0, :2]) / 1.7)
    np.testing.assert_allclose(np.exp(of_labels[0, :2]), expected, rtol=1e-3)


def test_a_members_own_temperature_lies_under_its_weight_and_its_own_prior():
    before = np.float32([[0.0, 0.5, -0.2], [-0.3, 0.0, 0.4]])
    members = [graph.Member([colour_export.network("none", multiplier=by)], weight, None, prior, temperature)
               for by, weight, prior, temperature in zip((1, 2), (0.6, 0.4), before, (1.7, 0.4))]
    found = serve(members, graph.OnTop())
    expected = sum(weight * np.exp(normal(normal(by * logits() / temperature) - prior))
                   for by, weight, prior, temperature in zip((1, 2), (0.6, 0.4), before, (1.7, 0.4)))
    np.testing.assert_allclose(found["probabilities"], expected, atol=0.02)


def test_a_network_that_takes_places_is_asked_without_them_too():
    found = serve([graph.Member([colour_export.network(place_input=True)], 1.0)])
    north = np.isfinite(PLACES[:, 0]) & (PLACES[:, 0] > 0)
    shifted = logits() + np.outer(north, [0, 2, 0])
    np.testing.assert_allclose(found["probabilities"], np.exp(normal(shifted)), atol=0.02)
    np.testing.assert_allclose(found["probabilities_without_place"], np.exp(normal(logits())), atol=0.02)


@pytest.mark.parametrize("rule", [*open_set.RULES, "sum:1.7", "threshold:0.4"])
@pytest.mark.parametrize("known", [(True, False, False), (False, True, True), (False, True, False)])
def test_unknown_is_ranked_as_a_submission_ranks_it(rule, known):
    ranked = colour_export.ranked(known, rule)
    logs = np.log(np.random.default_rng(1).dirichlet([1, 1, 1], 50)).astype(np.float32)
    logs[:3] = np.log(np.float32(1 / 3))  # equals
    found = {name: one.numpy() for name, one in ranked(tf.constant(logs)).items()}
    np.testing.assert_array_equal(found["classes"], open_set.rank(logs, np.array(known), ranked.answers, rule))
    assert (np.diff(found["scores"], axis=1) <= 1e-6).all()
    texts = np.array([b"r", b"g", b"b", b"stranger"])
    np.testing.assert_array_equal(found["ids"], texts[found["classes"]])  # UNKNOWN, -1, is the last


def test_labels_from_a_threshold_on_are_answered_as_in_a_submission():
    allowed = np.array([True, False, True])
    ranked = colour_export.ranked(threshold=0.6, allowed=allowed)
    logs = np.log(np.random.default_rng(2).uniform(0.01, 1, (50, 3))).astype(np.float32)
    found = {name: one.numpy() for name, one in ranked(tf.constant(logs)).items()}
    rows = [classes[answered].tolist() for classes, answered in zip(found["classes"], found["answered"])]
    assert rows == multi_label.answers(np.where(allowed, logs, -np.inf), 0.6)


def test_where_it_looks_adds_up_to_what_it_says():
    """Behind global average pooling a class's logit is the mean over its map, and a bias that is every picture's."""
    built = classifiers.build("kecam/EfficientNetV2Tiny", 32, 3)
    random = np.random.default_rng(0)
    for variable in built.model.variables:  # as they begin, all pictures are the same to it
        spread = random.uniform(0.5, 1.5, variable.shape) if "variance" in variable.name else random.normal(
            0, 0.2, variable.shape)
        variable.assign(spread if "variance" in variable.name else variable + spread)
    record = {"same": {"model": "kecam/EfficientNetV2Tiny", "stages": {"all": {"antialias": True}}, "stage_order": ["all"]}}
    loaded = networks.Loaded(networks.Network("run", None, ("run/best",), "none", 32, record), built, None)
    look = looks.of([graph.Member([loaded], 1.0, columns=np.array([2, 0, 1]))])
    images = graph.pictures(tf.constant(JPEGS), 32, "squash", True, "none")[:, 0]
    said = built.model({"image": images, "place": tf.zeros([len(JPEGS), 3])}, training=False).numpy()[:, [2, 0, 1]]
    maps = [look(tf.constant(JPEGS), tf.fill([len(JPEGS)], one))["map"].numpy() for one in range(3)]
    assert maps[0].shape == (len(JPEGS), 128, 128)
    seen = np.stack([one.mean(axis=(1, 2)) for one in maps], axis=1)
    for one, other in ((0, 1), (1, 2)):
        logits_apart, evidence = (values[:, one] - values[:, other] for values in (said, seen))
        assert np.ptp(logits_apart) > 0.1
        np.testing.assert_allclose(evidence - evidence[0], logits_apart - logits_apart[0], atol=1e-3 * np.ptp(logits_apart))
