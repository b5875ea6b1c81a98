"""Squares around points of a mask, against the mask's own pixels in NumPy and Pillow's crops."""

import io

import numpy as np
import pytest
from PIL import Image
import tensorflow as tf

from pipeline.ops import mask_square, seeds, tta
from pipeline.records import input as inputs, masks
from raw_data import encode, pixels

HEIGHT, WIDTH = 320, 480  # a cell is 10 × 15 px
DRAWS = 300


def random_mask(rng):
    """Some cells of a rectangle, and perhaps one elsewhere."""
    mask = np.zeros((masks.CELLS, masks.CELLS), bool)
    top, left = rng.integers(0, 28, 2)
    part = mask[top:top + rng.integers(1, 20), left:left + rng.integers(1, 20)]
    part[:] = rng.random(part.shape) < 0.8
    mask[tuple(rng.integers(0, masks.CELLS, 2))] = True
    return mask


def counts_of(mask):
    return np.stack([mask.sum(axis=1), mask.sum(axis=0)]).astype(np.uint8)


def sorted_pixels(mask):
    """The rows and the columns of the mask's pixels, each in order."""
    inside = np.kron(mask, np.ones((HEIGHT // masks.CELLS, WIDTH // masks.CELLS), bool))
    return [np.sort(one) for one in np.nonzero(inside)]


def by_hand(rows_and_columns, area, places):
    """The author's arithmetic on pixels: top, left, bottom, right."""
    count = len(rows_and_columns[0])
    centre = [one[int(place * count)] for one, place in zip(rows_and_columns, places)]
    half = np.sqrt(2 * area * count) / 2
    (top, left), (bottom, right) = (np.clip([one + sign * half for one in centre], 0, (HEIGHT, WIDTH)) for sign in (-1, 1))
    return top, left, bottom, right


def test_squares_are_the_authors():
    rng = np.random.default_rng(0)
    draw = tf.function(lambda counts, places: mask_square.squares(HEIGHT, WIDTH, counts, mask_square.VIEW_AREAS, places))
    cut = 0
    for _ in range(DRAWS):
        mask, places = random_mask(rng), rng.uniform(1 / 3, 2 / 3, (len(mask_square.VIEW_AREAS), 2))
        in_order = sorted_pixels(mask)
        for got, area, place in zip(draw(counts_of(mask), places).numpy(), mask_square.VIEW_AREAS, places):
            expected = by_hand(in_order, area, place)
            # A pixel is a point there and a square here, and sides are rounded.
            np.testing.assert_allclose([*got[:2], *(got[:2] + got[2:])], expected, atol=1.5)
            cut += not np.isclose(expected[2] - expected[0], expected[3] - expected[1])
    assert cut > DRAWS  # at the picture's edge


def test_a_square_that_is_not_cut_has_twice_the_masks_area():
    mask = np.zeros((masks.CELLS, masks.CELLS), bool)
    mask[12:20, 14:18] = True
    _, _, height, width = mask_square.squares(HEIGHT, WIDTH, counts_of(mask), [1.0], tf.constant([[0.5, 0.5]], tf.float64))[0]
    assert height == width == round(np.sqrt(2 * 32 * 150))


def test_centres_are_anywhere_in_the_middle_third_of_rows_and_columns_drawn_apart():
    encoded = encode(pixels(0, WIDTH, HEIGHT))
    mask = np.zeros((masks.CELLS, masks.CELLS), bool)
    mask[10:22, 8:24] = True
    draw = tf.function(lambda number: mask_square.random_square(encoded, counts_of(mask), tf.stack([1, number])))
    parts = tf.map_fn(draw, tf.range(1000)).numpy()
    centres = parts[:, :2] + parts[:, 2:] / 2
    low, high = np.array([140, 200]), np.array([180, 280])  # of 100 to 220 and 120 to 360
    assert (centres >= low - 1).all() and (centres <= high + 1).all()
    quantiles = np.quantile((centres - low) / (high - low), [0.1, 0.5, 0.9], axis=0)
    np.testing.assert_allclose(quantiles, np.repeat([[0.1], [0.5], [0.9]], 2, axis=1), atol=0.06)
    assert abs(np.corrcoef(centres.T)[0, 1]) < 0.1


@pytest.mark.parametrize("cells, height, width, whole", [(0, 320, 480, True), (1, 96, 106, True), (1, 96, 107, False)])
def test_a_mask_of_less_than_ten_pixels_gives_the_whole_picture(cells, height, width, whole):
    mask = np.zeros((masks.CELLS, masks.CELLS), bool)
    mask.flat[33:33 + cells] = True
    encoded = encode(pixels(0, width, height))
    part = mask_square.random_square(encoded, counts_of(mask), tf.constant([1, 2])).numpy()
    assert (list(part) == [0, 0, height, width]) == whole
    views = mask_square.sixteen(encoded, counts_of(mask), 32, tf.constant([1, 2])).numpy()
    assert (views == views[0]).all() == whole


def test_the_sixteen_are_crops_of_those_areas():
    encoded = encode(pixels(3, WIDTH, HEIGHT), quality=97, subsampling=0)
    mask, seed = random_mask(np.random.default_rng(5)), seeds.example_seed(0, 0, 7)
    views = tta.host_views(encoded, 32, tta.parse("mask16"), "squash", seed=seed, mask=tf.constant(counts_of(mask))).numpy()
    assert views.shape == (16, 32, 32, 3)
    areas = mask_square.VIEW_AREAS + mask_square.MIRRORED_AREAS
    assert areas == (0.5, 0.5, 1, 1, 2, 2, 4, 4, 0.25, 0.25, 1, 1, 2, 2, 4, 4)
    parts = mask_square.squares(HEIGHT, WIDTH, counts_of(mask), areas, mask_square._places(seed, 16)).numpy()
    for one, (view, part) in enumerate(zip(views, parts)):
        assert (parts[[other for other in range(16) if other != one]] != part).any(axis=1).all()  # a centre of its own
        with Image.open(io.BytesIO(encoded)) as picture:
            top, left, height, width = part
            crop = picture.crop((left, top, left + width, top + height)).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(crop, int) - view).max() <= 2
    whole = tta.parse("mask16").on_device(tf.constant(views[np.newaxis])).numpy()[0]
    assert np.array_equal(whole[:8], views[:8]) and np.array_equal(whole[8:], views[8:, :, ::-1])


def test_the_sixteen_are_cut_in_one_decode():
    encoded, counts = tf.TensorSpec([], tf.string), tf.TensorSpec([2, masks.CELLS], tf.uint8)
    graph = tf.function(lambda *given: mask_square.sixteen(given[0], given[1], 32, tf.constant([1, 2]))).get_concrete_function(
        encoded, counts).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("DecodeAndCropJpeg") == 1 and "DecodeJpeg" not in kinds


def test_training_sees_a_square_or_its_mirror_image():
    encoded = encode(pixels(4, WIDTH, HEIGHT), quality=97, subsampling=0)
    counts = counts_of(random_mask(np.random.default_rng(6)))
    how, mirrored = inputs.TrainPictures(32, "mask", "", "squash", resize_engine="reference"), 0
    for row in range(6):
        seed = seeds.example_seed(3, 0, row)
        picture = inputs.training_picture(encoded, seed, how, mask=tf.constant(counts)).numpy().astype(int)
        part = mask_square.random_square(encoded, counts, seeds.split(seed, 5)[0]).numpy()
        with Image.open(io.BytesIO(encoded)) as opened:
            crop = opened.crop((part[1], part[0], part[1] + part[3], part[0] + part[2]))
            expected = np.asarray(crop.resize((32, 32), Image.Resampling.BILINEAR), int)
        distances = [np.abs(expected[:, ::way] - picture).max() for way in (1, -1)]
        assert min(distances) <= 3
        mirrored += int(np.argmin(distances))
    assert 0 < mirrored < 6
