"""The random crop, the flip, the evaluation preprocessing and the seeds, against Pillow and NumPy."""

import functools
import io

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.ops import decode, seeds

import tensorflow as tf


def picture(height, width, seed=0):
    """uint8 [height, width, 3]: gradients, noise, a red rectangle."""
    y, x = np.mgrid[:height, :width]
    channels = np.stack([255 * x / width, 255 * y / height, 127 * (x / width + y / height)], axis=-1)
    channels += np.random.default_rng(seed).normal(0, 12, channels.shape)
    channels[height // 4:height // 2, width // 3:width // 2] = [230, 20, 30]
    return np.clip(channels, 0, 255).astype(np.uint8)


def jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def opened(encoded):
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def difference(got, expected):
    """Absolute difference of two images, int [H, W, C]."""
    return np.abs(np.asarray(got, int) - np.asarray(expected, int))


@functools.lru_cache
def boxes(height, width, count):
    @tf.function
    def draw(number):
        return decode.sample_box(height, width, tf.stack([7, number]))
    return np.stack([draw(tf.constant(number)).numpy() for number in range(count)]).astype(float)


def simulated(height, width, count):
    """Box heights and widths as the paper has them: rejection with NumPy, without rounding."""
    rng = np.random.default_rng(1)
    area = rng.uniform(0.08, 1, count) * height * width
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count))
    heights, widths = np.sqrt(area / aspect), np.sqrt(area * aspect)
    fits = (heights <= height) & (widths <= width)
    return heights[fits], widths[fits]


# The box of the crop

@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.integers(1, 6000), st.integers(1, 6000), st.integers(0, 2**31 - 1))
def test_box_is_inside_and_covers_8_to_100_percent(height, width, seed):
    top, left, box_height, box_width = decode.sample_box(height, width, tf.constant([seed, 1])).numpy().tolist()
    assert top >= 0 and left >= 0 and box_height >= 1 and box_width >= 1
    assert top + box_height <= height and left + box_width <= width
    assert 0.08 * height * width * (1 - 1e-9) <= box_height * box_width <= height * width
    if 1 / 8 < width / height < 8:  # else no box of those aspects may be large enough
        assert (box_width + 0.5) / (box_height - 0.5) >= 3 / 4 or box_width == width
        assert (box_width - 0.5) / (box_height + 0.5) <= 4 / 3 or box_height == height


@pytest.mark.parametrize("height, width", [(400, 500), (700, 300)])
def test_box_has_the_distribution_of_the_paper(height, width):
    drawn = boxes(height, width, 1200)
    heights, widths = simulated(height, width, 100_000)
    area, expected_area = drawn[:, 2] * drawn[:, 3] / (height * width), heights * widths / (height * width)
    aspect, expected_aspect = drawn[:, 3] / drawn[:, 2], widths / heights
    for quantile in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        assert np.quantile(area, quantile) == pytest.approx(np.quantile(expected_area, quantile), abs=0.04)
        assert np.quantile(aspect, quantile) == pytest.approx(np.quantile(expected_aspect, quantile), abs=0.05)
    assert area.min() >= 0.08 and aspect.min() > 0.74 and aspect.max() < 1.35


def test_box_lies_anywhere():
    drawn = boxes(400, 500, 1200)
    for place, free in ((drawn[:, 0], 400 - drawn[:, 2]), (drawn[:, 1], 500 - drawn[:, 3])):
        shares = (place + 0.5) / (free + 1)
        assert np.allclose(np.quantile(shares, [0.1, 0.25, 0.5, 0.75, 0.9]), [0.1, 0.25, 0.5, 0.75, 0.9], atol=0.05)


@pytest.mark.parametrize("height, width, expected", [
    (100, 1500, (100, 133)),  # no box of aspect up to 4/3 holds much more than 8 % of it: as wide as that allows
    (100, 4000, (100, 320)),  # none holds 8 %: the area goes first
    (4000, 100, (320, 100)),
])
def test_box_of_a_strip(height, width, expected):
    drawn = boxes(height, width, 100)
    assert np.all(drawn[:, 2] * drawn[:, 3] >= 0.08 * height * width)
    assert np.mean(np.all(drawn[:, 2:] == expected, axis=1)) > 0.9
    assert len(np.unique(drawn[:, :2], axis=0)) > 30


# The crop

