"""The colours of RandAugment's fast engine, within a program that XLA compiles.

Pictures are flat here, uint8 [3 H W], red, green and blue of a pixel in turn: XLA makes quick loops of flat arrays, and slow
ones of [H, W, 3]. A paint looks at a picture and gives the one after it, and what it does to other pixels, of which it takes
no statistics (flat too).
"""

import functools
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from pipeline.ops import randaugment as reference

_GRAY = (0.299, 0.587, 0.114)

Change = Callable[[tf.Tensor], tf.Tensor]
Paint = Callable[[tf.Tensor], tuple[tf.Tensor, Change]]


def paints(height: int, width: int, levels: dict[str, Any], tf_contrast: bool) -> dict[str, Paint]:
    """A paint for each operation that keeps pixels in place."""
    def fixed(change: Change) -> Paint:
        return lambda flat: (change(flat), change)

    def seen(look: Callable[..., Change], *arguments) -> Paint:
        def paint(flat: tf.Tensor):
            change = look(flat, *arguments)
            return change(flat), change
        return paint

    white = float(min(height * width // 256, 255))
    return {
        "AutoContrast": seen(_autocontrast),
        "Equalize": seen(_equalize),
        "Invert": fixed(reference.invert),
        "Posterize": fixed(functools.partial(reference.posterize, bits=levels["Posterize"])),
        "Solarize": fixed(functools.partial(reference.solarize, threshold=levels["Solarize"])),
        "SolarizeAdd": fixed(functools.partial(reference.solarize_add, amount=levels["SolarizeAdd"])),
        "Brightness": fixed(functools.partial(_blend, 0.0, factor=levels["Brightness"])),
        "Contrast": (fixed(functools.partial(_blend, white, factor=levels["Contrast"])) if tf_contrast
                     else seen(_contrast, levels["Contrast"])),
        "Color": fixed(functools.partial(_color, factor=levels["Color"])),
        "Sharpness": lambda flat: (_sharpness(flat, height, width, levels["Sharpness"]), lambda grays: grays),
    }


def apply(flat: tf.Tensor, grays: tf.Tensor, indices: tf.Tensor, paints_by_name: dict[str, Paint],
          ) -> tuple[tf.Tensor, tf.Tensor]:
    """(a picture after all its paints, what has become of the gray pixels that its layers bring in).

    Args:
        grays: uint8 [3 layers], the pixel of each layer, which the paints of those after it change.
        indices: int32 [layers], positions in randaugment.OPERATIONS; those without a paint change nothing here.
    """
    layers = indices.shape[0]
    owners = np.repeat(np.arange(layers), 3)
    names = list(paints_by_name)
    numbers = tf.constant([names.index(name) if name in names else len(names) for name in reference.OPERATIONS])

    def layer(number: tf.Tensor, flat: tf.Tensor, grays: tf.Tensor):
        def painted(paint: Paint):
            after, change = paint(flat)
            return after, tf.where(owners < number, change(grays), grays)

        branches = [functools.partial(painted, paint) for paint in paints_by_name.values()] + [lambda: (flat, grays)]
        # A gather, as an index that is an argument becomes a constant of the program, which is then compiled for each.
        which = tf.gather(numbers, tf.gather(indices, number))
        return number + 1, *tf.switch_case(which, branches)

    return tf.while_loop(lambda number, *_: number < layers, layer, (tf.constant(0), flat, grays))[1:]


def _autocontrast(flat: tf.Tensor) -> Change:
    low, high = (tf.cast(bound, tf.float32) for bound in _extremes(flat))
    span = high - low
    low, span = tf.where(span > 0, low, 0.0), tf.where(span > 0, span, 255.0)
    return lambda pixels: _to_uint8((tf.cast(pixels, tf.float32) - _by_channel(low, pixels)) * 255
                                    / _by_channel(span, pixels))


def _extremes(flat: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 [3] each: the least and the largest value of each channel. XLA reduces the first axis of a matrix slowly."""
    pixels = flat.shape[0] // 3
    part = -(-pixels // 8)
    # Eight parts at once (the last ones overlap where the picture has no eight equal ones), then row by row.
    parts = [flat[3 * start:3 * (start + part)] for start in (min(number * part, pixels - part) for number in range(8))]
    low, high = (functools.reduce(one, parts) for one in (tf.minimum, tf.maximum))
    row = next(side for side in range(min(part, 200), 0, -1) if part % side == 0)
    lows, highs = tf.reshape(low, [-1, 3 * row]), tf.reshape(high, [-1, 3 * row])
    _, low, high = tf.while_loop(
        lambda number, *_: number < lows.shape[0],
        lambda number, low, high: (number + 1, tf.minimum(low, tf.gather(lows, number)),
                                   tf.maximum(high, tf.gather(highs, number))),
        (tf.constant(1), lows[0], highs[0]))
    return tf.reduce_min(tf.reshape(low, [-1, 3]), axis=0), tf.reduce_max(tf.reshape(high, [-1, 3]), axis=0)


def _equalize(flat: tf.Tensor) -> Change:
    def positions(pixels: tf.Tensor) -> tf.Tensor:
        return tf.cast(pixels, tf.int32) + _by_channel(tf.constant([0, 256, 512]), pixels)

    counts = _histogram(flat)
    # Behind a branch (which is always taken), as XLA would else divide anew for each byte that is looked up.
    table = tf.cond(counts[0, 0] >= 0, lambda: tf.reshape(reference.equalizing(counts), [768]),
                    lambda: tf.zeros([768], tf.uint8))
    return lambda pixels: tf.gather(table, positions(pixels))


def _histogram(flat: tf.Tensor) -> tf.Tensor:
    """int32 [3, 256]: how often each value occurs in each channel."""
    at_once = 12  # bytes a round, each into counts of its own: a round costs more than a count, and none waits for another
    padding = -flat.shape[0] % at_once
    padded = tf.pad(flat, [[0, padding]])

    def count(number: tf.Tensor, *counts: tf.Tensor):
        values = tf.cast(tf.slice(padded, [at_once * number], [at_once]), tf.int32)
        return number + 1, *(tf.tensor_scatter_nd_add(one, values[place:place + 1, None], [1])
                             for place, one in enumerate(counts))

    start = (tf.constant(0), *[tf.zeros([256], tf.int32)] * at_once)
    counts = tf.while_loop(lambda number, *_: number < padded.shape[0] // at_once, count, start)[1:]
    return tf.stack([tf.add_n(counts[channel::3]) for channel in range(3)]) - tf.one_hot(0, 256, padding // 3, 0)


def _contrast(flat: tf.Tensor, factor: float) -> Change:
    red, green, blue = (tf.cast(flat[channel::3], tf.float32) for channel in range(3))
    grays = tf.round(red * _GRAY[0] + green * _GRAY[1] + blue * _GRAY[2])
    mean = tf.round(tf.cast(tf.reduce_sum(tf.cast(grays, tf.int32)), tf.float32) / grays.shape[0])
    return lambda pixels: _blend(mean, pixels, factor)


def _color(pixels: tf.Tensor, factor: float) -> tf.Tensor:
    # Each byte's gray from the three bytes of its pixel: those at and after it, around it, or at and before it.
    count = pixels.shape[0]
    padded = tf.cast(tf.pad(pixels, [[2, 2]]), tf.float32)
    grays = tf.round(padded[:-2] * _GRAY[0] + padded[1:-1] * _GRAY[1] + padded[2:] * _GRAY[2])
    own = _by_channel((grays[2:], grays[1:count + 1], grays[:count]), pixels)
    return _blend(own, pixels, factor)


def _sharpness(flat: tf.Tensor, height: int, width: int, factor: float) -> tf.Tensor:
    row = 3 * width
    edge = row + 3  # bytes before the first pixel that has all its neighbours
    wide = tf.cast(flat, tf.int16)
    columns = wide[:-2 * row] + wide[row:-row] + wide[2 * row:]
    box = columns[:-6] + columns[3:-3] + columns[6:]
    inner = flat[edge:-edge]
    smooth = tf.round(tf.cast(box + 4 * wide[edge:-edge], tf.float32) / 13)
    border = np.ones([height, width, 3], bool)
    border[1:-1, 1:-1] = False
    sharper = tf.where(border.reshape(-1)[edge:-edge], inner, _blend(smooth, inner, factor))
    return tf.concat([flat[:edge], sharper, flat[-edge:]], axis=0)


def _blend(degenerate: Any, pixels: tf.Tensor, factor: float) -> tf.Tensor:
    return _to_uint8(degenerate + factor * (tf.cast(pixels, tf.float32) - degenerate))


def _to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8)


def _by_channel(values: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Three values, over and over, as long as the flat pixels."""
    count = pixels.shape[0]
    channel = tf.reshape(tf.broadcast_to([0, 1, 2], [count // 3, 3]), [count])
    # Chosen, not looked up: that is what a vector of bytes can do at once.
    return tf.where(channel == 0, values[0], tf.where(channel == 1, values[1], values[2]))
