"""Flips and rotations by multiples of 45° against Pillow."""

import io
import math
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from pipeline.ops import decode, rot45, tta, whole_turn
from pipeline.records import input as inputs

import tensorflow as tf

TRANSPOSES = {"left_right": Image.Transpose.FLIP_LEFT_RIGHT, "up_down": Image.Transpose.FLIP_TOP_BOTTOM,
              "90": Image.Transpose.ROTATE_90, "180": Image.Transpose.ROTATE_180, "270": Image.Transpose.ROTATE_270}


def picture(size):
    """Smooth and without a symmetry, so that Pillow's fixed-point arithmetic stays within one level."""
    y, x = np.mgrid[:size, :size] / size
    waves = np.stack([200 * x + 20 * np.sin(7 * y), 90 + 80 * np.sin(5 * x + 2 * y), 240 * y * x + 10], axis=-1)
    return waves.astype(np.uint8)


def by_pillow(pixels, view):
    image, size = Image.fromarray(pixels), len(pixels)
    if view in TRANSPOSES:
        image = image.transpose(TRANSPOSES[view])
    elif view != "identity":
        # Turned on a larger canvas, whose centre is then cut out: what lies in the corners never comes into view.
        turned = image.rotate(int(view), Image.Resampling.BILINEAR, expand=True)
        side = size - 2 * math.ceil(0.15 * size)
        left, top = (turned.width - side) // 2, (turned.height - side) // 2
        image = turned.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, int)


def seed_of(number):
    """A seed for which `rot45.draw` gives `number`."""
    return next(seed for seed in (tf.constant([i, 7], tf.int64) for i in range(500)) if int(rot45.draw(seed)) == number)


@pytest.fixture(scope="module")
def seeds_of():
    return [seed_of(number) for number in range(len(rot45.VIEWS))]


# Sizes for which Pillow's larger canvas has the same parity, so that the centres are the same.
@pytest.mark.parametrize("size", [64, 128])
def test_views_are_pillows(size, seeds_of):
    pixels = picture(size)
    augment = tf.function(rot45.rot45)
    expanded = rot45.expand(tf.stack([pixels, rot45.diagonal(tf.constant(pixels))])[tf.newaxis])[0]
    for number, view in enumerate(rot45.VIEWS):
        expected = by_pillow(pixels, view)
        got = augment(tf.constant(pixels), seeds_of[number])
        assert (got.dtype, got.shape) == (tf.uint8, (size, size, 3))
        difference = np.abs(got.numpy().astype(int) - expected)
        assert difference.max() <= (2 if view in ("45", "135", "225", "315") else 0), view
        assert np.array_equal(got, expanded[number]), view


@pytest.mark.parametrize("size", [32, 33, 47, 224, 299, 512])
def test_no_corner_comes_into_view(size):
    white = tf.fill([size, size, 3], tf.constant(255, tf.uint8))
    assert (rot45.diagonal(white).numpy() == 255).all()
    assert size - 2 * math.ceil(0.15 * size) >= 0.6 * size


def turned_by_nearest(pixels):
    """(45° counterclockwise by the nearest pixel, where that one is no tie), black beyond the edge; in float64."""
    size, centre = len(pixels), (len(pixels) - 1) / 2
    y, x = np.mgrid[:size, :size] - centre
    half = math.sqrt(0.5)
    column, row = half * (x - y) + centre, half * (x + y) + centre
    inside = (column > -0.5) & (column < size - 0.5) & (row > -0.5) & (row < size - 0.5)
    nearest = [np.clip(np.rint(one), 0, size - 1).astype(int) for one in (row, column)]
    tie = np.any([np.abs(np.abs(one - np.floor(one)) - 0.5) < 1e-3 for one in (row, column)], axis=0)
    return np.where(inside[..., None], pixels[nearest[0], nearest[1]], 0), ~tie


@pytest.mark.parametrize("size, side", [(512, 360), (224, 158), (299, 211)])
def test_the_solutions_training_pictures_turn_by_the_nearest_pixel(size, side):
    """What is cut out of 512 px are 360, of whatever size what tf.image.central_crop takes."""
    assert tf.image.central_crop(tf.zeros([size, size, 3]), rot45.CROP).shape[0] == side
    pixels, margin = picture(size), (size - side) // 2
    turned, sure = turned_by_nearest(pixels)
    by_hand, sure = (one[margin:margin + side, margin:margin + side] for one in (turned, sure))
    enlarged = tf.image.resize(by_hand.astype(np.float32), [size, size]).numpy()
    difference = np.abs(rot45.diagonal_by_nearest(tf.constant(pixels)).numpy() - enlarged).max(axis=-1)
    assert sure.mean() > 0.98
    weights = tf.image.resize(sure[..., None].astype(np.float32), [size, size]).numpy()[..., 0]
    assert difference[weights > 0.999].max() <= 0.51  # it is rounded to whole levels
    smooth = rot45.diagonal(tf.constant(pixels)).numpy().astype(int)
    assert np.abs(smooth - rot45.diagonal_by_nearest(tf.constant(pixels)).numpy()).max() > 1  # another picture than by default


