"""RandAugment (Cubuk et al. 2019, "RandAugment: Practical automated data augmentation with a reduced search space").

The sixteen operations and the level table of the TensorFlow reference. Each is an entry of `OPERATIONS`: a function of
a uint8 image, and a function that gives its level from the magnitude. Magnitudes are 0-10 in the reference's table;
larger ones go on along the same lines until an operation saturates.

Two things can be had as iNat 2021's sixth place had them, though neither was meant. `same`: each of its random numbers
was drawn with one operation seed, so all layers were the one operation, with one sign. `tf_contrast`: the reference's
contrast takes the number of pixels over 256 for the mean gray.
"""

import functools
import math
from typing import Any, Callable, NamedTuple

import tensorflow as tf

from pipeline.errors import UserError
from pipeline.ops import seeds

FILL = 128             # what comes into view, and what is cut out
FULL_SIZE = 224        # pixel amounts hold from this size up; below they scale with size / FULL_SIZE
MAX_MAGNITUDE = 30.0
_GRAY = (0.299, 0.587, 0.114)  # ITU-R 601-2 luma, as in Pillow


class Operation(NamedTuple):
    """One line of the table."""

    apply: Callable[[tf.Tensor, Any, tf.Tensor], tf.Tensor]  # (uint8 [H, W, 3], level, seed) -> the same shape
    level: Callable[[float, int], Any]  # (magnitude / 10, size) -> a Python number, None where there is no level


class RandAugment(NamedTuple):
    """`--randaugment`, parsed."""

    layers: int                # operations applied to a picture
    magnitude: float           # their common strength, 0 to 30
    same: bool = False         # one draw for all layers
    tf_contrast: bool = False  # the TensorFlow reference's contrast


def parse(text: str) -> RandAugment:
    """N:M, as in `--randaugment=6:4`, and of OPTIONS any, in any order: `6:4:same:tf_contrast`; raises UserError."""
    numbers, options = text.split(":")[:2], text.split(":")[2:]
    try:
        layers, magnitude = numbers
        parsed = RandAugment(int(layers), float(magnitude), **dict.fromkeys(options, True))
    except (TypeError, ValueError):
        parsed = RandAugment(0, 0.0)
    if parsed.layers < 1 or not 0 <= parsed.magnitude <= MAX_MAGNITUDE or len(set(options)) < len(options):
        raise UserError(f"randaugment {text!r} is not LAYERS:MAGNITUDE with at least 1 layer and a magnitude from "
                        f"0 to {MAX_MAGNITUDE:g}, as in 6:4; after it, once each, {' and '.join(OPTIONS)} may stand, as in "
                        f"6:4:{':'.join(OPTIONS)}")
    return parsed


def randaugment(image: tf.Tensor, seed: tf.Tensor, layers: int, magnitude: float, same: bool = False,
                tf_contrast: bool = False) -> tf.Tensor:
    """Applies `layers` operations, each drawn uniformly (with replacement) from the sixteen.

    Args:
        image: uint8 [H, W, 3] of static shape.
        seed: int32 or int64 [2]; the same seed gives the same pixels.
        layers: number of operations applied.
        magnitude: common strength, 0 to 30.
        same: one draw for all layers: of the operation, its sign and its place.
        tf_contrast: `reference_contrast` in the place of `contrast`.

    Returns:
        uint8 [H, W, 3].
    """
    size = min(image.shape[0], image.shape[1])
    table = operations(same, tf_contrast)
    levels = {name: operation.level(magnitude / 10, size) for name, operation in table.items()}
    indices, layer_seeds = draw(seed, layers, same)

    def layer(number: tf.Tensor, before: tf.Tensor):
        def branch(name: str):
            return lambda: table[name].apply(before, levels[name], layer_seeds[number])
        # switch_case and not a sum of masked results: only the operation that was drawn is run.
        after = tf.switch_case(indices[number], [branch(name) for name in table])
        return number + 1, tf.ensure_shape(after, image.shape)

    # A loop keeps sixteen branches in the graph instead of sixteen for each layer.
    _, result = tf.while_loop(lambda number, _: number < layers, layer, (tf.constant(0), image),
                              parallel_iterations=1)
    return result


