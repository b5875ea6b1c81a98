"""One table: model name → how its base is built, and which input scaling its weights were trained with.

A new model is one more row of `TABLE`: a builder `(size, weights name or None) → tf.keras.Model` without a top, the
scaling for weights of one's own (none, .h5), and the library's own weights with the scaling of each.

What each library does with its input (read in keras 2.15.0, efficientnet 1.1.1, keras_cv_attention_models 1.4.3):

- keras.applications EfficientNet rescales and normalizes inside. The Normalization's mean and variance are weights: 0
  and 1 without pretrained weights (so the network would see x / 255), ImageNet's with `weights="imagenet"`. That file
  holds the standard deviations where variances belong, so the library adds a second Rescaling (by 1 / sqrt(std)) for
  "imagenet" only: layers, weights and arithmetic thus depend on `weights`, the statistics are kept in the compute
  dtype (bfloat16 under a mixed policy), and restoring a tf.train.Checkpoint does not refresh the constants made of
  them. Here these layers are cut off, in every case, and `Scaling("torch")`, which is what both steps amount to, takes
  their place: the base is the same whatever the weights, and has 7 parameters fewer (mean 3, variance 3, count 1).
- keras.applications EfficientNetV2 has `include_preprocessing=False`; inside it would do "torch" for B0–B3
  and x / 128 - 1 for S, M, L.
- keras.applications ResNet: its preprocess_input is "caffe"; DenseNet's is "torch", MobileNetV2's "tf".
- efficientnet: its preprocess_input is "torch" for imagenet and noisy-student alike. It has no weights for L2.
- keras_cv_attention_models: V1 "torch"; V2-B "torch" for imagenet and "tf" for imagenet21k and imagenet21k-ft1k; V2-S, M,
  L, XL and BEiT "tf" (its preprocess_input: x / 127.5 - 1); ResNet-D "torch". `model.rescale_mode` says so, and a test
  compares.
- image_classifiers (imported as classification_models), SE-ResNet, SE-ResNeXt and SENet: its preprocess_input is "torch".
  It makes each group of a grouped convolution a layer; ours has one for all (see grouped_convolution), and takes the
  weights of either form.
"""

import contextlib
import io
import math
import re
import sys
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional

import tensorflow as tf

from pipeline.errors import UserError, unknown
from pipeline.models import grouped_convolution, libraries, tiny
from pipeline.models.weights import layer_names, load_h5

Builder = Callable[[int, Optional[str]], tf.keras.Model]

MIN_SIZE = 32  # px; keras.applications refuses less
_FRAMES = 20_000  # of the Python stack; EfficientNet-L2 alone takes more than 900


@dataclass(frozen=True)
class ModelSpec:
    """A row of the table.

    build: (size in px, the library's weights name or None) → tf.keras.Model, [B, size, size, 3] scaled pixels →
        features, [B, h, w, C], or [B, C] where the network pools itself (BEiT).
    scaling: mode of `scaling.Scaling` for random weights and for an .h5 file.
    weights: the library's own weights → their scaling mode.
    any_size: whether weights of one size fit every other; where not, weights.copy_weights and load_h5 resize.
    feature_map: the base → the map [B, h, w, C] that its head judges the mean of.
    package_form: the builder of the network as its package has it, where ours has other layers.
    """

    build: Builder
    scaling: str
    weights: Mapping[str, str] = field(default_factory=dict)
    any_size: bool = True
    feature_map: Callable[[tf.keras.Model], tf.Tensor] = lambda base: base.output
    package_form: Optional[Builder] = None


def find(name: str) -> ModelSpec:
    """The row of `name`; an unknown name is a UserError that lists the known ones."""
    if name not in TABLE:
        raise unknown("model", name, TABLE)
    return TABLE[name]


def check_size(name: str, size: int) -> None:
    """Raises UserError for pictures of fewer pixels a side than the networks take."""
    if size < MIN_SIZE:
        raise UserError(f"{name} wants pictures of at least {MIN_SIZE} px, not {size}")


def build_base(name: str, size: int, weights: Optional[str] = None) -> tf.keras.Model:
    """The network without a top, named "base", with the library's own `weights` or random ones.

    Takes [B, size, size, 3] float32 pixels that went through the row's scaling.
    """
    check_size(name, size)
    _let_keras_recurse()
    # Layers without a name of their own are numbered on through the process; from:LAYER wants the same names every time.
    tf.keras.backend.reset_uids()
    model = find(name).build(size, weights)
    # The libraries name their models after the variant, and one of them looks weights up by it: renamed by wrapping.
    return tf.keras.Model(model.input, model.output, name="base")


def _let_keras_recurse() -> None:
    """Keras walks a network by recursion; the deepest leave little of Python's 1,000 frames to who calls."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _FRAMES))


def load_file(name: str, path: str, base: tf.keras.Model, head: Optional[tf.keras.layers.Layer] = None) -> bool:
    """weights.load_h5 for a base of the row `name`; the file may be one of the package's own form of it too."""
    package_form = find(name).package_form
    if package_form is None or layer_names(path) >= {layer.name for layer in base.layers if layer.weights}:
        return load_h5(path, base, head)
    tf.keras.backend.reset_uids()
    network = package_form(base.input_shape[1], None)
    has_head = load_h5(path, network, head)
    grouped_convolution.copy_weights(network, base)
    return has_head


