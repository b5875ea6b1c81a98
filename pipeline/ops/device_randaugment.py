"""RandAugment's fast engine for a batch on an accelerator: what `randaugment_fast` does, in its order, by its draws.

Most of a layer's colours are computed for all pictures, each of which takes the operation it drew: together they move as
much memory as one. Two that cost more, Equalize (it counts) and Sharpness (it looks around), run for the pictures that
drew them, one after another: two of a batch of 32, on average. Places are those of the host's matrices; a pixel is
interpolated between four, where the host takes the nearest.
"""

import functools
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from pipeline.ops import device_tables, device_warp, light, randaugment as reference, randaugment_fast as fast

Draw = fast.Draw  # here of a batch: indices and positive [batch, layers], centers [batch, layers, 2]
Change = Callable[[tf.Tensor], tf.Tensor]  # uint8 [batch, 3, height, width], any height and width → the same shape


def randaugment(pixels: tf.Tensor, drawn: Draw, magnitude: float, tf_contrast: bool = False) -> tf.Tensor:
    """uint8 [batch, 3, size, size] of static shape to the same; magnitude and tf_contrast as fast.chain has them."""
    size, layers = pixels.shape[-1], drawn.indices.shape[1]
    levels = {name: operation.level(magnitude / 10, size) for name, operation in reference.OPERATIONS.items()}
    grays = tf.fill([pixels.shape[0], 3, layers, 1], tf.constant(fast.FILL, tf.uint8))
    for layer in range(layers):  # not in a loop, of which preflight's compiler would count one round
        pixels, grays = _colour(pixels, grays, drawn.indices[:, layer], layer, levels, tf_contrast)
    return _move(pixels, grays, drawn, levels)


# Colours -------------------------------------------------------------------------------------------------------------

