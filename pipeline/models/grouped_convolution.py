"""A grouped convolution as one layer, where the package image_classifiers makes a layer of each of its groups.

SENet-154 has 7,327 layers in the package's form and takes a minute to build, and a TPU's compiler was still busy with
SE-ResNeXt-50's step after ten minutes. As one layer a TPU and a GPU get one operation, and SENet-154 is compiled within
ten. TensorFlow has no gradient of that operation on a CPU, and XLA's was 36 times slower than group after group there,
which is what a CPU gets: the same kernel, divided.
"""

import contextlib
from typing import Iterator

import numpy as np
import tensorflow as tf

from pipeline.models import libraries

_for_tpu = False  # while preflight traces on a CPU what a TPU would run


@contextlib.contextmanager
def traced_for_tpu() -> Iterator[None]:
    """What is traced inside gets a TPU's form, wherever it is traced."""
    global _for_tpu
    before, _for_tpu = _for_tpu, True
    try:
        yield
    finally:
        _for_tpu = before


def _is_one_operation() -> bool:
    on_tpu = isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)
    return _for_tpu or on_tpu or bool(tf.config.get_visible_devices("GPU"))


@tf.keras.utils.register_keras_serializable(package="fieldmark")
class GroupedConv2D(tf.keras.layers.Conv2D):
    """Conv2D with groups, channels last, whose step trains on a CPU too; kernel [kh, kw, channels / groups, filters]."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if _is_one_operation():
            outputs = self.convolution_op(inputs, self.kernel)
        else:
            pairs = zip(tf.split(inputs, self.groups, axis=-1), tf.split(self.kernel, self.groups, axis=-1))
            outputs = tf.concat([self.convolution_op(*pair) for pair in pairs], axis=-1)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)


def _grouped(filters: int, kernel_size, strides, groups: int, kernel_initializer: str, use_bias: bool, **_) -> GroupedConv2D:
    """In place of the package's function, which is given more than it uses too."""
    return GroupedConv2D(filters, kernel_size, strides, groups=groups, kernel_initializer=kernel_initializer,
                         use_bias=use_bias)


@contextlib.contextmanager
def one_layer_each() -> Iterator[None]:
    """Networks of image_classifiers that are built inside have one layer for a grouped convolution."""
    module = libraries.load("classification_models.models.senet")
    theirs, module.GroupConv2D = module.GroupConv2D, _grouped
    try:
        yield
    finally:
        module.GroupConv2D = theirs


def copy_weights(package_form: tf.keras.Model, base: tf.keras.Model) -> None:
    """Gives `base`, built inside `one_layer_each`, the weights of the same network in the package's form."""
    theirs = _weights_of_package_form(package_form)
    ours = [layer for layer in base.layers if layer.weights]
    if len(theirs) != len(ours):
        raise ValueError(f"{len(theirs)} layers, a grouped convolution counted as one, for {len(ours)}")
    for layer, arrays in zip(ours, theirs):
        layer.set_weights(arrays)


def _weights_of_package_form(network: tf.keras.Model) -> list[list[np.ndarray]]:
    """Of each layer in order; the layers of a grouped convolution, which a concatenation joins, as one."""
    groups = {layer: [tensor._keras_history.layer for tensor in layer.input]
              for layer in network.layers if isinstance(layer, tf.keras.layers.Concatenate)}
    members = {member for layers in groups.values() for member in layers}
    weights = []
    for layer in network.layers:
        if layer in groups:
            weights.append([np.concatenate(parts, axis=-1) for parts in zip(*(g.get_weights() for g in groups[layer]))])
        elif layer.weights and layer not in members:
            weights.append(layer.get_weights())
    return weights
