"""The augmentation of the iMet 2019 solution, at the picture's full resolution: a mirror image, light, a shift and turn,
noise; then a random crop, resized.

As its library of then (albumentations 0.2.3) has them: brightness adds a share of the picture's mean, contrast is a
factor; the turn is about (width / 2, height / 2), bilinear, with borders mirrored about the outermost pixel; noise has a
standard deviation of 1 to 5 % of the range and is the same in all channels. (Rounded once, in the end.)

What lies outside of the crop is never computed: the crop's pixels are taken from where they come from in the picture,
and all of it is decoded only where it is moved or its mean is asked for.
"""

import math
from typing import Callable, NamedTuple, Optional

import tensorflow as tf

from pipeline.ops import decode, seeds

CROP = 2               # times the size: the crop's side at most, where no other is given
LIGHT = 0.1            # brightness: share of the picture's mean, added at most; contrast: the factor's distance from 1
SHIFT = 0.1            # of the width and of the height, at most
ROTATION = 15.0        # degrees, at most
NOISE = (0.01, 0.05)   # standard deviation, of the range
PROBABILITY = 0.3      # of light, of shift and rotation, and of noise


class Draw(NamedTuple):
    """What happens to one picture: scalars, 0 and False where nothing does."""

    mirrored: tf.Tensor    # bool
    brightness: tf.Tensor  # float32, share of the mean that is added
    contrast: tf.Tensor    # float32, what is added to a factor of 1
    shift_x: tf.Tensor     # float32, to the right, of the width
    shift_y: tf.Tensor     # float32, down, of the height
    degrees: tf.Tensor     # float32, counter-clockwise
    noise: tf.Tensor       # float32, standard deviation, of the range


def imet(encoded: tf.Tensor, size: int, seed: tf.Tensor, box: Optional[tf.Tensor] = None,
         antialias: bool = True, most: Optional[int] = None) -> tf.Tensor:
    """JPEG bytes, a string scalar, to an augmented uint8 [size, size, 3].

    Args: seed: int32 or int64 [2]; box: as decode.window takes it; antialias: as decode.resize takes it; most: pixels of
    the crop's sides at most, None: CROP times the size.
    """
    crop_seed, draw_seed, noise_seed = seeds.split(seed, 3)
    inside = decode.window(encoded, box)
    part = decode.sample_part(inside[2:], most or CROP * size, crop_seed)
    return change(encoded, inside, part, draw(draw_seed), noise_seed, size, antialias)


def draw(seed: tf.Tensor) -> Draw:
    """seed: int32 or int64 [2]."""
    mirror_seed, chosen_seed, which_seed, light_seed, move_seed, noise_seed = seeds.split(seed, 6)
    light, move, noise = tf.unstack(tf.cast(tf.random.stateless_uniform([3], chosen_seed) < PROBABILITY, tf.float32))
    bright = tf.cast(tf.random.stateless_uniform([], which_seed) < 0.5, tf.float32)
    amount = tf.random.stateless_uniform([], light_seed, -LIGHT, LIGHT) * light
    shift_x, shift_y, turn = tf.unstack(tf.random.stateless_uniform([3], move_seed, -1.0, 1.0) * move)
    mirrored = tf.random.stateless_uniform([], mirror_seed) < 0.5
    return Draw(mirrored, bright * amount, (1.0 - bright) * amount, SHIFT * shift_x, SHIFT * shift_y, ROTATION * turn,
                tf.random.stateless_uniform([], noise_seed, *NOISE) * noise)


def change(encoded: tf.Tensor, inside: tf.Tensor, part: tf.Tensor, drawn: Draw, noise_seed: tf.Tensor,
           size: int, antialias: bool = True) -> tf.Tensor:
    """A part of the changed picture, resized to uint8 [size, size, 3].

    Args:
        encoded: string scalar, a JPEG.
        inside: int32 [4] (top, left, height, width), what of the JPEG is the picture.
        part: int32 [4], the crop in the changed picture.
    """
    mean = tf.cond(drawn.brightness != 0,
                   lambda: tf.reduce_mean(tf.cast(decode.decode_part(encoded, inside), tf.float32)), lambda: 0.0)
    moved = tf.reduce_any(tf.stack([drawn.shift_x, drawn.shift_y, drawn.degrees]) != 0)

    def light(pixels: tf.Tensor) -> tf.Tensor:
        changed = (1.0 + drawn.contrast) * tf.cast(pixels, tf.float32) + drawn.brightness * mean
        return tf.clip_by_value(changed, 0, 255)

    pixels = tf.cond(moved, lambda: _moved(decode.decode_part(encoded, inside), part, drawn, light),
                     lambda: light(_unmoved(encoded, inside, part, drawn.mirrored)))

    def noisy() -> tf.Tensor:
        noise = tf.random.stateless_normal([part[2], part[3], 1], noise_seed) * (255.0 * drawn.noise)
        return tf.clip_by_value(pixels + noise, 0, 255)

    return decode.resize(tf.cond(drawn.noise != 0, noisy, lambda: pixels), size, antialias)


def _unmoved(encoded: tf.Tensor, inside: tf.Tensor, part: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """The part of a picture that is at most mirrored, uint8 [h, w, 3]; no more of it is decoded."""
    top, left, height, width = tf.unstack(part)
    left = tf.where(mirrored, inside[3] - left - width, left)
    pixels = decode.decode_part(encoded, tf.stack([inside[0] + top, inside[1] + left, height, width]))
    return tf.cond(mirrored, lambda: pixels[:, ::-1], lambda: pixels)


def _moved(picture: tf.Tensor, part: tf.Tensor, drawn: Draw, light: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """The part of a picture (uint8 [H, W, 3]) that is mirrored, lightened, turned about its centre and then shifted:
    float32 [h, w, 3], bilinear."""
    height, width = tf.unstack(tf.shape(picture)[:2])
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    radians = drawn.degrees * (math.pi / 180)
    cos, sin = tf.cos(radians), tf.sin(radians)
    # Where the part's pixels lie, seen from where the centre goes; and where in the picture they come from.
    across = _places(part[1], part[3]) - columns * (0.5 + drawn.shift_x)
    down = (_places(part[0], part[2]) - rows * (0.5 + drawn.shift_y))[:, tf.newaxis]
    x, y = columns / 2 + cos * across - sin * down, rows / 2 + sin * across + cos * down
    left, top = tf.floor(x), tf.floor(y)
    flat = tf.reshape(picture, [-1, 3])

    def row_of(bottom: int) -> tf.Tensor:
        first = _mirrored_in(tf.cast(top, tf.int32) + bottom, height) * width
        pair = [tf.gather(flat, first + _column(tf.cast(left, tf.int32) + right, width, drawn.mirrored)) for right in (0, 1)]
        return _between(light(pair[0]), light(pair[1]), x - left)

    return _between(row_of(0), row_of(1), y - top)


def _places(start: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.range(start, start + count), tf.float32)


def _between(before: tf.Tensor, after: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return before + share[:, :, tf.newaxis] * (after - before)


def _column(index: tf.Tensor, width: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    inside = _mirrored_in(index, width)
    return tf.where(mirrored, width - 1 - inside, inside)


def _mirrored_in(index: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Positions of any int32 in 0 to count − 1, mirrored about the first and the last (OpenCV's BORDER_REFLECT_101)."""
    last = count - 1
    index = tf.math.floormod(index, tf.maximum(2 * last, 1))
    return tf.minimum(index, 2 * last - index)