def with_feature_map(name: str, base: tf.keras.Model) -> tf.keras.Model:
    """`base` with a second output: scaled pixels → (what base returns, its last feature map [B, h, w, C]).

    Raises UserError for a network without one.
    """
    features = find(name).feature_map(base)
    if features.shape.rank != 4:
        raise UserError(f"{name} has no feature map with a place for each value: {tuple(features.shape)}")
    return tf.keras.Model(base.input, [base.output, features], name="base_with_feature_map")


def _without_preprocessing(model: tf.keras.Model) -> tf.keras.Model:
    return tf.keras.Model(model.get_layer("stem_conv_pad").input, model.output)


def _keras(function: str, **arguments) -> Builder:
    def build(size: int, weights: Optional[str]) -> tf.keras.Model:
        application = getattr(tf.keras.applications, function)
        return application(include_top=False, weights=weights, input_shape=(size, size, 3), **arguments)

    return build


def _keras_v1(function: str) -> Builder:
    return lambda size, weights: _without_preprocessing(_keras(function)(size, weights))


def _efficientnet(function: str, **arguments) -> Builder:
    def build(size: int, weights: Optional[str]) -> tf.keras.Model:
        constructor = getattr(libraries.load("efficientnet.tfkeras"), function)
        return constructor(include_top=False, weights=weights, input_shape=(size, size, 3), **arguments)

    return build


class _Tee(io.StringIO):
    """Keeps what is printed and passes it on to the stdout of the moment it was made."""

    def __init__(self):
        super().__init__()
        self._stdout = sys.stdout

    def write(self, text: str) -> int:
        self._stdout.write(text)
        return super().write(text)

    def flush(self) -> None:
        self._stdout.flush()


def _kecam(family: str, function: str, **arguments) -> Builder:
    def build(size: int, weights: Optional[str]) -> tf.keras.Model:
        constructor = getattr(libraries.load(f"keras_cv_attention_models.{family}"), function)
        printed = _Tee()
        with contextlib.redirect_stdout(printed):
            model = constructor(input_shape=(size, size, 3), num_classes=0, pretrained=weights, **arguments)
        if weights is not None:
            _check_kecam_weights(model, weights, printed.getvalue())
        return model

    return build


def _check_kecam_weights(model: tf.keras.Model, weights: str, printed: str) -> None:
    # The library prints why it got no weights and goes on with random ones, and skips layers that don't fit.
    files = re.findall(r"Load pretrained from: (.+)", printed)
    if not files:
        raise ConnectionError(" ".join(re.findall(r"\[Error\] (.+)", printed)) or f"no file for {weights}")
    for file in files:
        load_h5(file.strip(), model)


def _image_classifiers(function: str) -> Builder:
    def build(size: int, weights: Optional[str]) -> tf.keras.Model:
        with grouped_convolution.one_layer_each():
            model = _image_classifiers_own(function)(size, None)
        if weights is not None:
            grouped_convolution.copy_weights(_image_classifiers_own(function)(size, weights), model)
        return model

    return build


def _image_classifiers_own(function: str) -> Builder:
    def build(size: int, weights: Optional[str]) -> tf.keras.Model:
        constructor, _ = libraries.load("classification_models.tfkeras").Classifiers.get(function)
        return constructor(include_top=False, weights=weights, input_shape=(size, size, 3))

    return build


def _patch_tokens(base: tf.keras.Model) -> tf.Tensor:
    """BEiT's patch tokens, without the class token, as a map: each normalized as their mean is at the end of the base."""
    mean, norm = base.layers[-2:]
    _, count, channels = mean.input.shape
    side = math.isqrt(count)
    tokens = norm(tf.reshape(mean.input, [-1, channels]))  # the layer was built for [B, channels]
    return tf.reshape(tokens, [-1, side, side, channels])


def _rows_keras() -> dict[str, ModelSpec]:
    rows = {
        f"keras/efficientnet-b{n}": ModelSpec(_keras_v1(f"EfficientNetB{n}"), "torch", {"imagenet": "torch"})
        for n in range(8)
    }
    rows["keras/efficientnet-tiny"] = ModelSpec(
        lambda size, weights: _without_preprocessing(tiny.keras_efficientnet(size, weights)), "torch")
    for variant in ("B0", "B1", "B2", "B3", "S", "M", "L"):
        build = _keras(f"EfficientNetV2{variant}", include_preprocessing=False)
        mode = "torch" if variant.startswith("B") else "tf128"
        rows[f"keras/efficientnetv2-{variant.lower()}"] = ModelSpec(build, mode, {"imagenet": mode})
    for depth in (50, 101, 152):
        rows[f"keras/resnet{depth}"] = ModelSpec(_keras(f"ResNet{depth}"), "caffe", {"imagenet": "caffe"})
    for depth in (121, 169, 201):
        rows[f"keras/densenet{depth}"] = ModelSpec(_keras(f"DenseNet{depth}"), "torch", {"imagenet": "torch"})
    rows["keras/mobilenetv2"] = ModelSpec(_keras("MobileNetV2"), "tf", {"imagenet": "tf"})
    for width in (0.35, 0.5, 0.75, 1.3, 1.4):
        rows[f"keras/mobilenetv2-{width}"] = ModelSpec(_keras("MobileNetV2", alpha=width), "tf", {"imagenet": "tf"})
    rows["keras/efficientnetv2-tiny"] = ModelSpec(tiny.keras_efficientnetv2, "torch")
    rows["keras/resnet-tiny"] = ModelSpec(tiny.keras_resnet, "caffe")
    rows["keras/densenet-tiny"] = ModelSpec(tiny.keras_densenet, "torch")
    return rows


