"""RandAugment as one compiled function a picture, for less than the JPEG's decoding costs.

The operations, levels and the uniform draw are those of `randaugment`, which runs them one after another. Here

- colours run in their order over the flat bytes of the picture, each as Pillow has it;
- the places of a chain (shears, translations, rotations) become one matrix, so that each pixel is looked up once;
- each layer that brings gray into view (the outside of a move, the square of a cutout) does so exactly where it would
  have by itself, and that gray goes through the colours of the layers after it.

So what differs from one operation after another, by design: a pixel is taken from the nearest of one point instead of the
nearest of the nearest (up to a pixel off after several moves); AutoContrast, Equalize and Contrast take their statistics
from the picture without the gray that earlier layers brought in and with what these moved out; and Sharpness smooths
before earlier moves, not after. Chains without moves and cutouts are the same; so is every operation alone.
"""

import functools
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from pipeline.ops import compiled, randaugment as reference

FILL = reference.FILL
NAMES = tuple(reference.OPERATIONS)
MOVES = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
PLACES = [name in MOVES or name == "Cutout" for name in NAMES]
_GRAY = (0.299, 0.587, 0.114)
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class Draw(NamedTuple):
    """What the layers of one picture do."""

    indices: tf.Tensor   # int32 [layers], positions in NAMES
    positive: tf.Tensor  # bool [layers], the sign of a move
    centers: tf.Tensor   # int32 [layers, 2], row and column of a cutout's centre


def randaugment(image: tf.Tensor, seed: tf.Tensor, layers: int, magnitude: float, same: bool = False,
                tf_contrast: bool = False) -> tf.Tensor:
    """As randaugment.randaugment, but for what the module tells and that the draw is another.

    Args:
        image: uint8 [H, W, 3] of static shape, at least 3 x 3.
        seed: int32 or int64 [2]; the same seed gives the same pixels.
        layers, magnitude, same, tf_contrast: as there.

    Returns:
        uint8 [H, W, 3].
    """
    height, width, _ = image.shape
    run = chain(height, width, layers, float(magnitude), tf_contrast)
    return run(image, *draw(seed, layers, height, width, same))


def draw(seed: tf.Tensor, layers: int, height: int, width: int, same: bool = False) -> Draw:
    """Operations uniform over the sixteen, signs even, centres uniform over the pixels."""
    # One call: each costs as much as a third of an operation.
    drawn = tf.random.stateless_uniform([1 if same else layers, 4], seed)
    if same:  # one number for both coordinates too, as randaugment.operations has it
        drawn = tf.repeat(tf.gather(drawn, [0, 1, 2, 2], axis=1), layers, axis=0)
    bounds = tf.constant([len(NAMES), 2, height, width], tf.float32)
    # A float32 just below 1 may be rounded up to the bound.
    whole = tf.minimum(tf.cast(drawn * bounds, tf.int32), tf.cast(bounds, tf.int32) - 1)
    return Draw(whole[:, 0], whole[:, 1] == 0, whole[:, 2:])


