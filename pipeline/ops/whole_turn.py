"""A picture turned around its centre: by tensorflow-addons where it is at hand, else by TensorFlow's own operation."""

import tensorflow as tf

from pipeline import addons


def rotate(image: tf.Tensor, angle: float, interpolation: str) -> tf.Tensor:
    """[H, W, C] of static shape turned counterclockwise; what comes from outside of it is 0.

    Args:
        angle: in radians.
        interpolation: nearest or bilinear.
    """
    library = addons.load()
    if library:
        return library.image.rotate(image, angle, interpolation)
    return rotate_by_core(image, angle, interpolation)


def rotate_by_core(image: tf.Tensor, angle: float, interpolation: str) -> tf.Tensor:
    """`rotate` to the same bits: the offsets are computed in the order that tensorflow-addons does it in, in float32."""
    last_row, last_column = (tf.constant(side - 1, tf.float32) for side in image.shape[:2])
    cosine, sine = tf.cos(tf.constant(angle, tf.float32)), tf.sin(tf.constant(angle, tf.float32))
    x_offset = (last_column - (cosine * last_column - sine * last_row)) / 2.0
    y_offset = (last_row - (sine * last_column + cosine * last_row)) / 2.0
    zero = tf.zeros([])
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis], transforms=tf.stack([cosine, -sine, x_offset, sine, cosine, y_offset, zero, zero])[tf.newaxis],
        output_shape=image.shape[:2], fill_value=0.0, interpolation=interpolation.upper(), fill_mode="CONSTANT")
    return tf.ensure_shape(turned[0], image.shape)
