"""Grouped convolutions: one layer in both of its forms, and what the package's own form of a network becomes."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

from pipeline.errors import UserError
from pipeline.models import classifier, grouped_convolution, zoo
from pipeline.models.scaling import Scaling
from pipeline.preflight.lowering import lower

RANDOM = np.random.default_rng(7)
FEATURES = RANDOM.normal(size=(2, 6, 5, 12)).astype(np.float32)
PIXELS = RANDOM.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
TINY = "image_classifiers/senet-tiny"


def by_definition(features, kernel, groups):
    """Each output value from its own group of channels alone, in float64; stride 1, no padding, a kernel of 3 × 3."""
    batch, height, width, channels = features.shape
    filters = kernel.shape[-1]
    outputs = np.zeros((batch, height - 2, width - 2, filters))
    for f in range(filters):
        group = f // (filters // groups)
        own = features[..., group * (channels // groups):(group + 1) * (channels // groups)].astype(np.float64)
        for y in range(height - 2):
            for x in range(width - 2):
                outputs[:, y, x, f] = np.sum(own[:, y:y + 3, x:x + 3] * kernel[..., f], axis=(1, 2, 3))
    return outputs


def built(**arguments):
    layer = grouped_convolution.GroupedConv2D(8, 3, groups=4, **arguments)
    layer.build(FEATURES.shape)
    return layer


@pytest.mark.parametrize("compiled", [False, True])
def test_each_group_sees_its_own_channels(compiled):
    layer = built(bias_initializer="ones", activation="relu")
    assert layer.kernel.shape == (3, 3, 3, 8)
    wanted = np.maximum(by_definition(FEATURES, layer.kernel.numpy(), 4) + 1, 0)
    call = tf.function(layer, jit_compile=compiled)
    np.testing.assert_allclose(layer(FEATURES), wanted, atol=1e-5)
    np.testing.assert_allclose(call(FEATURES), wanted, atol=1e-5)
    (batch,) = tf.data.Dataset.from_tensors(FEATURES).map(layer)
    np.testing.assert_allclose(batch, wanted, atol=1e-5)


def test_both_forms_have_the_same_gradients():
    layer = built(strides=2)

    def gradients(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            value = tf.reduce_sum(tf.sin(layer(features)))
        return tape.gradient(value, [features, *layer.trainable_weights])

    by_group = gradients(tf.constant(FEATURES))
    with grouped_convolution.traced_for_tpu():
        at_once = tf.function(gradients, jit_compile=True)(tf.constant(FEATURES))  # XLA alone has them on a CPU
    for one, other in zip(by_group, at_once):
        np.testing.assert_allclose(one, other, atol=1e-5)


def grouped_convolutions(program):
    module = hlo_pb2.HloModuleProto.FromString(program.serialized)
    return [instruction.feature_group_count for computation in module.computations
            for instruction in computation.instructions if instruction.opcode == "convolution"]


def test_a_tpu_gets_one_operation():
    layer = built()
    with grouped_convolution.traced_for_tpu():
        assert grouped_convolutions(lower(lambda x: layer(x), [tf.TensorSpec(FEATURES.shape)])) == [4]
    assert grouped_convolutions(lower(lambda x: layer(x), [tf.TensorSpec(FEATURES.shape)])) == [1] * 4


def shaken(network):
    """Other weights in every layer, BatchNorm's statistics too; none so large that a deep network overflows."""
    def other(weight):
        if weight.shape.rank > 1 or "variance" in weight.name:
            return weight * RANDOM.uniform(0.5, 1.5, weight.shape)
        return weight + 0.1 * RANDOM.standard_normal(weight.shape)

    for weight in network.weights:
        weight.assign(other(weight))
    return network


def packages_own(name, size):
    tf.keras.backend.reset_uids()
    return shaken(zoo.find(name).package_form(size, None))


@pytest.mark.parametrize("name", [TINY, pytest.param("image_classifiers/seresnext50", marks=pytest.mark.slow)])
@pytest.mark.parametrize("whole", [False, True])
def test_a_file_of_the_packages_own_form(name, whole, tmp_path):
    theirs, path = packages_own(name, 64), str(tmp_path / "theirs.h5")
    theirs.save(path) if whole else theirs.save_weights(path)
    ours = classifier.build(name, 64, 5, weights=path)
    scaled = Scaling("torch")(PIXELS)
    wanted = theirs(scaled).numpy()
    assert wanted.std() > 0
    np.testing.assert_allclose(ours.base(scaled), wanted, rtol=1e-4, atol=1e-4 * wanted.std())
    assert ours.base.count_params() == theirs.count_params()
    assert len(ours.base.layers) < len(theirs.layers)


def test_a_file_of_our_own(tmp_path):
    trained = classifier.build(TINY, 64, 5)
    shaken(trained.model)
    trained.model.save_weights(str(tmp_path / "ours.h5"))
    again = classifier.build(TINY, 64, 5, weights=str(tmp_path / "ours.h5"), seed=1)
    np.testing.assert_array_equal(again.model({"image": PIXELS}), trained.model({"image": PIXELS}))


def test_a_file_of_another_network_is_refused(tmp_path):
    path = str(tmp_path / "other.h5")
    zoo.build_base("keras/resnet-tiny", 64).save_weights(path)
    with pytest.raises(UserError, match=f"weights file {path} does not fit the model: "):
        classifier.build(TINY, 64, 5, weights=path)


@pytest.mark.slow
def test_the_librarys_own_weights_reach_ours(monkeypatch):
    """The package's files are out of reach here: its loader is stood in for by one that sets known weights."""
    from classification_models.models import senet

    loaded = []
    monkeypatch.setattr(senet, "load_model_weights", lambda model, *_, **__: loaded.append(shaken(model)))
    base = zoo.build_base("image_classifiers/seresnext50", 64, "imagenet")
    scaled = Scaling("torch")(PIXELS)
    wanted = loaded[0](scaled).numpy()
    np.testing.assert_allclose(base(scaled), wanted, rtol=1e-4, atol=1e-4 * wanted.std())
