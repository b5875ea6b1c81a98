"""The `simple` augmentation that the iNat 2021 sixth-place solution offers beside RandAugment."""

import tensorflow as tf

from pipeline.ops import randaugment, seeds

BRIGHTNESS = 32 / 255     # added, at most
SATURATION = (0.5, 1.5)   # multiplied
HUE = 0.2                 # of the full circle, at most
ROTATION = 20.0           # degrees, at most


def simple(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Changes brightness, saturation and hue, and turns the image (bilinear; gray 128 comes into view).

    Args:
        image: uint8 [H, W, 3], RGB, of static shape.
        seed: int32 or int64 [2].

    Returns:
        uint8 [H, W, 3].
    """
    brightness, saturation, hue, degrees = draw(seed)
    # Floats throughout, so that the picture is rounded once; clipped because the colour space wants 0-1.
    pixels = tf.clip_by_value(tf.cast(image, tf.float32) / 255 + brightness, 0, 1)
    pixels = tf.image.adjust_saturation(pixels, saturation)
    pixels = tf.image.adjust_hue(pixels, hue)
    turned = randaugment.transform(pixels * 255, randaugment.rotation(image, degrees), "BILINEAR")
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(turned), 0, 255), tf.uint8), image.shape)


def draw(seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """float32 scalars: brightness added (of 1), saturation factor, hue turn (of a circle), rotation in degrees."""
    ranges = ((-BRIGHTNESS, BRIGHTNESS), SATURATION, (-HUE, HUE), (-ROTATION, ROTATION))
    return tuple(tf.random.stateless_uniform([], one, low, high)
                 for one, (low, high) in zip(seeds.split(seed, len(ranges)), ranges))
