"""A part of a picture that is first turned about its centre, decoded and resized no further than that part needs."""

import math

import tensorflow as tf

from pipeline.ops import decode

AUGMENTATIONS = ("crop", "inception", "simple")  # those that cut a part out of the picture, which may be turned before
_MARGIN = 2  # pixels that the resize looks at beyond the corners of a part, times its scale where it makes smaller


def draw(seed: tf.Tensor, degrees: float) -> tf.Tensor:
    """Uniform between -degrees and degrees: float64 scalar; `seed` is int32 or int64 [2]."""
    return tf.random.stateless_uniform([], seed, -degrees, degrees, tf.float64)


def crop(encoded: tf.Tensor, inside: tf.Tensor, part: tf.Tensor, size: int, degrees: tf.Tensor,
         antialias: bool = True) -> tf.Tensor:
    """A part of a JPEG that is turned counter-clockwise about its centre, resized to uint8 [size, size, 3].

    The picture keeps its sides; what comes into view is black. Resized as decode.resize does it (antialiased, for there is more
    of the picture than of the result), then turned (bilinear).

    Args:
        encoded: string scalar, a JPEG.
        inside: int32 [4]: top, left, height, width of what is treated as the picture (see decode.window).
        part: float64 [4], the same of the part, in pixels of what is inside; it need not be whole pixels.
        size: pixels.
        degrees: float64 scalar.
        antialias: see decode.resize.
    """
    shape, start, sides = (tf.cast(one, tf.float64) for one in (inside[2:], part[:2], part[2:]))
    scale = size / sides                                             # of rows and columns
    turn = _turn(degrees)
    corners = _source(start + tf.constant([[0, 0], [0, 1], [1, 0], [1, 1]], tf.float64) * sides, turn, shape)
    margin = _MARGIN * tf.maximum(1 / scale, 1.0)
    first = tf.clip_by_value(tf.floor(tf.reduce_min(corners, axis=0) - margin), 0.0, shape - 1)
    end = tf.maximum(tf.minimum(tf.math.ceil(tf.reduce_max(corners, axis=0) + margin), shape), first + 1)
    needed = tf.cast(tf.concat([first, end - first], axis=0), tf.int32)
    image = decode.decode_part(encoded, needed + tf.concat([inside[:2], [0, 0]], axis=0))
    resized, corner = _resize(image, scale, first, antialias)
    # Pixel (row, column) of the result → of what was resized: through the picture's own pixels.
    to_resized = tf.linalg.diag(scale) @ turn @ tf.linalg.diag(1 / scale)
    middle = shape / 2
    offset = tf.linalg.matvec(to_resized, (start - middle) * scale + 0.5) + middle * scale - corner - 0.5
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=resized, transforms=_by_columns(to_resized, offset), output_shape=[size, size], fill_value=0.0,
        interpolation="BILINEAR", fill_mode="CONSTANT")
    return decode.to_uint8(pixels[0], size)


def _turn(degrees: tf.Tensor) -> tf.Tensor:
    """[2, 2] of (rows, columns): from the turned picture to the picture, about the centre."""
    radians = degrees * (math.pi / 180)
    cos, sin = tf.cos(radians), tf.sin(radians)
    return tf.stack([tf.stack([cos, sin]), tf.stack([-sin, cos])])


def _source(points: tf.Tensor, turn: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Where points [n, 2] of the turned picture come from."""
    return tf.linalg.matvec(turn, points - shape / 2) + shape / 2


def _resize(image: tf.Tensor, scale: tf.Tensor, first: tf.Tensor,
            antialias: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 [h, w, 3] that begins at `first` of a picture, as that is resized by `scale`: float32 [1, H, W, 3], and its corner
    in the resized picture, whole pixels.

    A pixel of black is around it: what lies beyond the picture.
    """
    begin = first * scale
    corner = tf.floor(begin) - 1
    sides = tf.math.ceil(begin + tf.cast(tf.shape(image)[:2], tf.float64) * scale) - corner + 1
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis], size=tf.cast(sides, tf.int32), scale=tf.cast(scale, tf.float32),
        translation=tf.cast(begin - corner, tf.float32), kernel_type="triangle", antialias=antialias)
    return resized, corner


def _by_columns(matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """[2, 2] and [2] of (row, column) as ImageProjectiveTransformV3 takes them, which begins with x."""
    (row_row, row_column), (column_row, column_column) = (tf.unstack(one) for one in tf.unstack(matrix))
    row, column = tf.unstack(offset)
    rows = tf.stack([column_column, column_row, column, row_column, row_row, row, 0.0, 0.0])
    return tf.cast(rows, tf.float32)[tf.newaxis]
