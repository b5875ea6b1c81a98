"""The smallest network of each family whose package has no argument for it: for tests, at 32 px and up.

Each is (size in px, weights, of which there are none) → tf.keras.Model without a top, with strides of 32 in all.
"""

import inspect
from typing import Optional

import tensorflow as tf

from pipeline.models import grouped_convolution, libraries


def _general(public: str, name: str):
    """A general constructor, which is not in the public namespace; the module of a public one has it under any Keras 2."""
    return getattr(inspect.getmodule(getattr(tf.keras.applications, public)), name)


def keras_efficientnet(size: int, weights: Optional[str]) -> tf.keras.Model:
    return _general("EfficientNetB0", "EfficientNet")(
        0.25, 0.25, 64, include_top=False, weights=weights, input_shape=(size, size, 3))


def keras_efficientnetv2(size: int, weights: Optional[str]) -> tf.keras.Model:
    return _general("EfficientNetV2B0", "EfficientNetV2")(
        0.25, 0.25, 64, model_name="efficientnetv2-b0", include_top=False, weights=weights, input_shape=(size, size, 3),
        include_preprocessing=False)


def keras_resnet(size: int, weights: Optional[str]) -> tf.keras.Model:
    stack = _general("ResNet50", "stack1")

    def stages(x):
        for number, filters in enumerate((4, 6, 8, 12)):
            x = stack(x, filters, 1, stride1=2 if number else 1, name=f"conv{number + 2}")
        return x

    return _general("ResNet50", "ResNet")(stages, preact=False, use_bias=True, include_top=False, weights=weights,
                                          input_shape=(size, size, 3))


def keras_densenet(size: int, weights: Optional[str]) -> tf.keras.Model:
    return _general("DenseNet121", "DenseNet")([1, 1, 1, 1], include_top=False, weights=weights, input_shape=(size, size, 3))


def efficientnet(size: int, weights: Optional[str]) -> tf.keras.Model:
    libraries.load("efficientnet.tfkeras")  # registers its activation and dropout for loading
    package = libraries.load("efficientnet")
    constructor = package.inject_tfkeras_modules(libraries.load("efficientnet.model").EfficientNet)
    return constructor(0.25, 0.25, 64, include_top=False, weights=weights, input_shape=(size, size, 3))


def senet(size: int, weights: Optional[str]) -> tf.keras.Model:
    with grouped_convolution.one_layer_each():
        return senet_package_form(size, weights)


def senet_package_form(size: int, weights: Optional[str]) -> tf.keras.Model:
    module = libraries.load("classification_models.models.senet")
    factory = libraries.load("classification_models.tfkeras").Classifiers
    parameters = module.ModelParams("senet_tiny", repetitions=(1, 1, 1, 1), residual_block=module.SEBottleneck, groups=4,
                                    reduction=4, init_filters=4, input_3x3=True, dropout=None)
    return factory.inject_submodules(module.SENet)(parameters, include_top=False, weights=weights,
                                                   input_shape=(size, size, 3))
