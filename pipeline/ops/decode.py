"""From JPEG bytes to a square uint8 picture: the random crop of training and the preprocessing of evaluation.

Crop: Szegedy et al. 2015, "Going Deeper with Convolutions", or as TensorFlow's own op draws it. Training a last stage with
`whole` at a larger size:
Touvron et al. 2019, "Fixing the train-test resolution discrepancy" (FixRes).
"""

import math
from typing import Callable, NamedTuple, Optional

import tensorflow as tf

from pipeline.errors import UserError
from pipeline.ops import reduce, seeds

LEAST_AREA = 0.08             # of a crop, as a share of the picture's
CROP_LAWS = ("area", "height")
CROP_ASPECT = (3 / 4, 4 / 3)  # width / height
_ATTEMPTS = 32               # candidates, drawn at once: a picture of 3:1 finds none in 1 of 40,000 crops
# The same pixels as Pillow and PyTorch's loaders get, at the same speed; TensorFlow's default is off by a few levels.
_DCT = "INTEGER_ACCURATE"
# What tf.image.sample_distorted_bounding_box takes where its caller names no aspects, and how often it tries.
_HEIGHT_ASPECT = (0.75, 1.33)
_HEIGHT_ATTEMPTS = 100
EVAL_RESIZES = ("squash", "short:PIXELS", "short:PIXELS:cubic", "crop:PIXELS")


class EvalResize(NamedTuple):
    """--eval_resize, parsed; a picture that is neither is squashed whole."""

    short: Optional[int] = None   # pixels of the short side, the aspect kept
    crop: Optional[int] = None    # pixels of a random part's sides, at most
    kernel: str = "triangle"      # of ScaleAndTranslate: triangle (bilinear) or keyscubic (Keys' bicubic, a = -1/2)


def random_crop(encoded: tf.Tensor, size: int, seed: tf.Tensor, box: Optional[tf.Tensor] = None,
                min_area: float = LEAST_AREA, law: str = "area", antialias: bool = True, fast: bool = False) -> tf.Tensor:
    """A random part of the picture, resized (bilinear) to a square.

    Args:
        encoded: string scalar, a JPEG.
        size: side of the result in pixels.
        seed: int32 or int64 [2].
        box: see `window`; None: the whole picture. The part is one of what the box holds.
        min_area: the least area of the part, as a share of the picture's.
        law: one of CROP_LAWS, `sample_box` or `sample_box_by_height`.
        antialias: see `resize`.
        fast: see `crop`.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    inside = window(encoded, box)
    part = sampler(law)(inside[2], inside[3], seed, min_area) + tf.concat([inside[:2], [0, 0]], axis=0)
    return crop(encoded, part, size, antialias, fast)


def sampler(law: str) -> Callable[..., tf.Tensor]:
    """What draws a crop by one of CROP_LAWS."""
    return sample_box_by_height if law == "height" else sample_box


def crop(encoded: tf.Tensor, part: tf.Tensor, size: int, antialias: bool = True, fast: bool = False) -> tf.Tensor:
    """A part (int32 [4]: top, left, height, width, in pixels) of a JPEG, resized to uint8 [size, size, 3].

    With `fast` antialiased within a few levels, for less than the decoding costs (see reduce).
    """
    if antialias and fast:
        return reduce.crop(encoded, part, size)
    return resize(decode_part(encoded, part), size, antialias)


def window(encoded: tf.Tensor, box: Optional[tf.Tensor] = None) -> tf.Tensor:
    """Whole pixels of a box in a JPEG, at least one: int32 [4], top, left, height, width.

    Args:
        encoded: string scalar, a JPEG.
        box: float32 [4]: left, top, right, bottom as fractions of width and height; None: the whole picture.
    """
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(encoded))
    if box is None:
        return tf.stack([0, 0, height, width])
    left, top, right, bottom = tf.unstack(box)
    top, box_height = _whole_pixels(top, bottom, height)
    left, box_width = _whole_pixels(left, right, width)
    return tf.stack([top, left, box_height, box_width])


def _whole_pixels(start: tf.Tensor, end: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(first pixel, number of pixels) of what lies between two fractions of a side."""
    first, after = (tf.cast(tf.round(one * tf.cast(side, tf.float32)), tf.int32) for one in (start, end))
    first = tf.minimum(first, side - 1)
    return first, tf.maximum(after - first, 1)


