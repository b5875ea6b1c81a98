"""The ten views of Turtle Recall's fifth place: the picture, two flips, rotations by multiples of 45°.

An odd rotation leaves black corners, so its centre is cut out and enlarged to the picture's size again. One odd
rotation is enough to make all: 135° is 45° and then a right angle, which moves pixels but does not change them.

The views of predictions turn by bilinear interpolation. Training pictures do so too (rot45), or as the solution's did
(rot45:nearest): by the nearest pixel, and the centre by tf.image.central_crop, which takes 360 of 512 pixels.
"""

import math
from typing import Callable

import tensorflow as tf

from pipeline.ops import seeds, whole_turn

CROP = 0.7           # of the side, at most: 1/√2 is where a square turned by 45° would begin to show its corners
PROBABILITY = 0.5    # of a training picture to be changed
AUGMENTATIONS = ("rot45", "rot45:nearest")  # names of --augment
VIEWS = ("identity", "left_right", "up_down", "90", "180", "270", "45", "135", "225", "315")


def rot45(image: tf.Tensor, seed: tf.Tensor, nearest: bool = False) -> tf.Tensor:
    """With probability 1/2 one of the nine changes, all alike probable; else the image as it is. For the host.

    Args:
        image: uint8 [size, size, C], of static shape.
        seed: int32 or int64 [2].
        nearest: odd rotations by `diagonal_by_nearest`, else by `diagonal`.

    Returns:
        uint8 [size, size, C].
    """
    turn = diagonal_by_nearest if nearest else diagonal
    makers = [lambda number=number: _view(image, number, turn) for number in range(len(VIEWS))]
    # One branch runs: the others' work is not done.
    return tf.ensure_shape(tf.switch_case(draw(seed), makers), image.shape)


def draw(seed: tf.Tensor) -> tf.Tensor:
    """Position in VIEWS, int32 scalar: 0 with probability 1/2, else 1 to 9, all alike."""
    change_seed, which_seed = seeds.split(seed, 2)
    change = tf.random.stateless_uniform([], change_seed) < PROBABILITY
    which = tf.random.stateless_uniform([], which_seed, 1, len(VIEWS), tf.int32)
    return tf.where(change, which, 0)


def diagonal(image: tf.Tensor) -> tf.Tensor:
    """The image turned by 45° counterclockwise (bilinear), its centre of 0.7 of the side enlarged to the whole.

    uint8 [size, size, C] of static shape to the same.
    """
    size = image.shape[0]
    # In floats, because the op would cut uint8 off instead of rounding.
    turned = whole_turn.rotate(tf.cast(image, tf.float32), math.pi / 4, "bilinear")
    return _enlarged_centre(turned, math.ceil(size * (1 - CROP) / 2))


def diagonal_by_nearest(image: tf.Tensor) -> tf.Tensor:
    """`diagonal` as in the solution's training: by the nearest pixel, and the margin of 0.15 of the side rounded down.

    (Where that would show a corner, at some sizes below 128, it is a pixel wider.)
    """
    size = image.shape[0]
    turned = whole_turn.rotate(image, math.pi / 4, "nearest")
    without_corners = math.ceil((size - size / math.sqrt(2) - 1) / 2)
    return _enlarged_centre(turned, max(int(size * (1 - CROP) / 2), without_corners))


def _enlarged_centre(image: tf.Tensor, margin: int) -> tf.Tensor:
    """What is within the margin, in pixels, enlarged to the whole (bilinear); uint8 of the image's shape."""
    size = image.shape[0]
    centre = image[margin:size - margin, margin:size - margin]
    enlarged = tf.image.resize(centre, [size, size], "bilinear")
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(enlarged), 0, 255), tf.uint8), image.shape)


def expand(images: tf.Tensor) -> tf.Tensor:
    """All ten views out of the two that take computing; for the device.

    Args:
        images: [B, 2, S, S, C] of any dtype: a picture and `diagonal` of it.

    Returns:
        [B, 10, S, S, C], in the order of VIEWS.
    """
    picture, turned = images[:, 0], images[:, 1]
    views = [picture, tf.reverse(picture, axis=[2]), tf.reverse(picture, axis=[1])]
    views += [_quarter_turns(picture, k) for k in (1, 2, 3)]
    views += [_quarter_turns(turned, k) for k in (0, 1, 2, 3)]
    return tf.stack(views, axis=1)


def _view(image: tf.Tensor, number: int, turn: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    if number == 0:
        return image
    if number == 1:
        return image[:, ::-1]
    if number == 2:
        return image[::-1]
    if number < 6:
        return _quarter_turns(image, number - 2)
    return _quarter_turns(turn(image), number - 6)


def _quarter_turns(images: tf.Tensor, k: int) -> tf.Tensor:
    """[..., S, S, C] turned by k · 90° counterclockwise."""
    rows, columns = images.shape.rank - 3, images.shape.rank - 2
    if k == 0:
        return images
    if k == 2:
        return tf.reverse(images, axis=[rows, columns])
    swapped = list(range(images.shape.rank))
    swapped[rows], swapped[columns] = columns, rows
    return tf.reverse(tf.transpose(images, swapped), axis=[rows if k == 1 else columns])