def _colour(pixels: tf.Tensor, grays: tf.Tensor, indices: tf.Tensor, layer: int, levels: dict[str, Any],
            tf_contrast: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """A layer's colours, on the pictures and on what the layers before it have brought in, uint8 [batch, 3, layers, 1]."""
    changes = _changes(pixels, levels, tf_contrast)
    painted, changed = (_chosen(changes, indices, values) for values in (pixels, grays))
    painted, changed = _for_those(indices, "Sharpness", lambda own, gray: (_sharpness(own, levels["Sharpness"]), gray),
                                  painted, changed)
    painted, changed = _for_those(indices, "Equalize", _equalize, painted, changed)
    earlier = tf.range(grays.shape[2])[:, tf.newaxis] < layer
    return painted, tf.where(earlier, changed, grays)


def _for_those(indices: tf.Tensor, name: str, function: Callable, pixels: tf.Tensor, grays: tf.Tensor):
    """Pixels and grays after function(pixels, grays) for each picture that drew the operation, one after another."""
    until = tf.cumsum(tf.cast(tf.equal(indices, fast.NAMES.index(name)), tf.int32))  # how many there are up to each

    def one(number: tf.Tensor, *both: tf.Tensor):
        place = tf.reduce_sum(tf.cast(until <= number, tf.int32))
        changed = function(*(tf.gather(whole, [place]) for whole in both))
        return number + 1, *(tf.tensor_scatter_nd_update(whole, [[place]], new) for whole, new in zip(both, changed))

    return tf.while_loop(lambda number, *_: number < until[-1], one, (0, pixels, grays), parallel_iterations=1)[1:]


def _drew(indices: tf.Tensor, name: str) -> tf.Tensor:
    """bool [batch, 1, 1, 1]."""
    return tf.equal(indices, fast.NAMES.index(name))[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _chosen(changes: dict[str, Change], indices: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """What each picture's operation makes of its values; those of another operation stay."""
    chosen = values
    for name, change in changes.items():
        chosen = tf.where(_drew(indices, name), change(values), chosen)
    return chosen


def _changes(pixels: tf.Tensor, levels: dict[str, Any], tf_contrast: bool) -> dict[str, Change]:
    """What the operations that look at one pixel at a time do, by what they see of the pictures."""
    low, high = (tf.cast(extreme(pixels, axis=[2, 3], keepdims=True), tf.float32)
                 for extreme in (tf.reduce_min, tf.reduce_max))
    span = high - low
    low, span = tf.where(span > 0, low, 0.0), tf.where(span > 0, span, 255.0)
    count = pixels.shape[2] * pixels.shape[3]
    if tf_contrast:
        mean = float(min(count // 256, 255))
    else:
        sums = tf.reduce_sum(tf.cast(_gray(pixels), tf.int32), axis=[2, 3], keepdims=True)
        mean = tf.round(tf.cast(sums, tf.float32) / count)
    return {
        "AutoContrast": lambda values: _to_uint8((tf.cast(values, tf.float32) - low) * 255 / span),
        "Invert": reference.invert,
        "Posterize": functools.partial(reference.posterize, bits=levels["Posterize"]),
        "Solarize": functools.partial(reference.solarize, threshold=levels["Solarize"]),
        "SolarizeAdd": functools.partial(reference.solarize_add, amount=levels["SolarizeAdd"]),
        "Brightness": lambda values: _blend(0.0, values, levels["Brightness"]),
        "Contrast": lambda values: _blend(mean, values, levels["Contrast"]),
        "Color": lambda values: _blend(_gray(values), values, levels["Color"]),
    }


def _equalize(pixels: tf.Tensor, grays: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    tables = device_tables.equalizing(pixels)
    return device_tables.look_up(tables, pixels), device_tables.look_up(tables, grays)


def _sharpness(pixels: tf.Tensor, factor: float) -> tf.Tensor:
    """As reference.sharpness."""
    values = tf.cast(pixels, tf.float32)
    columns = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
    box = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]
    inner = values[:, :, 1:-1, 1:-1]
    change = tf.round((box + 4 * inner) / 13) - inner
    return _blend(values + tf.pad(change, [[0, 0], [0, 0], [1, 1], [1, 1]]), pixels, factor)


def _gray(pixels: tf.Tensor) -> tf.Tensor:
    """float32 [batch, 1, height, width], whole numbers."""
    red, green, blue = (tf.cast(pixels[:, channel:channel + 1], tf.float32) for channel in range(3))
    return tf.round(red * light.LUMINANCE[0] + green * light.LUMINANCE[1] + blue * light.LUMINANCE[2])


def _blend(degenerate: Any, values: tf.Tensor, factor: float) -> tf.Tensor:
    return _to_uint8(degenerate + factor * (tf.cast(values, tf.float32) - degenerate))


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Cuts the fraction off, as Pillow does."""
    return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)


# Places --------------------------------------------------------------------------------------------------------------

def _move(pixels: tf.Tensor, grays: tf.Tensor, drawn: Draw, levels: dict[str, Any]) -> tf.Tensor:
    """The pictures where their layers move them, with the gray that these bring in; arguments as of _colour."""
    size, layers = pixels.shape[-1], drawn.indices.shape[1]
    before = _before_each(drawn, fast.move_matrices(size, size, levels))
    moved = device_warp.warp(tf.cast(pixels, tf.float32) - fast.FILL, before[0]) + fast.FILL
    moved = tf.cast(tf.clip_by_value(tf.round(moved), 0, 255), tf.uint8)
    for layer in range(layers):  # a later one's gray covers an earlier one's
        own = Draw(*(one[:, layer] for one in drawn))
        brought = _brings_gray(own, before[layer], levels["Cutout"], size)
        moved = tf.where(brought[:, tf.newaxis], grays[:, :, layer, tf.newaxis], moved)
    return moved


def _before_each(drawn: Draw, matrices: np.ndarray) -> tf.Tensor:
    """float32 [layers, batch, 6]: as fast's, of each picture."""
    batch, layers = drawn.indices.shape
    own = tf.gather(matrices.reshape(-1, 6), tf.transpose(2 * drawn.indices + tf.cast(drawn.positive, tf.int32)))

    def compose(layer: tf.Tensor, after: tf.Tensor, before: tf.Tensor):
        matrix = _composed(tf.gather(own, layer), after)
        return layer - 1, matrix, tf.where(tf.range(layers)[:, tf.newaxis, tf.newaxis] == layer, matrix, before)

    # In a loop, as XLA would else compute all of them again for each pixel.
    start = (layers - 1, tf.tile(tf.constant([device_warp.IDENTITY]), [batch, 1]), tf.zeros([layers, batch, 6]))
    return tf.while_loop(lambda layer, *_: layer >= 0, compose, start, parallel_iterations=1)[2]


def _composed(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """The matrices, float32 [batch, 6], of `second` and then `first`."""
    a, b, c, d, e, f = tf.split(first, 6, axis=1)
    x, y = tf.split(second, 2, axis=1)
    offset = tf.constant([0.0, 0.0, 1.0])
    # Not as a matrix product, whose factors a TPU rounds.
    return tf.concat([a * x + b * y + c * offset, d * x + e * y + f * offset], axis=1)


def _brings_gray(drawn: Draw, matrix: tf.Tensor, half_side: int, size: int) -> tf.Tensor:
    """Where a layer brings gray into view, bool [batch, size, size]: its cutout's square, or what it moves in from outside.

    Args: drawn: of the layer; matrix: float32 [batch, 6], from the result to what the layer is given.
    """
    cuts = tf.equal(drawn.indices, fast.NAMES.index("Cutout"))[:, tf.newaxis]
    centers = tf.cast(drawn.centers, tf.float32)
    lows, highs = tf.where(cuts, centers - half_side, 0.0), tf.where(cuts, centers + half_side, float(size))
    ends = tf.concat([lows, highs], axis=1)
    low_y, low_x, high_y, high_x = (one[:, tf.newaxis, tf.newaxis] for one in tf.unstack(ends, axis=1))
    a, b, c, d, e, f = (one[:, tf.newaxis, tf.newaxis] for one in tf.unstack(matrix, axis=1))
    along = tf.range(size, dtype=tf.float32)
    x, y = along, along[:, tf.newaxis]
    columns, rows = a * x + (b * y + (c + 0.5)), d * x + (e * y + (f + 0.5))
    inside = (columns >= low_x) & (columns < high_x) & (rows >= low_y) & (rows < high_y)
    return tf.equal(inside, cuts[:, :, tf.newaxis])
