"""The `simple` augmentation, pixel by pixel with colorsys and NumPy."""

import colorsys

import numpy as np
import pytest

from pipeline.ops import simple

import tensorflow as tf


def picture(height=20, width=26):
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, 255 * y / height, 128 + 90 * np.sin(x / 3)], axis=-1)
    return np.clip(pixels + np.random.default_rng(2).normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)


def recolored(pixel, brightness, saturation, hue):
    red, green, blue = np.clip(pixel / 255 + brightness, 0, 1)
    h, s, v = colorsys.rgb_to_hsv(red, green, blue)
    return colorsys.hsv_to_rgb((h + hue) % 1, min(max(s * saturation, 0), 1), v)


def turned(pixels, degrees, fill):
    """Bilinear rotation about the centre; neighbours outside count as `fill`."""
    height, width, _ = pixels.shape
    padded = np.full((height + 2, width + 2, 3), fill, float)
    padded[1:-1, 1:-1] = pixels
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    result = np.full(pixels.shape, fill, float)
    for y in range(height):
        for x in range(width):
            dx, dy = x - (width - 1) / 2, y - (height - 1) / 2
            source_x = cos * dx - sin * dy + (width - 1) / 2 + 1
            source_y = sin * dx + cos * dy + (height - 1) / 2 + 1
            if 0 <= source_x < width + 1 and 0 <= source_y < height + 1:
                left, top = int(source_x), int(source_y)
                fx, fy = source_x - left, source_y - top
                block = padded[top:top + 2, left:left + 2]
                result[y, x] = ((block[0, 0] * (1 - fx) + block[0, 1] * fx) * (1 - fy)
                                + (block[1, 0] * (1 - fx) + block[1, 1] * fx) * fy)
    return result


@pytest.mark.parametrize("number", range(6))
def test_agrees_with_colorsys_and_numpy(number):
    image, seed = picture(), tf.constant([number, 9])
    brightness, saturation, hue, degrees = (value.numpy() for value in simple.draw(seed))
    colors = np.array([[recolored(pixel, brightness, saturation, hue) for pixel in row] for row in image]) * 255
    got = simple.simple(tf.constant(image), seed)
    assert (got.dtype, got.shape) == (tf.uint8, image.shape)
    assert np.abs(got.numpy() - turned(colors, degrees, 128)).max() <= 1


def test_ranges_are_those_of_the_solution_and_filled():
    draw = tf.function(simple.draw)
    drawn = np.array([draw(tf.constant([number, 0])) for number in range(500)])
    low, high = np.array([-32 / 255, 0.5, -0.2, -20]), np.array([32 / 255, 1.5, 0.2, 20])
    assert np.all(drawn >= low - 1e-6) and np.all(drawn <= high + 1e-6)
    shares = (drawn - low) / (high - low)
    assert np.allclose(np.quantile(shares, [0.02, 0.25, 0.5, 0.75, 0.98], axis=0),
                       np.array([[0.02, 0.25, 0.5, 0.75, 0.98]]).T, atol=0.07)
    assert np.abs(np.corrcoef(shares.T) - np.eye(4)).max() < 0.15


def test_in_a_dataset_as_in_eager():
    image = tf.constant(picture(16, 16))

    def augment(row):
        return simple.simple(image, tf.stack([row, tf.constant(4, tf.int64)]))

    dataset = tf.data.Dataset.range(8).map(augment, num_parallel_calls=4)
    assert dataset.element_spec == tf.TensorSpec([16, 16, 3], tf.uint8)
    results = [got.numpy() for got in dataset]
    for row, got in enumerate(results):
        assert np.array_equal(got, augment(tf.constant(row, tf.int64)))
    assert not np.array_equal(results[0], results[1])


@pytest.mark.parametrize("pixels", [np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8),
                                    np.full((1, 1, 3), 128, np.uint8)])
def test_constant_and_one_pixel_pictures(pixels):
    for number in range(5):
        seed = tf.constant([number, 0])
        brightness = float(simple.draw(seed)[0])
        expected = np.clip(pixels[0, 0] + 255 * brightness, 0, 255)
        got = simple.simple(tf.constant(pixels), seed).numpy().astype(float)
        center = got[got.shape[0] // 2, got.shape[1] // 2]
        assert np.abs(center - expected).max() <= 1