@pytest.mark.parametrize("size", [31, 32, 33, 47, 64, 100, 224, 299, 380, 512])
def test_no_corner_comes_into_view_by_the_nearest_pixel(size):
    white = tf.fill([size, size, 3], tf.constant(255, tf.uint8))
    assert (rot45.diagonal_by_nearest(white).numpy() == 255).all()


def test_training_by_the_nearest_pixel_is_by_name(seeds_of):
    encoded = jpeg(60, 90)
    whole = decode.whole(encoded, 32, "squash")
    seed = next(tf.constant([row, 0], tf.int64) for row in range(200)
                if not np.array_equal(*(inputs.training_picture(encoded, tf.constant([row, 0], tf.int64),
                                                                inputs.TrainPictures(32, name, "", "squash"))
                                        for name in rot45.AUGMENTATIONS)))
    got = inputs.training_picture(encoded, seed, inputs.TrainPictures(32, "rot45:nearest", "", "squash")).numpy()
    turned = rot45.diagonal_by_nearest(whole).numpy()
    assert any(np.array_equal(got, np.rot90(turned, k)) for k in range(4))
    for number in range(6):  # all but the odd rotations are the same by both
        same = [rot45.rot45(whole, seeds_of[number], nearest).numpy() for nearest in (False, True)]
        assert np.array_equal(*same)


def test_half_of_the_pictures_stay_and_the_nine_changes_are_alike():
    draw = tf.function(lambda rows: tf.map_fn(lambda row: rot45.draw(tf.stack([row, tf.constant(3, tf.int64)])), rows,
                                              fn_output_signature=tf.int32))
    counts = np.bincount(draw(tf.range(6000, dtype=tf.int64)), minlength=10)
    assert len(counts) == 10
    assert stats.chisquare(counts, [3000] + [3000 / 9] * 9).pvalue > 0.001


def jpeg(height, width):
    file = io.BytesIO()
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


@pytest.mark.parametrize("eval_resize", ["squash", "short:40"])
def test_training_pictures_are_views_of_the_whole_picture(eval_resize):
    pictures = inputs.TrainPictures(32, "rot45", "", eval_resize)
    encoded = jpeg(60, 90)
    dataset = tf.data.Dataset.range(24).map(
        lambda row: inputs.training_picture(encoded, tf.stack([row, tf.constant(0, tf.int64)]), pictures),
        num_parallel_calls=4)
    assert dataset.element_spec == tf.TensorSpec([32, 32, 3], tf.uint8)
    crops = tta.host_views(encoded, 32, tta.parse("rot45"), eval_resize)
    assert np.array_equal(crops[0], decode.whole(encoded, 32, eval_resize))
    views = tta.parse("rot45").on_device(crops[tf.newaxis])[0].numpy()
    seen = set()
    for row, got in enumerate(dataset.as_numpy_iterator()):
        eager = inputs.training_picture(encoded, tf.constant([row, 0], tf.int64), pictures)
        assert np.array_equal(got, eager)
        which, = (number for number in range(10) if np.array_equal(got, views[number]))
        seen.add(which)
    assert len(seen) > 4


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", [tf.uint8, tf.bfloat16])
def test_expand_on_the_device(jit, dtype):
    crops = np.random.default_rng(0).integers(0, 256, (3, 2, 5, 5, 3))
    got = tf.function(rot45.expand, jit_compile=jit)(tf.cast(crops, dtype))
    assert (got.dtype, got.shape) == (dtype, (3, 10, 5, 5, 3))
    got = tf.cast(got, tf.int32).numpy()
    for k in range(4):
        assert np.array_equal(got[:, (0, 3, 4, 5)[k]], np.rot90(crops[:, 0], k, axes=(1, 2)))
        assert np.array_equal(got[:, 6 + k], np.rot90(crops[:, 1], k, axes=(1, 2)))
    assert np.array_equal(got[:, 1], crops[:, 0, :, ::-1]) and np.array_equal(got[:, 2], crops[:, 0, ::-1])


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [32, 45, 64, 71, 128, 160, 224, 299, 384, 512])
def test_the_core_operation_turns_as_tensorflow_addons_does(size, interpolation):
    addons = pytest.importorskip("tensorflow_addons")
    image = tf.constant(picture(size), tf.float32 if interpolation == "bilinear" else tf.uint8)
    for angle in (math.pi / 4, 0.3):
        expected = addons.image.rotate(image, angle, interpolation)
        assert np.array_equal(whole_turn.rotate_by_core(image, angle, interpolation), expected)


def test_without_tensorflow_addons(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    turned = whole_turn.rotate(tf.constant(picture(32)), math.pi / 2, "nearest")
    assert np.array_equal(turned, np.rot90(picture(32)))
