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

from pipeline.ops import compiled, flat_colours, randaugment as reference

FILL = reference.FILL
NAMES = tuple(reference.OPERATIONS)
MOVES = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
PLACES = [name in MOVES or name == "Cutout" for name in NAMES]
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
    run = _chain_of_uniform(height, width, layers, float(magnitude), tf_contrast, same)
    return run(image, _uniform(seed, layers, same))


def draw(seed: tf.Tensor, layers: int, height: int, width: int, same: bool = False) -> Draw:
    """Operations uniform over the sixteen, signs even, centres uniform over the pixels."""
    return _drawn(_uniform(seed, layers, same), layers, height, width, same)


def _uniform(seed: tf.Tensor, layers: int, same: bool) -> tf.Tensor:
    """All that is random, float32 [layers or 1, 4]; in one call, as each costs as much as a third of an operation."""
    return tf.random.stateless_uniform([1 if same else layers, 4], seed)


def _drawn(drawn: tf.Tensor, layers: int, height: int, width: int, same: bool) -> Draw:
    if same:  # one number for both coordinates too, as randaugment.operations has it
        drawn = tf.repeat(tf.gather(drawn, [0, 1, 2, 2], axis=1), layers, axis=0)
    bounds = tf.constant([len(NAMES), 2, height, width], tf.float32)
    # A float32 just below 1 may be rounded up to the bound.
    whole = tf.minimum(tf.cast(drawn * bounds, tf.int32), tf.cast(bounds, tf.int32) - 1)
    return Draw(whole[:, 0], whole[:, 1] == 0, whole[:, 2:])


@functools.lru_cache(maxsize=None)
def chain(height: int, width: int, layers: int, magnitude: float, tf_contrast: bool = False) -> Callable[..., tf.Tensor]:
    """(image, *Draw) → image, uint8 [height, width, 3], compiled by XLA once for each of these arguments."""
    return compiled.by_xla(_chain(height, width, layers, magnitude, tf_contrast))


@functools.lru_cache(maxsize=None)
def _chain_of_uniform(height: int, width: int, layers: int, magnitude: float, tf_contrast: bool,
                      same: bool) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """As `chain` of what `_uniform` gives: the few numbers that become a Draw cost less within the program than before."""
    run = _chain(height, width, layers, magnitude, tf_contrast)
    return compiled.by_xla(lambda image, uniform: run(image, *_drawn(uniform, layers, height, width, same)))


def _chain(height: int, width: int, layers: int, magnitude: float, tf_contrast: bool) -> Callable[..., tf.Tensor]:
    """What XLA compiles."""
    size = min(height, width)
    levels = {name: operation.level(magnitude / 10, size) for name, operation in reference.OPERATIONS.items()}
    paints = flat_colours.paints(height, width, levels, tf_contrast)
    places = _places(height, width, levels)

    def run(image: tf.Tensor, indices: tf.Tensor, positive: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
        grays = tf.fill([3 * layers], tf.constant(FILL, tf.uint8))
        flat, grays = flat_colours.apply(tf.reshape(image, [-1]), grays, indices, paints)
        # Behind a branch for what moves nothing, and as XLA would else do all of it for each byte of the result.
        moves = tf.reduce_any(tf.gather(PLACES, indices))
        source = tf.cond(moves, lambda: places(indices, positive, centers), lambda: tf.range(height * width))
        return tf.reshape(_looked_up(flat, grays, source), [height, width, 3])

    return run


# Places --------------------------------------------------------------------------------------------------------------

def _places(height: int, width: int, levels: dict[str, Any]) -> Callable[..., tf.Tensor]:
    """Draw → int32 [H W]: the pixel that each is taken from, or H W + the number of the layer whose gray it is."""
    matrices = move_matrices(height, width, levels).reshape(-1, 6)
    is_cutout = [name == "Cutout" for name in NAMES]
    half_side = levels["Cutout"]

    def places(indices: tf.Tensor, positive: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
        layers = indices.shape[0]
        number = tf.uint8 if layers < 256 else tf.int32
        own = tf.gather(matrices, 2 * indices + tf.cast(positive, tf.int32))
        cuts = tf.gather(is_cutout, indices)
        lows = tf.where(cuts[:, None], tf.cast(centers - half_side, tf.float32), 0.0)
        highs = tf.where(cuts[:, None], tf.cast(centers + half_side, tf.float32), [float(height), float(width)])
        before, brings = _before_each(own), tf.gather(PLACES, indices)

        def brought_by(layer: tf.Tensor, brought: tf.Tensor) -> tf.Tensor:
            rows, columns = _coordinates(tf.gather(before, layer), height, width)
            low, high = tf.gather(lows, layer), tf.gather(highs, layer)
            inside = (columns >= low[1]) & (columns < high[1]) & (rows >= low[0]) & (rows < high[0])
            return tf.where(tf.equal(inside, tf.gather(cuts, layer)), tf.cast(layer, number), brought)

        def with_layer(layer: tf.Tensor, brought: tf.Tensor):
            return layer + 1, tf.cond(tf.gather(brings, layer), lambda: brought_by(layer, brought), lambda: brought)

        # Small numbers, as this is written once for each of them.
        nobody = tf.fill([height, width], tf.constant(layers, number))
        brought = tf.while_loop(lambda layer, _: layer < layers, with_layer, (tf.constant(0), nobody))[1]
        rows, columns = _coordinates(before[0], height, width)
        pixel = (tf.clip_by_value(tf.cast(rows, tf.int32), 0, height - 1) * width
                 + tf.clip_by_value(tf.cast(columns, tf.int32), 0, width - 1))
        return tf.reshape(tf.where(brought == layers, pixel, height * width + tf.cast(brought, tf.int32)), [-1])

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
