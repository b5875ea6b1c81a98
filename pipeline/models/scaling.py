"""Raw pixels to what a network was trained on, as the first layer of the model.

In the model rather than in the input pipeline, so that a checkpoint can't be fed with the wrong scaling, uint8 goes
over the wire to the accelerator, and every host and every tool sends the same thing: pixels 0–255.
"""

from typing import Sequence

import tensorflow as tf

from pipeline.errors import unknown

# Channel means and standard deviations of ImageNet in [0, 1], RGB, as torchvision and keras_applications give them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Mean pixel of the Caffe models in 0–255, BGR (keras.applications.imagenet_utils, mode "caffe").
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)

# mode: (reverse channels, what is subtracted, what it is divided by), both in pixel units 0–255.
_MODES = {
    "raw": (False, (0.0,), (1.0,)),
    "01": (False, (0.0,), (255.0,)),
    "tf": (False, (127.5,), (127.5,)),
    # keras.applications' EfficientNetV2-S/M/L were trained with x / 128 - 1 (255 becomes 0.992, not 1).
    "tf128": (False, (128.0,), (128.0,)),
    "torch": (False, tuple(255 * m for m in IMAGENET_MEAN), tuple(255 * s for s in IMAGENET_STD)),
    "caffe": (True, CAFFE_MEAN_BGR, (1.0,)),
}
MODES = tuple(sorted(_MODES))
_OWN = "own"  # begins the mode that `of_pixels` makes


def of_pixels(mean: Sequence[float], std: Sequence[float], mode: str) -> str:
    """The mode that takes three means (red, green, blue, 0–255) off and divides by three deviations.

    The channels then go in the order in which those of `mode`, a key of MODES, do: the network's weights want it.
    """
    return ":".join([_OWN, "bgr" if _arithmetic(mode)[0] else "rgb", *map(repr, (*mean, *std))])


def _arithmetic(mode: str) -> tuple[bool, Sequence[float], Sequence[float]]:
    """(reverse channels, what is subtracted, what it is divided by); raises UserError for an unknown mode."""
    if mode in _MODES:
        return _MODES[mode]
    kind, *parts = mode.split(":")
    if kind != _OWN:
        raise unknown("input scaling", mode, MODES)
    order = slice(None, None, -1 if parts[0] == "bgr" else 1)
    mean, std = (tuple(map(float, three))[order] for three in (parts[1:4], parts[4:]))
    return parts[0] == "bgr", mean, std


@tf.keras.utils.register_keras_serializable(package="fieldmark")
class Scaling(tf.keras.layers.Layer):
    """[B, H, W, 3] uint8 or float RGB pixels 0–255 → [B, H, W, 3] float32 in the range of `mode`.

    Modes and their definitions: keras.applications.imagenet_utils.preprocess_input (tf, torch, caffe), `raw` as they
    are, `01` divided by 255, `tf128` = x / 128 - 1; one's own: `of_pixels`. Always float32: pixel differences of 1/255 don't survive bfloat16.
    """

    def __init__(self, mode: str, **kwargs):
        _arithmetic(mode)
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        self.mode = mode

    def call(self, image: tf.Tensor) -> tf.Tensor:
        reverse, mean, std = _arithmetic(self.mode)
        pixels = tf.cast(image, tf.float32)
        if reverse:
            pixels = tf.reverse(pixels, axis=[-1])
        return (pixels - tf.constant(mean, tf.float32)) / tf.constant(std, tf.float32)

    def get_config(self) -> dict:
        return {**super().get_config(), "mode": self.mode}