def draw(seed: tf.Tensor, layers: int, same: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """What the layers do: int32 [layers], positions in `OPERATIONS`, and [layers, 2], a seed for each layer."""
    drawn = 1 if same else layers
    which, *layer_seeds = seeds.split(seed, drawn + 1)
    indices = tf.random.stateless_uniform([drawn], which, 0, len(OPERATIONS), tf.int32)
    if same:
        return tf.repeat(indices, layers), tf.repeat(layer_seeds, layers, axis=0)
    return indices, tf.stack(layer_seeds)


# Colours -------------------------------------------------------------------------------------------------------------

def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to 0-255; a channel of one value stays as it is."""
    # One axis at a time: over both at once TensorFlow is several times slower.
    low = tf.cast(tf.reduce_min(tf.reduce_min(image, axis=0), axis=0), tf.float32)
    span = tf.cast(tf.reduce_max(tf.reduce_max(image, axis=0), axis=0), tf.float32) - low
    stretched = (tf.cast(image, tf.float32) - low) * 255 / tf.maximum(span, 1)
    return tf.where(span > 0, _to_uint8(stretched), image)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Makes the histogram of each channel as flat as it can be, with Pillow's integer arithmetic."""
    # The channels lie one after the other in one table of 768 values.
    positions = tf.cast(image, tf.int32) + tf.constant([0, 256, 512])
    counts = tf.math.bincount(tf.reshape(positions, [-1]), minlength=768, maxlength=768)
    table = equalizing(tf.reshape(counts, [3, 256]))
    return tf.gather(tf.reshape(table, [768]), positions)


def equalizing(counts: tf.Tensor) -> tf.Tensor:
    """The table, uint8 [3, 256], that makes a histogram, int32 [3, 256], flat."""
    last = 255 - tf.argmax(tf.cast(counts > 0, tf.int32)[:, ::-1], axis=1, output_type=tf.int32)
    step = (tf.reduce_sum(counts, axis=1) - tf.gather(counts, last, batch_dims=1)) // 255
    below = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((below + step[:, None] // 2) // tf.maximum(step, 1)[:, None], 255)
    return tf.cast(tf.where(step[:, None] > 0, table, tf.range(256)), tf.uint8)  # else too few values to spread


def invert(image: tf.Tensor) -> tf.Tensor:
    return 255 - image


def posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    """Keeps the top `bits` bits, 0 to 8, of each value."""
    return tf.bitwise.bitwise_and(image, tf.constant(255 >> (8 - bits) << (8 - bits), tf.uint8))


def solarize(image: tf.Tensor, threshold: int) -> tf.Tensor:
    """Inverts the values from `threshold` up."""
    if threshold > 255:
        return image  # and uint8 could not hold it
    return tf.where(image < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, amount: int) -> tf.Tensor:
    """Adds to the values below 128."""
    amount = min(amount, 255)
    return tf.where(image < 128, tf.minimum(image, 255 - amount) + amount, image)  # clipped before it can overflow


def blend(degenerate: tf.Tensor, image: tf.Tensor, factor: float) -> tf.Tensor:
    """`degenerate` at factor 0, the image at 1, beyond it from there on; float `degenerate`, uint8 image and result."""
    return _to_uint8(degenerate + factor * (tf.cast(image, tf.float32) - degenerate))


def color(image: tf.Tensor, factor: float) -> tf.Tensor:
    return blend(_grayscale(image), image, factor)


def contrast(image: tf.Tensor, factor: float) -> tf.Tensor:
    return blend(tf.round(tf.reduce_mean(_grayscale(image))), image, factor)


def reference_contrast(image: tf.Tensor, factor: float) -> tf.Tensor:
    """The reference's, which sums the gray histogram's counts instead of its values: its "mean" is pixels / 256.

    From 256 · 255 pixels on (256 px a side) that is white, below it a gray that says nothing of the picture.
    """
    return blend(tf.constant(float(min(image.shape[0] * image.shape[1] // 256, 255))), image, factor)


def brightness(image: tf.Tensor, factor: float) -> tf.Tensor:
    return blend(tf.constant(0.0), image, factor)


def sharpness(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Blends with the image smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; the border pixels stay."""
    if min(image.shape[0], image.shape[1]) < 3:
        return image  # nothing but border
    pixels = tf.cast(image, tf.float32)
    columns = pixels[:-2] + pixels[1:-1] + pixels[2:]
    box = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:]
    inner = pixels[1:-1, 1:-1]
    change = tf.round((box + 4 * inner) / 13) - inner
    # A change of 0 along the border is what keeps it.
    return blend(pixels + tf.pad(change, [[1, 1], [1, 1], [0, 0]]), image, factor)


# Places --------------------------------------------------------------------------------------------------------------

def transform(image: tf.Tensor, matrix, interpolation: str = "NEAREST", fill: float = FILL) -> tf.Tensor:
    """Takes the output pixel (x, y) from the input at (a x + b y + c, d x + e y + f); `matrix` is (a, b, c, d, e, f).

    Args:
        image: [H, W, C], uint8 or float.
        matrix: six numbers or float32 scalars.
        interpolation: NEAREST or BILINEAR.
        fill: value of what lies outside the input.

    Returns:
        The image's shape and dtype.
    """
    rows = tf.stack([tf.cast(number, tf.float32) for number in (*matrix, 0.0, 0.0)])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis], transforms=rows[tf.newaxis], output_shape=image.shape[:2],
        fill_value=float(fill), interpolation=interpolation, fill_mode="CONSTANT")[0]


def rotation(image: tf.Tensor, degrees) -> tuple:
    """The matrix for `transform` that turns [H, W, C] counter-clockwise about its centre."""
    radians = tf.cast(degrees, tf.float32) * (math.pi / 180)
    cos, sin = tf.cos(radians), tf.sin(radians)
    center_y, center_x = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    return (cos, -sin, center_x - cos * center_x + sin * center_y,
            sin, cos, center_y - sin * center_x - cos * center_y)


def cutout(image: tf.Tensor, half_side: int, seed: tf.Tensor, on_diagonal: bool = False) -> tf.Tensor:
    """Fills a square of side 2 * `half_side`, its centre anywhere in the image (or on its diagonal), with 128."""
    height, width = image.shape[0], image.shape[1]
    y_seed, x_seed = [seed, seed] if on_diagonal else seeds.split(seed, 2)
    distances_y = tf.range(height) - tf.random.stateless_uniform([], y_seed, 0, height, tf.int32)
    distances_x = tf.range(width) - tf.random.stateless_uniform([], x_seed, 0, width, tf.int32)
    rows = (distances_y >= -half_side) & (distances_y < half_side)
    columns = (distances_x >= -half_side) & (distances_x < half_side)
    return tf.where((rows[:, None] & columns[None, :])[:, :, None], tf.constant(FILL, image.dtype), image)


# The table -----------------------------------------------------------------------------------------------------------

def _plain(function: Callable) -> Callable:
    return lambda image, level, seed: function(image)


def _leveled(function: Callable) -> Callable:
    return lambda image, level, seed: function(image, level)


def _signed(matrix: Callable) -> Callable:
    """An operation that moves pixels by its level or, with probability 1/2, by minus its level."""
    def apply(image: tf.Tensor, level: float, seed: tf.Tensor) -> tf.Tensor:
        positive = tf.random.stateless_uniform([], seed) < 0.5
        return transform(image, matrix(image, tf.where(positive, level, -level)))
    return apply


def _no_level(m: float, size: int) -> None:
    return None


def _factor(m: float, size: int) -> float:
    return 1.8 * m + 0.1


def _pixels(amount: float) -> Callable[[float, int], float]:
    return lambda m, size: amount * m * min(1.0, size / FULL_SIZE)


OPERATIONS = {
    "AutoContrast": Operation(_plain(autocontrast), _no_level),
    "Equalize": Operation(_plain(equalize), _no_level),
    "Invert": Operation(_plain(invert), _no_level),
    "Rotate": Operation(_signed(rotation), lambda m, size: 30 * m),              # degrees
    "Posterize": Operation(_leveled(posterize), lambda m, size: min(int(4 * m), 8)),  # bits kept
    "Solarize": Operation(_leveled(solarize), lambda m, size: int(256 * m)),     # threshold
    "Color": Operation(_leveled(color), _factor),
    "Contrast": Operation(_leveled(contrast), _factor),
    "Brightness": Operation(_leveled(brightness), _factor),
    "Sharpness": Operation(_leveled(sharpness), _factor),
    "ShearX": Operation(_signed(lambda image, level: (1, level, 0, 0, 1, 0)), lambda m, size: 0.3 * m),
    "ShearY": Operation(_signed(lambda image, level: (1, 0, 0, level, 1, 0)), lambda m, size: 0.3 * m),
    "TranslateX": Operation(_signed(lambda image, level: (1, 0, level, 0, 1, 0)), _pixels(100)),
    "TranslateY": Operation(_signed(lambda image, level: (1, 0, 0, 0, 1, level)), _pixels(100)),
    "Cutout": Operation(cutout, lambda m, size: int(_pixels(40)(m, size))),      # half the side, in pixels
    "SolarizeAdd": Operation(_leveled(solarize_add), lambda m, size: int(110 * m)),
}


OPTIONS = tuple(RandAugment._field_defaults)


def operations(same: bool = False, tf_contrast: bool = False) -> dict[str, Operation]:
    """OPERATIONS, or what the options make of them: one draw is also one for both of a cutout's coordinates."""
    cut = {"Cutout": OPERATIONS["Cutout"]._replace(apply=functools.partial(cutout, on_diagonal=True))} if same else {}
    return {**OPERATIONS, **cut, **({"Contrast": Operation(_leveled(reference_contrast), _factor)} if tf_contrast else {})}


def _grayscale(image: tf.Tensor) -> tf.Tensor:
    """float32 [H, W, 1], whole numbers 0-255."""
    return tf.round(tf.tensordot(tf.cast(image, tf.float32), tf.constant(_GRAY)[:, None], axes=1))


def _to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    """Clips, then cuts the fraction off, as the reference and Pillow do."""
    return tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8)