@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling, edge", [(0, 0), (2, 1)])
def test_random_crop_is_pillows_crop(progressive, subsampling, edge):
    encoded = jpeg(picture(240, 320), progressive=progressive, subsampling=subsampling)
    pillow = opened(encoded)
    for number in range(6):
        seed = tf.constant([3, number])
        top, left, height, width = decode.sample_box(240, 320, seed).numpy().tolist()
        crop = pillow.crop((left, top, left + width, top + height))
        got = decode.random_crop(encoded, 96, seed)
        assert (got.dtype, got.shape) == (tf.uint8, [96, 96, 3])
        # Half-resolution chroma is interpolated: in the outermost column of a crop it lacks the neighbour.
        inner = slice(5 * edge, 96 - 5 * edge)
        wrong = difference(got, crop.resize((96, 96), Image.Resampling.BILINEAR))
        assert wrong[:, inner].max() <= 1 and wrong.mean() < 0.5


def test_crops_differ_by_seed_and_repeat_by_seed():
    encoded = jpeg(picture(120, 90))
    first, again, other = (decode.random_crop(encoded, 32, tf.constant([1, number])).numpy() for number in (2, 2, 3))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("pixels", [np.full((50, 70, 3), 77, np.uint8), np.full((1, 1, 3), 77, np.uint8),
                                    np.full((1, 40, 3), 77, np.uint8)])
def test_constant_and_one_pixel_pictures(pixels):
    encoded = jpeg(pixels)
    for got in (decode.random_crop(encoded, 16, tf.constant([1, 2])), decode.whole(encoded, 16, "squash"),
                decode.whole(encoded, 16, "short:20")):
        assert np.array_equal(got, np.full((16, 16, 3), 77))


def test_grayscale_jpeg_becomes_rgb():
    encoded = jpeg(picture(40, 40)[:, :, 0])
    assert difference(decode.whole(encoded, 40, "squash"), opened(encoded)).max() == 0


def test_extremes_survive_rounding_and_clipping():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    got = decode.resize(tf.constant(stripes), 33).numpy()
    assert difference(got, Image.fromarray(stripes).resize((33, 33), Image.Resampling.BILINEAR)).max() <= 1


# The flip

def test_flip_mirrors_half_of_the_time():
    image = tf.constant(picture(6, 8))
    mirrored = image.numpy()[:, ::-1]
    assert not np.array_equal(mirrored, image)
    count = 0
    for number in range(400):
        got = decode.flip(image, tf.constant([number, 5])).numpy()
        assert got.dtype == np.uint8
        count += np.array_equal(got, mirrored)
        assert np.array_equal(got, mirrored) or np.array_equal(got, image)
    assert 160 < count < 240


# Evaluation

def test_squash_is_pillows_resize():
    encoded = jpeg(picture(240, 320), progressive=True)
    assert difference(decode.whole(encoded, 96, "squash"),
                      opened(encoded).resize((96, 96), Image.Resampling.BILINEAR)).max() <= 1


@pytest.mark.parametrize("height, width, size", [(240, 321, 90), (333, 200, 100), (50, 70, 60), (200, 200, 37)])
def test_short_takes_the_centre(height, width, size):
    encoded = jpeg(picture(height, width))
    scale = 100 / min(height, width)
    long = (round(width * scale), round(height * scale))
    left, top = (long[0] - size) // 2, (long[1] - size) // 2
    expected = opened(encoded).resize(long, Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    assert difference(decode.whole(encoded, size, "short:100"), expected).max() <= 1


def test_parse_eval_resize():
    assert decode.parse_eval_resize("squash", 512) == decode.EvalResize(None, None)
    assert decode.parse_eval_resize("short:360", 320) == decode.EvalResize(360, None, "triangle")
    assert decode.parse_eval_resize("short:320:cubic", 320) == decode.EvalResize(320, None, "keyscubic")
    assert decode.parse_eval_resize("crop:640", 800) == decode.EvalResize(None, 640)
    with pytest.raises(UserError, match="'short:360'.*432"):
        decode.parse_eval_resize("short:360", 432)
    for text in ("stretch", "short", "short:", "short:x", "short:-3", "short:3.5", "squash:3", "", "short:²",
                 "short:9:linear", "short:9:", "short:0", "crop", "crop:0", "crop:9:cubic"):
        with pytest.raises(UserError, match="unknown eval_resize .*squash, short:PIXELS"):
            decode.parse_eval_resize(text, 1)


@pytest.mark.parametrize("height, width, size", [(240, 321, 90), (90, 70, 60)])  # shrunk, and enlarged
def test_cubic_is_pillows(height, width, size):
    encoded = jpeg(picture(height, width))
    scale = 100 / min(height, width)
    long = (round(width * scale), round(height * scale))
    left, top = (long[0] - size) // 2, (long[1] - size) // 2
    cubic, linear = (opened(encoded).resize(long, kernel).crop((left, top, left + size, top + size))
                     for kernel in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR))
    found = decode.whole(encoded, size, "short:100:cubic")
    assert difference(found, cubic).max() <= 1 < difference(found, linear).max()


