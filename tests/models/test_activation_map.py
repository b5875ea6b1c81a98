"""Class activation maps against NumPy, from the network's own layers."""

import numpy as np
import pytest
from scipy import special
import tensorflow as tf

from pipeline.models import activation_map, classifier as classifiers

CLASSES = 3


def mapped(name, seed=0, **changes):
    built = classifiers.build(name, 64, CLASSES, base_training=False, seed=seed, **changes)
    # An untrained network's features may be tiny: a head that makes logits of about 1 of them, and has a bias.
    scale = 1 / by_hand(built, batch()["image"][:, 0], np.zeros((4, 3), np.float32))[1].std()
    rng, (kernel, bias) = np.random.default_rng(seed), built.head.get_weights()
    built.head.set_weights([rng.normal(0, scale / np.sqrt(len(kernel)), kernel.shape), rng.normal(0, 1, bias.shape)])
    return built, activation_map.MapModel(built, name)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (4, 1, 64, 64, 3), dtype=np.uint8)
    images[:, :, 20:40, 30:60] = rng.integers(0, 256, (4, 1, 1, 1, 3))
    return {"image": tf.constant(images), "place": tf.constant(rng.uniform(-1, 1, (4, 3)), tf.float32)}


def by_hand(built, images, places):
    """Logits and base features of [B, 64, 64, 3], by calling the layers one by one."""
    features = built.base(built.model.get_layer("scaling")(tf.constant(images)), training=False).numpy()
    pooled = features.mean(axis=(1, 2))
    if built.place is not None:
        pooled = np.concatenate([pooled, built.place(places, training=False)], axis=1)
    kernel, bias = built.head.get_weights()
    return pooled @ kernel + bias, features


@pytest.mark.parametrize("name, changes", [
    ("image_classifiers/senet-tiny", {}), ("image_classifiers/senet-tiny", {"place_input": True}),
    ("keras/efficientnet-tiny", {})])
def test_map_class_and_score_are_numpys(name, changes):
    built, model = mapped(name, **changes)
    given = batch()
    places = given["place"].numpy()
    grids, classes, scores = (one.numpy() for one in tf.function(activation_map.make_step([model]))(given))
    sides = {True: given["image"].numpy()[:, 0], False: given["image"].numpy()[:, 0, :, ::-1]}
    by_side = {straight: by_hand(built, images, places) for straight, images in sides.items()}
    probabilities = np.mean([special.softmax(logits, axis=1) for logits, _ in by_side.values()], axis=0)
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))
    np.testing.assert_allclose(scores, probabilities.max(axis=1), rtol=1e-4)
    kernel = built.head.get_weights()[0]
    kernel = kernel - kernel.mean(axis=1, keepdims=True)
    for index, grid in enumerate(grids):
        expected = 0
        for straight, (_, features) in by_side.items():
            evidence = np.einsum("hwc,c->hw", features[index], kernel[:features.shape[-1], classes[index]])
            expected = expected + (evidence if straight else evidence[:, ::-1]) / 2
        assert grid.shape == (activation_map.GRID, activation_map.GRID)
        centres = activation_map.GRID // 4, 3 * activation_map.GRID // 4  # of the map's 2 × 2 places, between two pixels
        for i in range(2):
            for j in range(2):
                around = grid[centres[i] - 1:centres[i] + 1, centres[j] - 1:centres[j] + 1].mean()
                assert around == pytest.approx(expected[i, j], rel=0.02, abs=0.02 * float(np.abs(expected).max()))


def test_the_evidences_mean_is_the_logit_beyond_the_mean_of_all():
    built, model = mapped("keras/efficientnet-tiny")
    image = batch()["image"][:, 0]
    logits, features = model({"image": image, "place": tf.zeros([4, 3])})
    classes = tf.constant([0, 1, 2, 1])
    evidence = model.evidence(features, classes).numpy()
    without_bias = logits.numpy() - built.head.get_weights()[1]
    expected = without_bias[range(4), classes] - without_bias.mean(axis=1)
    np.testing.assert_allclose(evidence.mean(axis=(1, 2)), expected, rtol=1e-3, atol=1e-5)


def test_several_models_give_the_mean():
    models = [mapped("image_classifiers/senet-tiny", seed=seed) for seed in (1, 2)]
    given = batch()
    both = activation_map.make_step([model for _, model in models])(given)
    classes = both[1].numpy()
    alone = [model({"image": given["image"][:, 0], "place": given["place"]}) for _, model in models]
    mirrored = [model({"image": given["image"][:, 0, :, ::-1], "place": given["place"]}) for _, model in models]
    probabilities = np.mean([special.softmax(logits, axis=1) for logits, _ in alone + mirrored], axis=0)
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))
    evidences = [model.evidence(features, both[1]).numpy() for (_, model), (_, features) in zip(models, alone)]
    evidences += [model.evidence(features, both[1]).numpy()[:, :, ::-1]
                  for (_, model), (_, features) in zip(models, mirrored)]
    np.testing.assert_allclose(both[0].numpy().mean(axis=(1, 2)), np.mean(evidences, axis=(0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_beits_map_has_a_place_for_each_token():
    built = classifiers.build("kecam/BeitTiny", 64, CLASSES, base_training=False)
    model = activation_map.MapModel(built, "kecam/BeitTiny")
    given = batch()
    grids, classes, _ = tf.function(activation_map.make_step([model]))(given)
    logits, features = model({"image": given["image"][:, 0], "place": given["place"]})
    assert features.shape == [4, 4, 4, 48] and grids.shape == [4, 128, 128]
    expected = built.model({"image": given["image"][:, 0]}, training=False)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_the_step_compiles():
    _, model = mapped("keras/efficientnet-tiny")
    plain, compiled = (tf.function(activation_map.make_step([model]), jit_compile=jit)(batch()) for jit in (False, True))
    for one, other in zip(plain, compiled):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
