"""Masks of dropout and drop-connect are a function of (seed, step) for every library's layers."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.models import classifier as classifiers, draws

STATEFUL = {"RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "Multinomial", "RandomGamma",
            "StatefulUniform", "StatefulStandardNormalV2", "RngReadAndSkip", "RandomShuffle"}
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)


def trained_at(built):
    """(seed, step) → logits in training mode."""

    @tf.function
    def logits(seed, step):
        with draws.seeded(draws.step_seed(3, step) + seed):
            return built.model({"image": PIXELS}, training=True)

    return logits


def of_all_functions(function):
    graph = function.get_concrete_function(tf.constant(0, tf.int64), tf.constant(0, tf.int64)).graph.as_graph_def()
    return {node.op for nodes in [graph.node, *(one.node_def for one in graph.library.function)] for node in nodes}


@pytest.mark.parametrize("name", ["kecam/EfficientNetV2Tiny", "kecam/BeitTiny",
                                  *(pytest.param(name, marks=pytest.mark.slow) for name in
                                    ("keras/efficientnet-tiny", "efficientnet/tiny", "keras/efficientnetv2-tiny"))])
def test_a_mask_is_a_function_of_seed_and_step(name):
    built = classifiers.build(name, 32, 3, dropout=0.3, channel_dropout=0.0 if "Beit" in name else 0.3)
    logits = trained_at(built)
    assert not of_all_functions(logits) & STATEFUL
    at = lambda seed, step: logits(tf.constant(seed, tf.int64), tf.constant(step, tf.int64)).numpy()
    first = at(0, 5)
    assert (at(0, 6) != first).any() and (at(1, 5) != first).any()
    other = classifiers.build(name, 32, 3, dropout=0.3, channel_dropout=0.0 if "Beit" in name else 0.3)
    other.model.set_weights(built.model.get_weights())
    for model in (built, other):  # BatchNorm's training statistics are of the batch, so the moving ones don't matter
        again = trained_at(model)
        np.testing.assert_array_equal(again(tf.constant(0, tf.int64), tf.constant(5, tf.int64)), first)


def test_layers_draw_differently_and_about_as_often_as_asked():
    layers = [tf.keras.layers.Dropout(0.25), tf.keras.layers.Dropout(0.25, noise_shape=(None, 1)),
              tf.keras.layers.GaussianNoise(1.0)]
    image = tf.keras.Input((400,))
    nn = image
    for layer in layers:
        nn = layer(nn)
    model = tf.keras.Model(image, nn)
    draws.by_step(model)
    ones = tf.ones([400, 400])
    with draws.seeded(draws.step_seed(1, tf.constant(2))):
        whole, rows, noise = (layer(ones, training=True).numpy() for layer in layers)
        np.testing.assert_array_equal(layers[0](ones, training=True), whole)
    assert abs((whole == 0).mean() - 0.25) < 0.01 and set(np.unique(whole)) == {0, np.float32(1 / 0.75)}
    assert (rows == rows[:, :1]).all() and abs((rows[:, 0] == 0).mean() - 0.25) < 0.1
    assert ((whole[:, 0] == 0) != (rows[:, 0] == 0)).any() and abs(noise.std() - 1) < 0.01
    free = [layers[0](ones, training=True).numpy() for _ in range(2)]  # outside of a step Keras draws
    assert (free[0] != free[1]).any()


def test_checkpoints_hold_no_generator(tmp_path):
    built = classifiers.build("kecam/EfficientNetV2Tiny", 32, 3, dropout=0.3)
    assert not [name for name in tf.train.Checkpoint(model=built.model)._trackable_children() if "random" in name]
    path = tf.train.Checkpoint(model=built.model).write(str(tmp_path / "ckpt"))
    assert not [name for name, _ in tf.train.list_variables(path) if "random" in name]
