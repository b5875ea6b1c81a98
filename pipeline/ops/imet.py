"""The augmentation of the iMet 2019 solution: a crop, a mirror image, light, a small shift and turn, noise.

The solution's own pictures are 320 px large and cropped from at most 640 px; at other sizes the crop scales with them.
What its library (albumentations) chose by itself is chosen alike: one of brightness and contrast, reflected borders,
noise of a standard deviation of 1 to 5 % of the range, the same in all channels.
"""

import math
from typing import NamedTuple, Optional

import tensorflow as tf

from pipeline.ops import decode, seeds

CROP = 2               # times the size: the crop's side at most
LIGHT = 0.1            # brightness: of the range, added at most; contrast: of the distance from the mean
SHIFT = 0.1            # of the side, at most, in each direction
ROTATION = 15.0        # degrees, at most
NOISE = (0.01, 0.05)   # standard deviation, of the range
PROBABILITY = 0.3      # of light, of shift and rotation, and of noise


class Draw(NamedTuple):
    """What happens to one picture: float32 scalars, 0 where nothing does."""

    brightness: tf.Tensor  # added, of the range
    contrast: tf.Tensor    # share by which the distances from the mean grow
    shift_x: tf.Tensor     # to the right, of the side
    shift_y: tf.Tensor     # down, of the side
    degrees: tf.Tensor     # counter-clockwise
    noise: tf.Tensor       # standard deviation, of the range


def imet(encoded: tf.Tensor, size: int, seed: tf.Tensor, box: Optional[tf.Tensor] = None,
         antialias: bool = True, fast: bool = False) -> tf.Tensor:
    """JPEG bytes, a string scalar, to an augmented uint8 [size, size, 3].

    Args: seed: int32 or int64 [2]; box: as decode.window takes it; antialias, fast: as decode.crop takes them.
    """
    crop_seed, flip_seed, draw_seed, noise_seed = seeds.split(seed, 4)
    image = decode.flip(random_crop(encoded, size, crop_seed, box, antialias, fast), flip_seed)
    return change(image, draw(draw_seed), noise_seed)


def random_crop(encoded: tf.Tensor, size: int, seed: tf.Tensor, box: Optional[tf.Tensor] = None,
                antialias: bool = True, fast: bool = False) -> tf.Tensor:
    """A part of at most CROP·size × CROP·size px, its place uniform, resized to a square; uint8 [size, size, 3]."""
    inside = decode.window(encoded, box)
    sides = tf.minimum(inside[2:], CROP * size)
    places = tf.random.stateless_uniform([2], seed, dtype=tf.float64)
    corner = tf.cast(tf.floor(places * tf.cast(inside[2:] - sides + 1, tf.float64)), tf.int32)
    return decode.crop(encoded, tf.concat([inside[:2] + corner, sides], axis=0), size, antialias, fast)


def draw(seed: tf.Tensor) -> Draw:
    """seed: int32 or int64 [2]."""
    chosen_seed, which_seed, light_seed, move_seed, noise_seed = seeds.split(seed, 5)
    light, move, noise = tf.unstack(tf.cast(tf.random.stateless_uniform([3], chosen_seed) < PROBABILITY, tf.float32))
    bright = tf.cast(tf.random.stateless_uniform([], which_seed) < 0.5, tf.float32)
    amount = tf.random.stateless_uniform([], light_seed, -LIGHT, LIGHT) * light
    shift_x, shift_y, turn = tf.unstack(tf.random.stateless_uniform([3], move_seed, -1.0, 1.0) * move)
    return Draw(bright * amount, (1.0 - bright) * amount, SHIFT * shift_x, SHIFT * shift_y, ROTATION * turn,
                tf.random.stateless_uniform([], noise_seed, *NOISE) * noise)


def change(image: tf.Tensor, drawn: Draw, noise_seed: tf.Tensor) -> tf.Tensor:
    """Applies a draw to uint8 [size, size, 3]; rounded once, in the end."""
    pixels = tf.cast(image, tf.float32)
    mean = tf.reduce_mean(pixels)
    pixels = mean + (1.0 + drawn.contrast) * (pixels - mean) + 255.0 * drawn.brightness
    pixels = _move(tf.clip_by_value(pixels, 0, 255), drawn)
    noise = tf.random.stateless_normal([*image.shape[:2], 1], noise_seed) * (255.0 * drawn.noise)
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(pixels + noise), 0, 255), tf.uint8), image.shape)


def _move(pixels: tf.Tensor, drawn: Draw) -> tf.Tensor:
    """Turned about the centre, then shifted; bilinear, what comes into view is reflected."""
    size = pixels.shape[0]
    radians = drawn.degrees * (math.pi / 180)
    cos, sin, center = tf.cos(radians), tf.sin(radians), (size - 1) / 2
    x, y = center + size * drawn.shift_x, center + size * drawn.shift_y  # where the centre goes
    # The output's (x, y) is taken from the input's (a·x + b·y + c, d·x + e·y + f).
    matrix = tf.stack([cos, -sin, center - cos * x + sin * y, sin, cos, center - sin * x - cos * y, 0.0, 0.0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels[tf.newaxis], transforms=matrix[tf.newaxis], output_shape=[size, size], fill_value=0.0,
        interpolation="BILINEAR", fill_mode="REFLECT")[0]
