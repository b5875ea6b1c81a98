import importlib
import inspect
import os

import h5py
import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from pipeline.errors import UserError
from pipeline.models import weights as weights_from
from pipeline.models import zoo
from pipeline.models.classifier import build
from pipeline.models.scaling import IMAGENET_MEAN

TINY = "kecam/EfficientNetV2Tiny"
PIXELS = np.random.RandomState(0).randint(0, 256, (2, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory):
    """kecam's own small network with its own head of 5 classes: (model, weights file, whole-model file)."""
    from keras_cv_attention_models import efficientnet

    folder = tmp_path_factory.mktemp("weights")
    tf.keras.utils.set_random_seed(11)
    model = efficientnet.EfficientNetV2(
        out_channels=[8, 16, 16, 24, 24, 32], depthes=[1] * 6, first_conv_filter=8, output_conv_filter=128,
        input_shape=(32, 32, 3), num_classes=5, pretrained=None, classifier_activation=None,
    )
    random = np.random.RandomState(0)
    model.set_weights([np.abs(w + 0.1 * random.randn(*w.shape)) for w in model.get_weights()])
    model.save_weights(str(folder / "weights.h5"))
    model.save(str(folder / "whole.h5"))
    return model, str(folder / "weights.h5"), str(folder / "whole.h5")


def _copy_without(source, target, layers):
    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        for name in old:
            if name not in layers:
                old.copy(name, new)
        for key, value in old.attrs.items():
            new.attrs[key] = value
        new.attrs["layer_names"] = [n for n in old.attrs["layer_names"] if n not in layers]


@pytest.mark.parametrize("kind", [1, 2])
def test_library_model_to_ours_with_its_head(tiny_files, kind):
    theirs, path = tiny_files[0], tiny_files[kind]
    built = build(TINY, 32, 5, weights=path)
    pixels = theirs.preprocess_input(PIXELS)
    np.testing.assert_allclose(built.model({"image": PIXELS}), theirs(pixels), rtol=1e-4, atol=1e-4)


def test_other_class_count_leaves_the_head_out_and_says_so(tiny_files, caplog):
    logging.use_absl_handler()
    random_head = build(TINY, 32, 6).head.get_weights()
    with caplog.at_level("INFO", logger="absl"):
        built = build(TINY, 64, 6, weights=tiny_files[1])
    np.testing.assert_array_equal(built.head.kernel, random_head[0])
    stem = tiny_files[0].get_layer("stem_conv").get_weights()[0]
    np.testing.assert_array_equal(built.base.get_layer("stem_conv").kernel, stem)
    assert "head predictions of weights file" in caplog.text and "left out" in caplog.text


def test_headless_file(tiny_files, tmp_path):
    path = str(tmp_path / "notop.h5")
    _copy_without(tiny_files[1], path, ["predictions"])
    base = zoo.build_base(TINY, 32)
    head = tf.keras.layers.Dense(5)
    head.build((None, 128))
    assert weights_from.load_h5(path, base, head) is False
    assert weights_from.load_h5(tiny_files[1], base, head) is True


def test_missing_layer_is_named(tiny_files, tmp_path):
    path = str(tmp_path / "cut.h5")
    _copy_without(tiny_files[1], path, ["stack_2_block0_MB_pw_bn"])
    with pytest.raises(UserError, match=f"{path} does not fit the model: stack_2_block0_MB_pw_bn is not in the file$"):
        build(TINY, 32, 5, weights=path)


def test_last_base_layer_missing(tiny_files, tmp_path):
    path = str(tmp_path / "cut.h5")
    _copy_without(tiny_files[1], path, ["post_conv", "post_bn"])
    with pytest.raises(UserError, match="post_conv is not in the file; post_bn is not in the file$"):
        build(TINY, 32, 5, weights=path)


def test_other_shapes_and_names_are_listed_shortly(tiny_files):
    with pytest.raises(UserError, match=r"does not fit the model: block1a_.*; .* and \d+ more$") as caught:
        build("keras/efficientnet-tiny", 32, 5, weights=tiny_files[1])
    assert str(caught.value).count(";") == 7
    assert "block1a_dwconv is not in the file" in str(caught.value)


def test_a_deeper_network_is_refused(tiny_files, tmp_path):
    """A shallow base would find all its layers in the file of a deeper one of the same width."""
    deeper = zoo._kecam(
        "efficientnet", "EfficientNetV2",
        out_channels=[8, 16, 16, 24, 24, 32], depthes=[1, 2, 1, 1, 1, 1], first_conv_filter=8, output_conv_filter=128,
    )(32, None)
    deeper.save_weights(str(tmp_path / "deeper.h5"))
    with pytest.raises(UserError, match="stack_1_block1_.* is not in the model"):
        build(TINY, 32, 5, weights=str(tmp_path / "deeper.h5"))


def test_own_classifier_file_with_place_branch(tmp_path):
    path = str(tmp_path / "own.h5")
    first = build(TINY, 32, 5, place_input=True, seed=1)
    first.model.save_weights(path)
    same = build(TINY, 64, 5, place_input=True, seed=2, weights=path)
    for a, b in zip(first.base.get_weights() + first.head.get_weights(),
                    same.base.get_weights() + same.head.get_weights()):
        np.testing.assert_array_equal(a, b)
    without_place = build(TINY, 64, 5, seed=2, weights=path)  # its head has 4 inputs fewer
    np.testing.assert_array_equal(without_place.base.get_weights()[0], first.base.get_weights()[0])


def test_file_of_keras_efficientnet_with_its_normalization(tmp_path, caplog):
    logging.use_absl_handler()
    module = inspect.getmodule(tf.keras.applications.EfficientNetB0)
    model = module.EfficientNet(0.25, 0.25, 64, weights=None, input_shape=(32, 32, 3), classes=5)
    model.get_layer(index=2).set_weights([np.array(IMAGENET_MEAN), np.ones(3), np.array(0)])
    path = str(tmp_path / "theirs.h5")
    model.save_weights(path)
    with caplog.at_level("WARNING"):
        built = build("keras/efficientnet-tiny", 32, 5, weights=path)
    assert "normalizes" not in caplog.text
    # Variance 1: the library's model computes (x / 255 - mean), and our base is fed with that by hand.
    features = tf.reduce_mean(built.base(PIXELS.astype(np.float32) / 255 - np.array(IMAGENET_MEAN, np.float32)), (1, 2))
    np.testing.assert_allclose(tf.nn.softmax(built.head(features)), model(PIXELS), rtol=1e-4, atol=1e-5)

    model.get_layer(index=2).set_weights([np.zeros(3), np.ones(3), np.array(0)])
    model.save_weights(path)
    with caplog.at_level("WARNING"):
        weights_from.load_h5(path, built.base)
    assert "normalizes its input inside" in caplog.text


def test_wrong_files(tiny_files, tmp_path):
    with pytest.raises(UserError, match="no weights file .*nowhere.h5"):
        build(TINY, 32, 5, weights=str(tmp_path / "nowhere.h5"))
    os.mkdir(tmp_path / "folder.h5")
    with pytest.raises(UserError, match="no weights file .*folder.h5"):
        build(TINY, 32, 5, weights=str(tmp_path / "folder.h5"))
    text = tmp_path / "text.h5"
    text.write_text("not HDF5")
    with pytest.raises(UserError, match="text.h5 is not a whole HDF5 file"):
        build(TINY, 32, 5, weights=str(text))
    empty = str(tmp_path / "empty.h5")
    h5py.File(empty, "w").close()
    with pytest.raises(UserError, match="empty.h5 lists no Keras layers"):
        build(TINY, 32, 5, weights=empty)
    truncated = tmp_path / "truncated.h5"
    with open(tiny_files[1], "rb") as file:
        truncated.write_bytes(file.read()[:100_000])
    with pytest.raises(UserError, match="truncated.h5 is not a whole HDF5 file"):
        build(TINY, 32, 5, weights=str(truncated))


def test_file_in_a_bucket(tiny_files):
    with open(tiny_files[1], "rb") as file, tf.io.gfile.GFile("ram://tiny.h5", "wb") as target:
        target.write(file.read())
    built = build(TINY, 32, 5, weights="ram://tiny.h5")
    np.testing.assert_array_equal(built.head.kernel, tiny_files[0].get_layer("predictions").kernel)


def test_long_lists_of_names_are_cut_into_chunks(tmp_path):
    """Keras splits attributes above 64 KB; written as its own writer does."""
    names = [f"a_rather_long_name_of_a_layer_that_keras_might_make_{i}" for i in range(2000)]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for i, chunk in enumerate(np.array_split(names, 3)):
            file.attrs[f"layer_names{i}"] = [n.encode() for n in chunk]
        assert weights_from._names(file, "layer_names") == names


# Names of weights.


def test_resolve():
    spec = zoo.find("kecam/EfficientNetV1B0")
    resolve = weights_from.resolve
    assert resolve("m", spec, "none") == weights_from.Source(None, None, "torch")
    assert resolve("m", spec, "noisy-student").library == "noisy_student"
    assert resolve("m", zoo.find("efficientnet/b0"), "noisy_student").library == "noisy-student"
    assert resolve("m", zoo.find("kecam/EfficientNetV2B0"), "imagenet21k-ft1k").scaling == "tf"
    assert resolve("m", zoo.find("kecam/EfficientNetV2B0"), "imagenet").scaling == "torch"
    assert resolve("m", zoo.find("keras/resnet50"), "x/y.h5") == weights_from.Source(None, "x/y.h5", "caffe")
    with pytest.raises(UserError, match="unknown weights 'imagnet' for m; known: none, imagenet, noisy_student, or "):
        resolve("m", spec, "imagnet")


# Downloads, without any network: the libraries' get_file is replaced.


def _no_blocks(monkeypatch):
    """Networks of a stem and a top only, so that building the real variants takes no time."""
    keras_module = inspect.getmodule(tf.keras.applications.EfficientNetB0)
    monkeypatch.setattr(keras_module, "block", lambda x, *args, **kwargs: x)
    for module, function in (
        ("keras_cv_attention_models.efficientnet.efficientnet_v2", "inverted_residual_block"),
        ("efficientnet.model", "mb_conv_block"),
    ):
        monkeypatch.setattr(importlib.import_module(module), function, lambda x, *args, **kwargs: x)


def _unreachable(*args, **kwargs):
    raise Exception("URL fetch failure on https://…: None -- no network in tests")


@pytest.fixture
def offline(monkeypatch):
    from keras_cv_attention_models import backend

    monkeypatch.setattr(backend, "get_file", _unreachable)
    module = inspect.getmodule(tf.keras.applications.EfficientNetB0)
    monkeypatch.setattr(module.data_utils, "get_file", _unreachable)
    monkeypatch.setattr(tf.keras.utils, "get_file", _unreachable)
    _no_blocks(monkeypatch)


@pytest.mark.parametrize("name", ["keras/efficientnet-b0", "efficientnet/b0", "kecam/EfficientNetV2B0"])
def test_failed_download(name, offline):
    with pytest.raises(UserError, match=f"could not download weights 'imagenet' of {name} .*--weights=none"):
        build(name, 32, 5, weights="imagenet")


def test_other_errors_pass_the_download_guard():
    with pytest.raises(ZeroDivisionError), weights_from.download("m", "imagenet"):
        1 / 0
    with pytest.raises(UserError, match="could not download"), weights_from.download("m", "imagenet"):
        raise ValueError("Incomplete or corrupted file detected. The md5 file hash does not match the provided value")


def test_kecam_download_that_does_not_fit(tiny_files, monkeypatch):
    """The library itself would skip what does not fit, without a word."""
    from keras_cv_attention_models import backend

    monkeypatch.setattr(backend, "get_file", lambda *args, **kwargs: tiny_files[1])
    _no_blocks(monkeypatch)
    with pytest.raises(UserError, match="does not fit the model"):
        build("kecam/EfficientNetV2B0", 32, 5, weights="imagenet")


# BEiT's tables of relative positions.


def test_beit_at_another_size(tmp_path):
    small, large = build("kecam/BeitTiny", 64, 5, seed=1), build("kecam/BeitTiny", 96, 5, seed=2)
    table = small.base.get_layer("block0_attn_pos_emb")
    assert table.weights[0].shape == (3, 7 * 7 + 3)
    slope = np.add.outer(np.arange(7), np.zeros(7)).ravel()  # linear in height, so bilinear resizing keeps it linear
    table.set_weights([np.tile(np.concatenate([slope, [50, 60, 70]]), (3, 1))])
    path = str(tmp_path / "beit.h5")
    small.base.save_weights(path)
    weights_from.load_h5(path, large.base)
    loaded = large.base.get_layer("block0_attn_pos_emb").get_weights()[0]
    assert loaded.shape == (3, 11 * 11 + 3)
    np.testing.assert_allclose(loaded[:, -3:], [[50, 60, 70]] * 3)
    grid = loaded[0, :-3].reshape(11, 11)
    assert (np.diff(grid, axis=0) >= 0).all() and np.ptp(grid, axis=1).max() < 1e-5
    other = build("kecam/BeitTiny", 96, 5, seed=3)
    weights_from.copy_weights(small.base, other.base)
    for a, b in zip(large.base.get_weights(), other.base.get_weights()):
        np.testing.assert_array_equal(a, b)


# The real file.


@pytest.fixture(scope="module")
def picture():
    yy, xx = np.mgrid[:64, :64]
    return np.stack([4 * yy, 4 * xx, 128 + 127 * np.sin(yy / 5) * np.cos(xx / 7)], -1)[None].astype(np.uint8)


def _kecam_lite0(path, **arguments):
    from keras_cv_attention_models import efficientnet

    arguments |= dict(input_shape=(64, 64, 3), pretrained=None, classifier_activation=None)
    model = efficientnet.EfficientNetV1Lite0(**arguments)
    model.load_weights(str(path))
    return model


def test_lite0_against_its_library(lite0_weights, picture):
    """Nothing is missing, and our chain from raw bytes equals kecam's own model with its own preprocessing and head."""
    theirs = _kecam_lite0(lite0_weights, activation="relu6")
    built = build("kecam/EfficientNetV1Lite0", 64, 1000, weights=str(lite0_weights))
    expected = theirs(theirs.preprocess_input(picture))
    np.testing.assert_allclose(built.model({"image": picture}), expected, rtol=1e-3, atol=1e-3)
    for layer in built.base.layers + [built.head]:
        name = "predictions" if layer is built.head else layer.name
        for ours, other in zip(layer.get_weights(), theirs.get_layer(name).get_weights() if layer.weights else []):
            np.testing.assert_array_equal(ours, other)


@pytest.mark.slow
def test_lite0_weights_in_a_swish_network_compute_something_else(lite0_weights, picture):
    """The trap: kecam's default activation takes the file without a word."""
    relu6, swish = _kecam_lite0(lite0_weights, activation="relu6"), _kecam_lite0(lite0_weights)
    pixels = relu6.preprocess_input(picture)
    assert np.abs(swish(pixels) - relu6(pixels)).max() > 1


@pytest.mark.slow
def test_lite0_weights_do_not_fit_b0(lite0_weights):
    """The same widths, but B0 has squeeze-excitation."""
    with pytest.raises(UserError, match="does not fit the model: .*stack_0_block0_se_1_conv is not in the file"):
        build("kecam/EfficientNetV1B0", 32, 1000, weights=str(lite0_weights))
