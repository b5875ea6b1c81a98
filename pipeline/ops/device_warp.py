"""A batch of pictures, each moved by a matrix of its own, without looking up pixels, which an accelerator does slowly.

All that moves (shears, turns, shifts, and what they are one after another) keeps areas: its matrix has determinant 1. Such
a matrix is: the picture as it is or mirrored about its diagonal, then its axes stretched, by p and 1/p (where p is 1 for a
turn as for a shear), then three shears: along the rows, along the columns, along the rows (Paeth 1986, "A fast algorithm
for general raster rotation"). The stretch is a matrix product for the rows and one for the columns, and bfloat16, which
the matrix unit takes, has whole numbers from −128 to 127 exactly. A shear is, for every two bits of how far a row goes, a
choice among four: the row, and that row once, twice and three times so far on. Each step interpolates linearly.
"""

import math

import tensorflow as tf

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STORED = tf.bfloat16     # what lies between two steps: whole numbers exactly, others within a quarter
_PLACES = 128            # parts of a pixel that a product's weights tell apart: more, bfloat16 could not
_WIDER = 1.5             # the canvas's width, of the picture's: a turn by 45° needs √2
_TALLER = 1.125          # its height, and its width before the shears: how far the picture may be stretched
_SHEAR_GOES = 0.375      # of the side: how far the outermost row of the first shear goes at most
_SHEAR_AND_SHIFT_GO = 0.85  # and the outermost row and column of the others, which bring the shift along


def warp(pixels: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Takes each pixel (x, y) from (a x + b y + c, d x + e y + f), bilinear.

    What comes from outside of the picture has no meaning, nor have the edges of what is stretched by more than an eighth.

    Args:
        pixels: float [batch, 3, size, size] of static shape, −128 to 127.
        matrices: float32 [batch, 6], (a, b, c, d, e, f) with a e − b d = 1.

    Returns:
        float32 of the pixels' shape.
    """
    size = pixels.shape[-1]
    tall, wide = _canvas(size, _TALLER), _canvas(size, _WIDER)
    mirrored, scales, slope, cross, shifts = _steps(matrices, size)
    pixels = tf.cast(pixels, STORED)
    pixels = tf.where(mirrored[:, tf.newaxis, tf.newaxis, tf.newaxis], _diagonally(pixels), pixels)
    across, down = (_stretch(scales[:, axis], size, tall) for axis in range(2))
    pixels = tf.cast(tf.einsum("bcyx,bix->bcyi", pixels, across), STORED)
    pixels = tf.cast(tf.einsum("bcyx,biy->bcix", pixels, down), STORED)
    # The last step looks at whole rows of the result, so it is the one to shift along them; the one before it, down.
    shift_x, shift_y = tf.unstack(shifts, axis=1)
    pixels = _shear_rows(pixels, slope, 0.0 * slope, wide, _SHEAR_GOES)
    pixels = _diagonally(_shear_rows(_diagonally(pixels), cross, shift_y, size, _SHEAR_AND_SHIFT_GO))
    return tf.cast(_shear_rows(pixels, slope, shift_x + slope * shift_y, size, _SHEAR_AND_SHIFT_GO), tf.float32)


def _diagonally(pixels: tf.Tensor) -> tf.Tensor:
    return tf.transpose(pixels, [0, 1, 3, 2])


def _canvas(size: int, times: float) -> int:
    """A side at least so many times as long; longer by an even number of pixels, so that centres fall together."""
    return size + 2 * math.ceil((times - 1) * size / 2)


def _steps(matrices: tf.Tensor, size: int) -> tuple[tf.Tensor, ...]:
    """What matrices are made of: (mirrored about the diagonal, bool [batch]; scales of x and y, [batch, 2]; the slope of the
    rows' two shears, and that of the columns', [batch]; what x and y are shifted by before all, [batch, 2])."""
    a, b, c, d, e, f = tf.unstack(matrices, axis=1)
    center = (size - 1) / 2  # where coordinates begin
    x, y = c + (a + b - 1) * center, f + (d + e - 1) * center
    shifts = tf.stack([e * x - b * y, a * y - d * x], axis=1)  # by the inverse, as the determinant is 1
    mirrored = a * e < 0.5  # then −b d is more: one of the two is far enough from 0 to divide by
    a, b, d, e = (tf.where(mirrored, one, other) for one, other in ((d, a), (e, b), (a, d), (b, e)))
    stretch = tf.sqrt(tf.abs(a / e))
    scale_x, scale_y = tf.sign(a) * stretch, tf.sign(e) / stretch
    slope = b / scale_x / (1 + tf.sqrt(tf.abs(a * e)))
    return mirrored, tf.stack([scale_x, scale_y], axis=1), slope, d / scale_y, shifts


def _stretch(scale: tf.Tensor, size: int, canvas: int) -> tf.Tensor:
    """STORED [batch, canvas, size]: of each pixel along a side the weights of the picture's; beyond it stand its edges."""
    places = scale[:, tf.newaxis] * (tf.range(canvas, dtype=tf.float32) - (canvas - 1) / 2) + (size - 1) / 2
    places = tf.round(tf.clip_by_value(places, 0, size - 1) * _PLACES) / _PLACES
    distances = tf.abs(places[:, :, tf.newaxis] - tf.range(size, dtype=tf.float32))
    return tf.cast(tf.nn.relu(1 - distances), STORED)


def _shear_rows(pixels: tf.Tensor, slope: tf.Tensor, shift: tf.Tensor, width: int, furthest: float) -> tf.Tensor:
    """Takes pixel (x, y), counted from the centre, from (x + slope · y + shift, y); beyond the canvas all is 0.

    Args:
        pixels: STORED [batch, 3, rows, columns].
        slope, shift: float32 [batch].
        width: of the result, STORED [batch, 3, rows, width].
        furthest: of the smaller side, how far a row goes at most.
    """
    rows, columns = pixels.shape[2:]
    bits = math.ceil(math.log2(2 * furthest * min(rows, width)))
    middle = 2 ** (bits - 1)
    left = middle - (columns - width) // 2
    pixels = tf.pad(pixels, [[0, 0], [0, 0], [0, 0], [left, width + 2 * middle - columns - left]])
    far = slope[:, tf.newaxis] * (tf.range(rows, dtype=tf.float32) - (rows - 1) / 2) + shift[:, tf.newaxis]
    whole = tf.floor(far)
    further = tf.clip_by_value(tf.cast(whole, tf.int32) + middle, 0, 2 * middle - 1)[:, tf.newaxis, :, tf.newaxis]
    while bits:
        together = min(bits, 2)  # one choice out of four moves less memory than two out of two
        bits -= together
        step, digit = 2 ** bits, tf.bitwise.bitwise_and(tf.bitwise.right_shift(further, bits), 2 ** together - 1)
        further_on = [pixels[..., start:start + width + step] for start in range(0, step * 2 ** together, step)]
        pixels = further_on[0]
        for times, one in enumerate(further_on[1:], 1):
            pixels = tf.where(digit == times, one, pixels)
    one, next_one = (tf.cast(pixels[..., start:start + width], tf.float32) for start in (0, 1))
    return tf.cast(one + (far - whole)[:, tf.newaxis, :, tf.newaxis] * (next_one - one), STORED)