@pytest.mark.parametrize("height, width", [(120, 50), (50, 120), (30, 40)])
def test_a_random_crop_is_squashed_and_reaches_every_place(height, width):
    encoded, corners = jpeg(picture(height, width)), set()
    sides = min(height, 60), min(width, 60)
    for number in range(30):
        seed = tf.constant([number, 2], tf.int64)
        top, left, *found_sides = decode.sample_part(tf.constant([height, width]), 60, seed).numpy()
        assert tuple(found_sides) == sides
        part = opened(encoded).crop((left, top, left + sides[1], top + sides[0]))
        expected = part.resize((32, 32), Image.Resampling.BILINEAR)
        assert difference(decode.whole(encoded, 32, "crop:60", seed=seed), expected).max() <= 1
        corners.add((top, left))
    spare = max(height, width) - 60
    reached = [max(corner) for corner in corners]
    assert (min(reached), max(reached)) == (0, 0) if spare < 0 else min(reached) < 8 and max(reached) > spare - 8


def test_a_mistake_stays_the_users_inside_a_map():
    with pytest.raises(UserError, match="unknown eval_resize"):
        tf.data.Dataset.from_tensors(jpeg(picture(9, 9))).map(lambda encoded: decode.whole(encoded, 8, "stretch"))


# Inside tf.data

def test_the_same_pixels_eager_and_in_a_dataset_on_many_threads():
    encoded = jpeg(picture(60, 80))

    def both(row):
        crop_seed, flip_seed = seeds.split(seeds.example_seed(42, 3, row), 2)
        return decode.flip(decode.random_crop(encoded, 24, crop_seed), flip_seed), decode.whole(encoded, 24, "short:30")

    dataset = tf.data.Dataset.range(12).map(both, num_parallel_calls=4)
    assert [spec.shape for spec in dataset.element_spec] == [[24, 24, 3]] * 2
    assert [spec.dtype for spec in dataset.element_spec] == [tf.uint8] * 2
    for row, (crop, full) in enumerate(dataset):
        expected_crop, expected_full = both(row)
        assert np.array_equal(crop, expected_crop) and np.array_equal(full, expected_full)


# Seeds

def test_example_seeds_are_distinct_and_repeat():
    drawn = {tuple(seeds.example_seed(seed, epoch, row).numpy())
             for seed in (0, 1, 2**40) for epoch in range(4) for row in range(4)}
    assert len(drawn) == 3 * 4 * 4
    in_graph = tf.function(lambda epoch, row: seeds.example_seed(1, epoch, row))
    for dtype in (tf.int32, tf.int64):
        assert np.array_equal(in_graph(tf.constant(2, dtype), tf.constant(3, dtype)), seeds.example_seed(1, 2, 3))


def test_draws_of_neighbouring_examples_are_uncorrelated():
    draw = tf.function(lambda epoch, row: tf.random.stateless_uniform([], seeds.example_seed(42, epoch, row)))
    values = np.array([[draw(tf.constant(epoch), tf.constant(row)) for row in range(400)] for epoch in range(2)])
    assert abs(np.corrcoef(values[0, 1:], values[0, :-1])[0, 1]) < 0.15
    assert abs(np.corrcoef(values[0], values[1])[0, 1]) < 0.15
    assert np.all(np.abs(values.mean(axis=1) - 0.5) < 0.05)


def test_split_gives_independent_seeds():
    parts = seeds.split(seeds.example_seed(42, 0, 0), 5)
    assert len({tuple(part.numpy()) for part in parts}) == 5
    assert all(part.shape == [2] for part in parts)
