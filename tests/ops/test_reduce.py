"""The cheap resize of training crops against Pillow's antialiased one, at many factors."""

import functools
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.ops import decode, reduce, seeds
from raw_data import encode

import tensorflow as tf

SIZE = 32


@functools.lru_cache
def photograph(side=720):
    """JPEG bytes: detail of every size, its amplitude falling with the frequency as in photographs."""
    rng = np.random.default_rng(0)
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    spectrum = rng.normal(size=(3, *frequencies.shape, 2)) @ [1, 1j] / np.maximum(frequencies, 1 / side)**1.5
    pixels = np.fft.irfft2(spectrum, (side, side)).transpose(1, 2, 0)
    pixels = 128 + 50 * pixels / pixels.std()
    return encode(np.clip(pixels, 0, 255).astype(np.uint8), quality=95, subsampling=0)


def differences(part, size=SIZE):
    """(mean, 95 % quantile) of the absolute difference from Pillow's, in levels."""
    top, left, height, width = part
    got = reduce.crop(photograph(), tf.constant(part), size)
    assert (got.dtype, got.shape) == (tf.uint8, [size, size, 3])
    expected = Image.open(io.BytesIO(photograph())).crop((left, top, left + width, top + height)).resize(
        (size, size), Image.Resampling.BILINEAR)
    apart = np.abs(got.numpy().astype(int) - np.asarray(expected, int))
    return apart.mean(), np.quantile(apart, 0.95)


@pytest.mark.parametrize("height, width", [(20, 31), (9, 16), (1, 1), (31, 7)])
def test_what_is_enlarged_is_pillows(height, width):
    mean, most = differences([37, 50, height, width])
    assert mean < 0.5 and most <= 1


@pytest.mark.parametrize("height, width", [(32, 32), (33, 20), (16, 34), (33, 35), (40, 40), (48, 45), (56, 63), (63, 63)])
def test_what_is_reduced_by_less_than_two(height, width):
    mean, most = differences([37, 50, height, width])
    assert mean < 1 and most <= 3


@pytest.mark.parametrize("height, width", [(64, 64), (64, 80), (96, 96), (120, 104), (128, 128), (160, 180), (192, 192),
                                           (256, 256), (320, 304), (256, 720)])
def test_what_is_reduced_in_the_decoder(height, width):
    """Parts of whole pixels at an eighth."""
    mean, most = differences([200, 0 if width == 720 else 160, height, width])
    assert mean < 2 and most <= 7


@pytest.mark.parametrize("part", [[0, 0, 720, 720], [1, 3, 719, 717], [403, 401, 317, 319], [640, 640, 80, 80]])
def test_parts_grow_to_whole_pixels_of_the_fraction(part):
    ratio = max(one for one in reduce.SCALES if min(part[2:]) >= one * SIZE)
    first, after = (np.array(part[:2]) // ratio * ratio, np.minimum(-(-np.add(part[:2], part[2:]) // ratio) * ratio, 720))
    grown = [*first.tolist(), *(after - first).tolist()]
    assert np.all(np.abs(np.subtract(part, grown)) < 2 * ratio)
    assert np.array_equal(reduce.crop(photograph(), tf.constant(part), SIZE),
                          reduce.crop(photograph(), tf.constant(grown), SIZE))
    mean, most = differences(grown)
    assert mean < 2 and most <= 7


@pytest.mark.parametrize("side", [17, 33, 50])
def test_pictures_of_odd_sides_and_one_colour(side):
    """The last pixel of a fraction is a part of one, and there is no other beyond it."""
    encoded = encode(np.full((8 * side + 3, 8 * side + 5, 3), [200, 40, 90], np.uint8), quality=95, subsampling=0)
    for seed in range(6):
        got = decode.random_crop(encoded, 16, tf.constant([seed, 1]), fast=True).numpy().astype(int)
        assert np.abs(got - [200, 40, 90]).max() <= 3


def test_gray_jpegs_become_rgb():
    gray = io.BytesIO()
    Image.open(io.BytesIO(photograph())).convert("L").save(gray, "JPEG")
    for side in (20, 50, 200):
        got = reduce.crop(gray.getvalue(), tf.constant([8, 8, side, side]), SIZE).numpy()
        assert np.array_equal(got[..., 0], got[..., 2]) and got.std() > 1


def test_the_same_in_a_dataset_and_only_where_asked_for():
    def both(row):
        seed = seeds.example_seed(1, 0, row)
        return [decode.random_crop(photograph(), SIZE, seed, fast=fast) for fast in (True, False)]

    for row, (fast, exact) in enumerate(tf.data.Dataset.range(8).map(both, num_parallel_calls=4)):
        assert np.array_equal(fast, both(row)[0]) and np.array_equal(exact, both(row)[1])
        assert 0 < np.abs(fast.numpy().astype(int) - exact.numpy()).mean() < 8  # a part moves by up to half a pixel
    seed = seeds.example_seed(1, 0, 3)
    plain = decode.random_crop(photograph(), SIZE, seed, antialias=False, fast=True)
    assert np.array_equal(plain, decode.random_crop(photograph(), SIZE, seed, antialias=False))