def decode_part(encoded: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Decoded as a crop: libjpeg skips the rows and columns outside, most of the work on a large picture."""
    return tf.image.decode_and_crop_jpeg(encoded, part, channels=3, dct_method=_DCT)


def sample_box(height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor, min_area: float = LEAST_AREA) -> tf.Tensor:
    """A random box inside a picture: area from min_area to 1 (uniform), aspect 3/4-4/3 (log-uniform), place uniform.

    Candidates that do not fit are drawn again. A picture so long that none fits gives the box of its full short side
    that comes nearest to those aspects without falling below min_area.

    Args:
        height, width: int scalars, at least 1.
        seed: int32 or int64 [2].
        min_area: as a share of the picture's, above 0.

    Returns:
        int32 [4]: top, left, height, width.
    """
    area_seed, aspect_seed, top_seed, left_seed = seeds.split(seed, 4)
    # float64: the area of a large scan has more digits than float32.
    rows, columns = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    area = rows * columns * _uniform(area_seed, (min_area, 1.0), _ATTEMPTS)
    aspect = tf.exp(_uniform(aspect_seed, [math.log(bound) for bound in CROP_ASPECT], _ATTEMPTS))
    heights, widths = tf.round(tf.sqrt(area / aspect)), tf.round(tf.sqrt(area * aspect))
    # The area is looked at once more, because rounding may have taken it below the bound.
    fits = (heights <= rows) & (widths <= columns) & (heights * widths >= min_area * rows * columns)
    last_resort = (_nearest_side(rows, columns, min_area), _nearest_side(columns, rows, min_area))
    heights = tf.concat([heights, last_resort[:1]], axis=0)
    widths = tf.concat([widths, last_resort[1:]], axis=0)
    first = tf.argmax(tf.concat([fits, [True]], axis=0))
    box_height, box_width = heights[first], widths[first]
    top = tf.floor(_uniform(top_seed, (0, 1)) * (rows - box_height + 1))
    left = tf.floor(_uniform(left_seed, (0, 1)) * (columns - box_width + 1))
    return tf.cast(tf.stack([top, left, box_height, box_width]), tf.int32)


def sample_box_by_height(height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor, min_area: float = LEAST_AREA) -> tf.Tensor:
    """As `sample_box`, by the law of tf.image.sample_distorted_bounding_box, whose object is the whole picture.

    Its aspect is uniform, then its height uniform over what fits; what covers less than `min_area` is drawn again. So
    crops are smaller than by `sample_box`, and of a portrait smaller than of a landscape. A picture so long that none
    fits is taken whole.
    """
    corner, sides, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]), tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), seed, min_object_covered=min_area,
        aspect_ratio_range=_HEIGHT_ASPECT, area_range=(min(LEAST_AREA, min_area), 1.0), max_attempts=_HEIGHT_ATTEMPTS)
    return tf.concat([corner[:2], sides[:2]], axis=0)


def flip(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors an image [H, W, C] of any dtype left to right with probability 1/2; `seed` is int32 or int64 [2]."""
    return tf.image.stateless_random_flip_left_right(image, seed)


def whole(encoded: tf.Tensor, size: int, resize: str, box: Optional[tf.Tensor] = None, antialias: bool = True,
          seed: Optional[tf.Tensor] = None) -> tf.Tensor:
    """Evaluation preprocessing.

    Args:
        encoded: string scalar, a JPEG.
        size: side of the result in pixels.
        resize: see `parse_eval_resize`.
        box: see `window`; what it holds is treated as if it were the picture.
        antialias: see the function `resize`.
        seed: int32 or int64 [2]; of `crop:PIXELS` alone, which needs it.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    return resize_whole(decode(encoded, box), size, resize, antialias, seed)


def decode(encoded: tf.Tensor, box: Optional[tf.Tensor] = None) -> tf.Tensor:
    """A JPEG, string scalar, or its part in a box (see `window`), to uint8 [H, W, 3], RGB; H and W are not static."""
    if box is not None:
        return decode_part(encoded, window(encoded, box))
    return tf.io.decode_jpeg(encoded, channels=3, dct_method=_DCT)


def parse_eval_resize(text: str, size: int) -> EvalResize:
    """squash, short:360, short:360:cubic or crop:640; raises UserError.

    `squash` makes the whole picture a square of side `size`; `short:360` makes its short side 360 (bilinear, or bicubic)
    and takes the square of side `size` at the centre, which therefore must not be larger; `crop:640` squashes a random
    part of at most 640 px a side.
    """
    kind, _, rest = text.partition(":")
    pixels, colon, kernel = rest.partition(":")
    if text == "squash":
        return EvalResize()
    whole_number = pixels.isascii() and pixels.isdigit() and int(pixels) > 0
    if not whole_number or (kind, colon + kernel) not in (("short", ""), ("short", ":cubic"), ("crop", "")):
        raise UserError(f"unknown eval_resize {text!r}; known: {', '.join(EVAL_RESIZES)}")
    if kind == "crop":
        return EvalResize(crop=int(pixels))
    if int(pixels) < size:
        raise UserError(f"eval_resize {text!r} is smaller than the size of {size} to be cut out of it; "
                        f"give short:{size} or more, or squash")
    return EvalResize(short=int(pixels), kernel="keyscubic" if kernel else "triangle")


def resize_whole(image: tf.Tensor, size: int, eval_resize: str, antialias: bool = True,
                 seed: Optional[tf.Tensor] = None) -> tf.Tensor:
    """`whole` for a decoded picture, uint8 [H, W, 3]."""
    wanted = parse_eval_resize(eval_resize, size)
    if wanted.short:
        return short_side_crop(image, size, wanted.short, lambda spare: tf.floor(spare / 2), antialias, wanted.kernel)
    if wanted.crop:
        top, left, height, width = tf.unstack(sample_part(tf.shape(image)[:2], wanted.crop, seed))
        image = image[top:top + height, left:left + width]
    return resize(image, size, antialias)


def sample_part(shape: tf.Tensor, most: int, seed: tf.Tensor) -> tf.Tensor:
    """A part of a picture, its place uniform, its sides at most `most` px: where a side has no more, all of that.

    `shape` is int32 [2], height and width, `seed` int32 or int64 [2]; int32 [4]: top, left, height, width.
    """
    sides = tf.minimum(shape, most)
    corner = tf.floor(_uniform(seed, (0, 1), 2) * tf.cast(shape - sides + 1, tf.float64))
    return tf.concat([tf.cast(corner, tf.int32), sides], axis=0)


def random_short_side_crop(image: tf.Tensor, size: int, short: int, seed: tf.Tensor, antialias: bool = True) -> tf.Tensor:
    """`short_side_crop` at a place that is uniform over all; `seed` is int32 or int64 [2]."""
    return short_side_crop(image, size, short, lambda spare: _anywhere(spare, seed), antialias)


def random_short_side_window(shape: tf.Tensor, size: int, short: int, seed: tf.Tensor) -> tf.Tensor:
    """What `random_short_side_crop` takes of a picture, before it is resized, at the same place: float64 [4], top, left, height,
    width in its pixels. Args: shape: int [2], its height and width."""
    scale, resized = _short_side(shape, short)
    return tf.concat([_anywhere(resized - size, seed) / scale, size / scale], axis=0)


def _anywhere(spare: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.floor(_uniform(seed, (0, 1), 2) * (spare + 1))


def _short_side(shape: tf.Tensor, short: int) -> tuple[tf.Tensor, tf.Tensor]:
    """(factors of rows and columns, whole pixels of both) by which the short side becomes `short`, float64 [2] each."""
    resized = tf.round(tf.cast(shape, tf.float64) * (short / tf.reduce_min(shape)))
    return resized / tf.cast(shape, tf.float64), resized


def short_side_crop(image: tf.Tensor, size: int, short: int, place: Callable[[tf.Tensor], tf.Tensor],
                    antialias: bool = True, kernel: str = "triangle") -> tf.Tensor:
    """A square out of a picture whose short side is made `short` px, its aspect kept.

    Args:
        image: uint8 [H, W, 3].
        size: side of the square in pixels, at most `short`.
        short: pixels.
        place: the pixels that the resized picture has too many, float64 [2] (rows, columns) → those of them that lie
            before the square, whole numbers of the same dtype and shape.
        antialias: see `resize`.
        kernel: see EvalResize.

    Returns:
        uint8 [size, size, 3].
    """
    scale, resized = _short_side(tf.shape(image)[:2], short)
    # Resize and crop in one op, so that what lies outside the crop is never computed: the long side of a panorama may
    # be anything.
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis], size=[size, size], scale=tf.cast(scale, tf.float32),
        translation=tf.cast(-place(resized - size), tf.float32), kernel_type=kernel, antialias=antialias)
    return to_uint8(pixels[0], size)


def resize(image: tf.Tensor, size: int, antialias: bool = True) -> tf.Tensor:
    """Any uint8 [H, W, 3] to uint8 [size, size, 3]: bilinear, rounded; the aspect is not kept.

    With `antialias` a pixel of a smaller picture is the weighted mean of all that it stands for, as Pillow and PyTorch
    make it; without it is interpolated between the four next to its centre, as TensorFlow and OpenCV do unasked.
    """
    return to_uint8(tf.image.resize(image, [size, size], "bilinear", antialias=antialias), size)


def to_uint8(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """Float [size, size, 3], rounded and clipped."""
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8), [size, size, 3])


def _nearest_side(side: tf.Tensor, other: tf.Tensor, min_area: float) -> tf.Tensor:
    """Along `side`: all of a short one; of a long one what the aspect allows, but never less than min_area."""
    return tf.minimum(side, tf.maximum(tf.round(other * CROP_ASPECT[1]), tf.math.ceil(side * min_area)))


def _uniform(seed: tf.Tensor, bounds, *shape: int) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, bounds[0], bounds[1], tf.float64)
