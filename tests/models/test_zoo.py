import dataclasses
import importlib
import inspect

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.models import zoo
from pipeline.models.scaling import IMAGENET_MEAN, IMAGENET_STD, MODES, Scaling

KECAM_EFFICIENTNET = "keras_cv_attention_models.efficientnet.efficientnet_v2"
KECAM_BEIT = "keras_cv_attention_models.beit.beit"
KECAM_RESNET = "keras_cv_attention_models.resnet_family.resnet_deep"
slow = pytest.mark.slow
PIXELS = np.random.RandomState(0).randint(0, 256, (2, 32, 32, 3)).astype(np.float32)


def test_unknown_name_lists_the_known():
    with pytest.raises(UserError, match="unknown model 'keras/b3'; known: .*keras/efficientnet-b3"):
        zoo.find("keras/b3")


def test_too_small():
    with pytest.raises(UserError, match="at least 32 px"):
        zoo.build_base("keras/efficientnet-tiny", 16)


def test_every_row_has_known_scalings():
    for name, spec in zoo.TABLE.items():
        assert {spec.scaling, *spec.weights.values()} <= set(MODES), name
        assert name.count("/") == 1


@pytest.mark.parametrize("name", [name for name in zoo.TABLE if name.lower().endswith("tiny")])
def test_tiny_bases(name):
    base = zoo.build_base(name, 64)
    again = zoo.build_base(name, 64)  # from:LAYER goes by the names
    assert [layer.name for layer in base.layers[1:]] == [layer.name for layer in again.layers[1:]]
    assert base.name == "base"
    assert base.count_params() < 200_000
    assert base.input_shape == (None, 64, 64, 3)
    assert base.output_shape == ((None, 48) if "Beit" in name else (None, 2, 2, base.output_shape[-1]))


def test_a_missing_library_is_told(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match="can't import efficientnet.tfkeras .*requirements.txt"):
        zoo.build_base("efficientnet/tiny", 32)


def test_lite0_is_relu6():
    activations = {
        tf.keras.activations.serialize(layer.activation)
        for layer in zoo.build_base("kecam/EfficientNetV1Lite0", 32).layers
        if isinstance(layer, tf.keras.layers.Activation)
    }
    assert activations <= {"relu6", "linear"} and "relu6" in activations


# What each library does with pixels, asked of the library.


def _kecam_rescale_mode(function, weights, monkeypatch):
    """rescale_mode of kecam's own model, built with its blocks emptied so that even the large ones take no time."""

    def no_file(*args, **kwargs):
        raise OSError("no network in tests")

    effnet, beit = importlib.import_module(KECAM_EFFICIENTNET), importlib.import_module(KECAM_BEIT)
    monkeypatch.setattr(effnet, "inverted_residual_block", lambda inputs, *args, **kwargs: inputs)
    monkeypatch.setattr(beit, "attention_mlp_block", lambda inputs, *args, **kwargs: inputs)
    monkeypatch.setattr("keras_cv_attention_models.aotnet.aotnet.aot_stack", lambda inputs, *args, **kwargs: inputs)
    monkeypatch.setattr(effnet.backend, "get_file", no_file)
    resnet = importlib.import_module(KECAM_RESNET)
    package = next(package for package in (effnet, resnet, beit) if hasattr(package, function) or package is beit)
    if function.startswith("EfficientNetV1"):
        package = importlib.import_module("keras_cv_attention_models.efficientnet")
    return getattr(package, function)(input_shape=(32, 32, 3), num_classes=0, pretrained=weights).rescale_mode


@pytest.mark.parametrize("name", [name for name in zoo.TABLE if name.startswith("kecam/") and "Tiny" not in name])
def test_kecam_scaling(name, monkeypatch, capsys):
    spec, function = zoo.find(name), name.split("/")[1]
    assert _kecam_rescale_mode(function, None, monkeypatch) == spec.scaling
    for weights, scaling in spec.weights.items():
        assert _kecam_rescale_mode(function, weights, monkeypatch) == scaling, weights


def test_kecam_weights_are_those_the_library_has():
    effnet, beit = importlib.import_module(KECAM_EFFICIENTNET), importlib.import_module(KECAM_BEIT)
    short = {"21k": "imagenet21k", "21k-ft1k": "imagenet21k-ft1k"}
    for variant, files in effnet.FILE_HASH_DICT.items():
        name = "kecam/EfficientNet" + variant.replace("-", "").upper()
        if name in zoo.TABLE:
            assert set(zoo.find(name).weights) == {short.get(kind, kind) for kind in files}, name
    for variant in ("base", "large"):
        weights = zoo.find(f"kecam/Beit{variant.title()}Patch16").weights
        assert set(weights) == set(beit.PRETRAINED_DICT[f"beit_{variant}_patch16"])
    resnet = importlib.import_module(KECAM_RESNET)
    assert set(zoo.find("kecam/ResNet152D").weights) == set(resnet.PRETRAINED_DICT["resnet152d"])
    assert not zoo.find("kecam/EfficientNetV1Lite0").weights