@functools.lru_cache(maxsize=None)
def chain(height: int, width: int, layers: int, magnitude: float, tf_contrast: bool = False) -> Callable[..., tf.Tensor]:
    """(image, *Draw) → image, uint8 [height, width, 3], compiled by XLA once for each of these arguments."""
    size = min(height, width)
    levels = {name: operation.level(magnitude / 10, size) for name, operation in reference.OPERATIONS.items()}
    paints = _paints(height, width, levels, tf_contrast)
    places = _places(height, width, levels)

    @compiled.by_xla
    def run(image: tf.Tensor, indices: tf.Tensor, positive: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
        flat, grays = _colours(tf.reshape(image, [-1]), indices, paints)
        # Behind a branch for what moves nothing, and as XLA would else do all of it for each byte of the result.
        moves = tf.reduce_any(tf.gather(PLACES, indices))
        source = tf.cond(moves, lambda: places(indices, positive, centers), lambda: tf.range(height * width))
        return tf.reshape(_looked_up(flat, grays, source), [height, width, 3])

    return run


# Colours: a paint looks at the flat picture (uint8 [3 H W]) and gives the picture after it, and what it does to other flat
# pixels (None: nothing). XLA makes quick loops of flat arrays, and slow ones of [H, W, 3]. ---------------------------------

Change = Callable[[tf.Tensor], tf.Tensor]
Paint = Callable[[tf.Tensor], tuple[tf.Tensor, Change]]


def _paints(height: int, width: int, levels: dict[str, Any], tf_contrast: bool) -> dict[str, Paint]:
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


def _colours(flat: tf.Tensor, indices: tf.Tensor, paints: dict[str, Paint]) -> tuple[tf.Tensor, tf.Tensor]:
    """(the picture after all its paints, uint8 [3 layers]: what has become of the gray that each layer brings in)."""
    layers = indices.shape[0]
    owners = np.repeat(np.arange(layers), 3)
    names = list(paints)
    numbers = tf.constant([names.index(name) if name in paints else len(paints) for name in NAMES])

    def layer(number: tf.Tensor, flat: tf.Tensor, grays: tf.Tensor):
        def painted(paint: Paint):
            after, change = paint(flat)
            return after, tf.where(owners < number, change(grays), grays)

        branches = [functools.partial(painted, paint) for paint in paints.values()] + [lambda: (flat, grays)]
        # A gather, as an index that is an argument becomes a constant of the program, which is then compiled for each.
        which = tf.gather(numbers, tf.gather(indices, number))
        return number + 1, *tf.switch_case(which, branches)

    start = (tf.constant(0), flat, tf.fill([3 * layers], tf.constant(FILL, tf.uint8)))
    return tf.while_loop(lambda number, *_: number < layers, layer, start)[1:]


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

    counts = tf.tensor_scatter_nd_add(tf.zeros([768], tf.int32), positions(flat)[:, None], tf.ones_like(flat, tf.int32))
    # Behind a branch (which is always taken), as XLA would else divide anew for each byte that is looked up.
    table = tf.cond(counts[0] >= 0, lambda: tf.reshape(reference.equalizing(tf.reshape(counts, [3, 256])), [768]),
                    lambda: tf.zeros([768], tf.uint8))
    return lambda pixels: tf.gather(table, positions(pixels))


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


# Places --------------------------------------------------------------------------------------------------------------

def _places(height: int, width: int, levels: dict[str, Any]) -> Callable[..., tf.Tensor]:
    """Draw → int32 [H W]: the pixel that each is taken from, or H W + the number of the layer whose gray it is."""
    matrices = move_matrices(height, width, levels).reshape(-1, 6)
    is_cutout = [name == "Cutout" for name in NAMES]
    half_side = levels["Cutout"]

    def places(indices: tf.Tensor, positive: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
        layers = indices.shape[0]
        own = tf.gather(matrices, 2 * indices + tf.cast(positive, tf.int32))
        cuts = tf.gather(is_cutout, indices)
        lows = tf.where(cuts[:, None], tf.cast(centers - half_side, tf.float32), 0.0)
        highs = tf.where(cuts[:, None], tf.cast(centers + half_side, tf.float32), [float(height), float(width)])
        before = _before_each(own)
        brought = tf.fill([height, width], -1)
        for layer in reversed(range(layers)):
            rows, columns = _coordinates(before[layer], height, width)
            inside = ((columns >= lows[layer, 1]) & (columns < highs[layer, 1])
                      & (rows >= lows[layer, 0]) & (rows < highs[layer, 0]))
            brought = tf.where((brought < 0) & tf.equal(inside, cuts[layer]), layer, brought)
        rows, columns = _coordinates(before[0], height, width)
        pixel = (tf.clip_by_value(tf.cast(rows, tf.int32), 0, height - 1) * width
                 + tf.clip_by_value(tf.cast(columns, tf.int32), 0, width - 1))
        return tf.reshape(tf.where(brought < 0, pixel, height * width + brought), [-1])

    return places


def _before_each(own: tf.Tensor) -> tf.Tensor:
    """float32 [layers, 6]: the matrix of each layer and all after it, which tells where an output pixel was before it."""
    layers = own.shape[0]

    def compose(layer: tf.Tensor, after: tf.Tensor, before: tf.Tensor):
        matrix = _composed(tf.gather(own, layer), after)
        return layer - 1, matrix, tf.where(tf.range(layers)[:, None] == layer, matrix, before)

    # In a loop, as XLA would else compute all of them again for each pixel.
    start = (tf.constant(layers - 1), tf.constant(_IDENTITY), tf.zeros([layers, 6]))
    return tf.while_loop(lambda layer, *_: layer >= 0, compose, start)[2]


def move_matrices(height: int, width: int, levels: dict[str, Any]) -> np.ndarray:
    """float32 [operations, 2, 6]: what each does to coordinates (see randaugment.transform), by minus and plus its level."""
    matrices = np.tile(np.array(_IDENTITY), (len(NAMES), 2, 1))
    y, x = (height - 1) / 2, (width - 1) / 2
    for positive, sign in enumerate((-1, 1)):
        angle = np.deg2rad(sign * levels["Rotate"])
        cos, sin = np.cos(angle), np.sin(angle)
        for name, matrix in {
                "Rotate": (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y),
                "ShearX": (1, sign * levels["ShearX"], 0, 0, 1, 0), "ShearY": (1, 0, 0, sign * levels["ShearY"], 1, 0),
                "TranslateX": (1, 0, sign * levels["TranslateX"], 0, 1, 0),
                "TranslateY": (1, 0, 0, 0, 1, sign * levels["TranslateY"])}.items():
            matrices[NAMES.index(name), positive] = matrix
    return matrices.astype(np.float32)


def _composed(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """The matrix, float32 [6], of `second` and then `first`."""
    a, b, c, d, e, f = tf.unstack(first)
    x, y = tf.split(second, 2)
    offset = tf.constant([0.0, 0.0, 1.0])
    return tf.concat([a * x + b * y + c * offset, d * x + e * y + f * offset], axis=0)


def _coordinates(matrix: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """(rows, columns), float32 [H, W]: where each pixel is taken from; their whole part is the nearest pixel."""
    a, b, c, d, e, f = tf.unstack(matrix)
    columns, rows = tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32)
    return d * columns + (e * rows + (f + 0.5))[:, None], a * columns + (b * rows + (c + 0.5))[:, None]


def _looked_up(flat: tf.Tensor, grays: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    """flat[source] of pixels, those from H W on being the grays."""
    padding = -source.shape[0] % 4
    packed = tf.concat([_packed(flat), _packed(grays)], axis=0)
    taken = tf.gather(packed, tf.pad(source, [[0, padding]]))
    return _unpacked(taken)[:flat.shape[0]]


def _packed(flat: tf.Tensor) -> tf.Tensor:
    """uint8 [3 n] → uint32 [n], a pixel in one number, so that it is looked up at once."""
    red, green, blue = (tf.cast(flat[channel::3], tf.uint32) for channel in range(3))
    return red | tf.bitwise.left_shift(green, 8) | tf.bitwise.left_shift(blue, 16)


def _unpacked(packed: tf.Tensor) -> tf.Tensor:
    """uint32 [4 n] → uint8 [12 n]; four pixels are three whole words."""
    one, two, three, four = (packed[number::4] for number in range(4))
    left, right = tf.bitwise.left_shift, tf.bitwise.right_shift
    words = tf.stack([one | left(two, 24), right(two, 8) | left(three, 16), right(three, 16) | left(four, 8)], axis=1)
    return tf.reshape(tf.bitcast(words, tf.uint8), [-1])