def _rows_efficientnet() -> dict[str, ModelSpec]:
    weights = {"imagenet": "torch", "noisy-student": "torch"}
    rows = {f"efficientnet/b{n}": ModelSpec(_efficientnet(f"EfficientNetB{n}"), "torch", weights) for n in range(8)}
    # The package raises drop connect per block as if every network had B0's 16 blocks. In B7 it reaches 0.68 instead
    # of 0.2, left as the published solution ran it; L2 has 88 blocks and can't be built, as it would pass 1. Scaled
    # to end at 0.2.
    rows["efficientnet/l2"] = ModelSpec(_efficientnet("EfficientNetL2", drop_connect_rate=0.2 * 16 / 88), "torch")
    rows["efficientnet/tiny"] = ModelSpec(tiny.efficientnet, "torch")
    return rows


def _rows_kecam() -> dict[str, ModelSpec]:
    def efficientnet(function: str, scaling: str, weights: Mapping[str, str], **arguments) -> dict[str, ModelSpec]:
        return {f"kecam/{function}": ModelSpec(_kecam("efficientnet", function, **arguments), scaling, weights)}

    # The constructor's own default is swish, and the ReLU6 weights would load into it without a word.
    rows = efficientnet("EfficientNetV1Lite0", "torch", {}, activation="relu6")
    for n in range(8):
        rows |= efficientnet(f"EfficientNetV1B{n}", "torch", {"imagenet": "torch", "noisy_student": "torch"})
    rows |= efficientnet("EfficientNetV1L2", "torch", {"noisy_student": "torch"})
    from_21k = {"imagenet21k": "tf", "imagenet21k-ft1k": "tf"}
    for n in range(4):
        rows |= efficientnet(f"EfficientNetV2B{n}", "torch", {"imagenet": "torch", **from_21k})
    for variant in "SML":
        rows |= efficientnet(f"EfficientNetV2{variant}", "tf", {"imagenet": "tf", **from_21k})
    rows |= efficientnet("EfficientNetV2XL", "tf", from_21k)
    rows["kecam/ResNet152D"] = ModelSpec(_kecam("resnet_family", "ResNet152D"), "torch", {"imagenet": "torch"})
    small = dict(num_blocks=[1] * 4, out_channels=[32, 64, 64, 96], stem_width=16)
    rows["kecam/ResNetDTiny"] = ModelSpec(_kecam("resnet_family.resnet_deep", "ResNetD", **small), "torch")
    small = dict(out_channels=[8, 16, 16, 24, 24, 32], depthes=[1] * 6, first_conv_filter=8, output_conv_filter=128)
    rows["kecam/EfficientNetV2Tiny"] = ModelSpec(_kecam("efficientnet", "EfficientNetV2", **small), "torch")

    # BEiT's tables of relative positions grow with the picture. Without classes, its constructor still ends in its own
    # pooling: the mean over the patch tokens, without the class token, then LayerNormalization.
    for function in ("BeitBasePatch16", "BeitLargePatch16"):
        rows[f"kecam/{function}"] = ModelSpec(
            _kecam("beit", function), "tf", {"imagenet21k-ft1k": "tf"}, any_size=False, feature_map=_patch_tokens
        )
    small = dict(depth=2, embed_dim=48, num_heads=3, patch_size=16)
    rows["kecam/BeitTiny"] = ModelSpec(_kecam("beit", "Beit", **small), "tf", any_size=False, feature_map=_patch_tokens)
    return rows


def _rows_image_classifiers() -> dict[str, ModelSpec]:
    # SE-ResNeXt is the 32x4d.
    rows = {f"image_classifiers/{function}": ModelSpec(_image_classifiers(function), "torch", {"imagenet": "torch"},
                                                       package_form=_image_classifiers_own(function))
            for function in ("seresnet50", "seresnet101", "seresnet152", "seresnext50", "seresnext101", "senet154")}
    rows["image_classifiers/senet-tiny"] = ModelSpec(tiny.senet, "torch", package_form=tiny.senet_package_form)
    return rows


TABLE: Mapping[str, ModelSpec] = {**_rows_keras(), **_rows_efficientnet(), **_rows_kecam(), **_rows_image_classifiers()}