def test_efficientnet_weights_are_those_the_library_has():
    hashes = importlib.import_module("efficientnet.weights")
    for name in [n for n in zoo.TABLE if n.startswith("efficientnet/")]:
        variant = name.replace("/", "-")
        has = {"imagenet"} if variant in hashes.IMAGENET_WEIGHTS_HASHES else set()
        has |= {"noisy-student"} if variant in hashes.NS_WEIGHTS_HASHES else set()
        assert set(zoo.find(name).weights) == has, name


@pytest.mark.parametrize("variant", ["b0", "b3", "s", "m", "l"])
def test_keras_v2_scaling(variant):
    """The library's own preprocessing layers do what the table says; its general constructor goes by the name."""
    module = inspect.getmodule(tf.keras.applications.EfficientNetV2B0)
    model = module.EfficientNetV2(
        0.1, 0.1, 32, model_name=f"efficientnetv2-{variant}", include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    inside = tf.keras.Model(model.input, model.get_layer("stem_conv").input)(PIXELS)
    np.testing.assert_allclose(Scaling(zoo.find(f"keras/efficientnetv2-{variant}").scaling)(PIXELS), inside, atol=1e-5)


def test_keras_v1_is_the_same_with_and_without_imagenet(monkeypatch, tmp_path):
    """Against the library's own network of weights="imagenet", with a file that holds what the published ones hold."""
    module = inspect.getmodule(tf.keras.applications.EfficientNetB0)

    def theirs(weights):
        return module.EfficientNet(
            0.25, 0.25, 64, model_name="efficientnetb0", include_top=False, weights=weights, input_shape=(32, 32, 3)
        )

    path = str(tmp_path / "imagenet.h5")
    model = theirs(None)
    # The published files hold standard deviations where variances belong (tensorflow's issue 49930).
    model.get_layer(index=2).set_weights([np.array(IMAGENET_MEAN), np.array(IMAGENET_STD), np.array(0)])
    model.save_weights(path)
    monkeypatch.setattr(module.data_utils, "get_file", lambda *args, **kwargs: path)
    pretrained = theirs("imagenet")

    plain, ours = zoo.build_base("keras/efficientnet-tiny", 32), zoo._without_preprocessing(pretrained)
    names = [layer.name for layer in plain.layers[1:]]
    assert names == [layer.name for layer in ours.layers[1:]] == [layer.name for layer in model.layers[3:]]
    assert names == [layer.name for layer in pretrained.layers[4:]]  # a Rescaling more
    assert [w.shape for w in plain.weights] == [w.shape for w in ours.weights]
    np.testing.assert_allclose(ours(Scaling("torch")(PIXELS)), pretrained(PIXELS), atol=2e-5)


@pytest.mark.parametrize(
    "name,total,trainable",
    [
        # The 7 are the Normalization's mean, variance and count, which the base does without.
        pytest.param("keras/efficientnet-b0", 4_049_571 - 7, None, marks=slow),
        # Keras' own summary: 3,538,984 with 1,281,000 on top.
        ("keras/mobilenetv2", 3_538_984 - 1_281_000, None),
        # timm's efficientnet_lite0 is 4,652,008 with 1,281,000 on top; BatchNorm's statistics are B0's, 42,016.
        ("kecam/EfficientNetV1Lite0", 4_652_008 - 1_281_000 + 42_016, 4_652_008 - 1_281_000),
        pytest.param("keras/efficientnet-b3", 10_783_535 - 7, None, marks=slow),
        pytest.param("efficientnet/b0", 4_049_564, 5_288_548 - 1_281_000, marks=slow),
        pytest.param("kecam/EfficientNetV1B0", 4_049_564, 5_288_548 - 1_281_000, marks=slow),
        pytest.param("kecam/EfficientNetV1B3", 10_783_528, None, marks=slow),
        pytest.param("keras/efficientnetv2-b0", 5_919_312, None, marks=slow),
        pytest.param("kecam/EfficientNetV2B0", 5_919_312, None, marks=slow),
        pytest.param("keras/efficientnetv2-s", 20_331_360, None, marks=slow),
        pytest.param("kecam/EfficientNetV2S", 20_331_360, None, marks=slow),
        pytest.param("keras/resnet50", 23_587_712, None, marks=slow),
        pytest.param("keras/resnet152", 58_370_944, None, marks=slow),
        # torchvision's ResNet-152, 60,192,808, with three 3×3 convolutions and two norms for the one of 7×7.
        pytest.param("kecam/ResNet152D", None, 60_192_808 + 28_512 + 128 - 9_408 - 2_049_000, marks=slow),
        # With 1,000 classes on top 8,062,504, 14,307,880 and 20,242,984.
        pytest.param("keras/densenet121", 8_062_504 - 1_025_000, None, marks=slow),
        pytest.param("keras/densenet169", 14_307_880 - 1_665_000, None, marks=slow),
        pytest.param("keras/densenet201", 20_242_984 - 1_921_000, None, marks=slow),
        # timm's legacy_seresnet50 and legacy_seresnext101_32x4d, with 2,049,000 on top.
        pytest.param("image_classifiers/seresnet50", None, 28_088_024 - 2_049_000, marks=slow),
        pytest.param("image_classifiers/seresnext50", 27_628_120 - 2_049_000, 27_559_896 - 2_049_000, marks=slow),
        pytest.param("image_classifiers/seresnext101", None, 48_955_416 - 2_049_000, marks=slow),
        pytest.param("image_classifiers/senet154", 115_336_536 - 2_049_000, None, marks=slow),
        pytest.param("efficientnet/b7", 64_097_687 - 7, None, marks=slow),
        # timm's tf_efficientnetv2_xl (208,119,808) and tf_efficientnet_l2 (480,309,308) without their last layers.
        pytest.param("kecam/EfficientNetV2XL", None, 208_119_808 - 1_281_000, marks=slow),
        pytest.param("kecam/EfficientNetV1L2", None, 480_309_308 - 5_505_000, marks=slow),
        # timm's beit_base_patch16_224: 86,530,984 with 769,000 on top.
        pytest.param("kecam/BeitBasePatch16", 86_530_984 - 769_000, None, marks=slow),
    ],
)
def test_published_parameter_counts(name, total, trainable):
    base = zoo.build_base(name, 224 if "Beit" in name else 64)
    if total is not None:
        assert base.count_params() == total
    if trainable is not None:
        assert sum(int(np.prod(w.shape)) for w in base.trainable_weights) == trainable


@pytest.mark.parametrize("package, function", [(tf.keras.applications.DenseNet121.__module__, None),
                                               (tf.keras.applications.MobileNetV2.__module__, None),
                                               ("classification_models.tfkeras", "senet154"),
                                               ("classification_models.tfkeras", "seresnext50")])
def test_scaling_of_densenet_and_senet_is_the_libraries_own(package, function):
    module = importlib.import_module(package)
    preprocess = module.Classifiers.get(function)[1] if function else module.preprocess_input
    theirs = preprocess(PIXELS.copy())
    own = "keras/densenet121" if package.endswith("densenet") else "keras/mobilenetv2"
    name = f"image_classifiers/{function}" if function else own
    np.testing.assert_allclose(Scaling(zoo.find(name).scaling)(PIXELS), theirs, atol=1e-5)
    assert zoo.find(name).weights == {"imagenet": zoo.find(name).scaling}


# Feature maps


@pytest.mark.parametrize("name", [name for name in zoo.TABLE if name.lower().endswith("tiny")])
def test_what_the_head_judges_is_the_mean_of_the_feature_map(name):
    base = zoo.build_base(name, 64)
    both = zoo.with_feature_map(name, base)
    returned, features = both(Scaling(zoo.find(name).scaling)(np.tile(PIXELS, (1, 2, 2, 1))), training=False)
    side = 4 if "Beit" in name else 2
    assert features.shape == (2, side, side, base.output_shape[-1])
    if "Beit" not in name:
        np.testing.assert_array_equal(returned, features)


def test_beits_map_holds_its_tokens_by_place():
    """A picture of which one patch alone differs: without attention between tokens, one place of the map differs."""
    name = "kecam/BeitTiny"
    base = zoo.build_base(name, 64)
    for layer in base.layers:
        if layer.name.endswith("attn_gamma"):  # scales what attention adds
            layer.set_weights([np.zeros_like(array) for array in layer.get_weights()])
    image = np.zeros((1, 64, 64, 3), np.float32)
    changed = image.copy()
    changed[:, 16:32, 48:] = 1  # second row of patches, last column
    both = zoo.with_feature_map(name, base)
    differs = np.abs(both(image)[1] - both(changed)[1]).max(axis=(0, 3)) > 1e-6
    assert np.argwhere(differs).tolist() == [[1, 3]]


def test_a_network_without_a_feature_map_is_told(monkeypatch):
    spec = dataclasses.replace(zoo.find("kecam/BeitTiny"), feature_map=lambda base: base.output)
    monkeypatch.setattr(zoo, "TABLE", {"kecam/BeitTiny": spec})
    with pytest.raises(UserError, match="kecam/BeitTiny has no feature map"):
        zoo.with_feature_map("kecam/BeitTiny", zoo.build_base("kecam/BeitTiny", 32))


@slow
def test_efficientnet_l2():
    """The package's own drop connect would pass 1 here; as published it ends at 0.2."""
    base = zoo.build_base("efficientnet/l2", 32)
    assert sum(int(np.prod(w.shape)) for w in base.trainable_weights) == 480_309_308 - 5_505_000
    rates = [layer.rate for layer in base.layers if isinstance(layer, tf.keras.layers.Dropout)]
    assert max(rates) == pytest.approx(0.2 * 87 / 88, rel=0.02)
