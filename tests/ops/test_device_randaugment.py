"""RandAugment for a batch on a device: operations against Pillow and NumPy, moves against Pillow's bilinear ones, chains
against the host's engine by the same draws."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline.ops import device_randaugment, device_warp, philox, randaugment_fast, seeds
from test_randaugment import NAMES, SIGNED, difference, level, matrix_of, picture
from test_randaugment_fast import IN_PLACE, pillows

SIZE = 56
BORDER = 1  # pixels inside of the edge whose four neighbours all are in the picture


def smooth(size, number=0):
    """Colours that change by up to two levels a pixel, as those of a photograph out of focus."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin((1 + number % 3) * x + y), np.cos(x * y + number), np.cos((2 - number % 2) * y - x)]
    return (127.5 + 40 * np.stack(waves, axis=-1)).round().astype(np.uint8)


def channels_first(images):
    return tf.transpose(tf.constant(np.asarray(images)), [0, 3, 1, 2])


def apply(images, drawn, magnitude, tf_contrast=False):
    """The device's RandAugment of [batch, size, size, 3], compiled."""
    run = tf.function(lambda pixels, *drawn: device_randaugment.randaugment(
        pixels, randaugment_fast.Draw(*drawn), magnitude, tf_contrast), jit_compile=True)
    got = run(channels_first(images), *map(tf.constant, drawn))
    assert got.dtype == tf.uint8
    return tf.transpose(got, [0, 2, 3, 1]).numpy()


def bilinear(pixels, matrix):
    """(Pillow's move, which of its pixels have all four neighbours in the picture)."""
    a, b, c, d, e, f = np.array(matrix, float)
    size = len(pixels)
    y, x = np.mgrid[:size, :size]
    sources = np.stack([a * x + b * y + c, d * x + e * y + f])
    inside = ((sources >= BORDER) & (sources <= size - 1 - BORDER)).all(axis=0)
    # Pillow counts from a pixel's corner.
    data = (a, b, c + 0.5 - (a + b) / 2, d, e, f + 0.5 - (d + e) / 2)
    return np.asarray(Image.fromarray(pixels).transform((size, size), Image.AFFINE, data, Image.BILINEAR)), inside


def warped(pixels, matrices):
    batch = np.repeat(pixels[np.newaxis], len(matrices), axis=0).astype(np.float32) - 128
    moved = device_warp.warp(channels_first(batch), tf.constant(np.array(matrices, np.float32)))
    return tf.transpose(moved, [0, 2, 3, 1]).numpy() + 128


@pytest.mark.parametrize("magnitude", [0.0, 4.0, 9.9])
def test_operations_alone_are_pillows(magnitude):
    """All in one batch: also that each picture takes its own operation."""
    few = np.random.default_rng(0).choice([3, 90, 200], (SIZE, SIZE, 3)).astype(np.uint8)
    images = [pixels for pixels in (picture(SIZE, SIZE), few, np.full((SIZE, SIZE, 3), 77, np.uint8)) for _ in IN_PLACE]
    names = IN_PLACE * 3
    indices = [[NAMES.index(name)] for name in names]
    got = apply(images, (indices, [[True]] * len(names), [[[0, 0]]] * len(names)), magnitude)
    for name, pixels, one in zip(names, images, got):
        amount = level(name, magnitude, SIZE)
        rounding = 1 + abs(1 - amount) if name in ("Color", "Contrast", "Brightness", "Sharpness") else 1
        assert difference(one, pillows(name, pixels, amount)) <= rounding, name


def test_moves_are_pillows_bilinear():
    pixels = smooth(SIZE)
    turns = [matrix_of("Rotate", degrees, SIZE, SIZE) for degrees in (1, -12, 30, 44.9, 45.1, 90, 135, -180, 200, 271)]
    moves = [matrix_of(name, sign * level(name, magnitude, SIZE), SIZE, SIZE)
             for name in SIGNED for magnitude in (0.5, 4.0, 10.0) for sign in (1, -1)]
    for matrix, got in zip(turns + moves, warped(pixels, turns + moves)):
        expected, inside = bilinear(pixels, matrix)
        assert inside.mean() > 0.4
        assert np.mean(np.abs(got - expected)[inside] > 2) < 0.01, matrix


def test_whole_pixels_move_exactly():
    pixels = picture(SIZE, SIZE)
    got = warped(pixels, [(1, 0, 0, 0, 1, 0), (1, 0, 7, 0, 1, -5), matrix_of("Rotate", 90, SIZE, SIZE)])
    assert np.array_equal(got[0], pixels)
    assert np.array_equal(got[1][5:, :-7], pixels[:-5, 7:])
    assert np.array_equal(got[2], np.rot90(pixels))


@pytest.mark.parametrize("magnitude", [4.0, 10.0])
def test_chains_of_moves_are_pillows_bilinear(magnitude):
    """Of six moves at the largest magnitude that the flags take: the canvas is wide enough."""
    rng = np.random.default_rng(0)
    pixels, chains = smooth(SIZE), []
    for _ in range(64):
        chain = np.eye(3)
        for name in rng.choice(SIGNED + ["Invert"] * 4, 6):
            if name in SIGNED:
                amount = rng.choice([-1, 1]) * level(name, magnitude, SIZE)
                chain = chain @ [*np.reshape(matrix_of(name, amount, SIZE, SIZE), (2, 3)), [0, 0, 1]]
        chains.append(chain[:2].ravel())
    wrong = []
    for matrix, got in zip(chains, warped(pixels, chains)):
        expected, inside = bilinear(pixels, matrix)
        wrong.extend((np.abs(got - expected).max(axis=-1) > 2)[inside])
    assert len(wrong) > 64 * 300 and np.mean(wrong) < 0.01


def test_chains_are_the_hosts_by_the_same_draws():
    """What the operations make steep (Equalize, a solarized edge) aside, within two levels: nearest against bilinear."""
    layers, batch = 3, 24
    images = np.stack([smooth(SIZE, number) for number in range(batch)])
    draws = [randaugment_fast.draw(seeds.example_seed(5, 0, number), layers, SIZE, SIZE) for number in range(batch)]
    gentle = [number for number, one in enumerate(draws)
              if not {"Equalize", "AutoContrast", "Solarize", "SolarizeAdd", "Posterize"} & {NAMES[index] for index in one.indices}]
    drawn = [tf.stack(one) for one in zip(*draws)]
    got = apply(images, drawn, 4.0)
    host = randaugment_fast.chain(SIZE, SIZE, layers, 4.0)
    expected = np.stack([host(tf.constant(pixels), *one).numpy() for pixels, one in zip(images, draws)])
    apart = np.abs(got.astype(int) - expected)
    assert len(gentle) >= 6 and np.mean(apart[gentle] > 2) < 0.01
    unmoved = [number for number, one in enumerate(draws) if not set(SIGNED) & {NAMES[index] for index in one.indices}]
    assert len(unmoved) >= 4 and np.mean(apart[unmoved] > 1) < 0.002


def test_gray_comes_into_view_where_the_host_has_it():
    """And as the layers after it have changed it: white pictures, in which only gray is not white."""
    batch, layers, names = 16, 3, [*SIGNED, "Cutout", "Brightness", "Solarize"]
    rng = np.random.default_rng(4)
    indices = np.array([[NAMES.index(name) for name in rng.choice(names, layers)] for _ in range(batch)], np.int32)
    drawn = (indices, rng.random((batch, layers)) < 0.5, rng.integers(0, SIZE, (batch, layers, 2)).astype(np.int32))
    white = np.full((batch, SIZE, SIZE, 3), 255, np.uint8)
    host = randaugment_fast.chain(SIZE, SIZE, layers, 10.0)
    expected = [host(tf.constant(pixels), *map(tf.constant, one)).numpy() for pixels, *one in zip(white, *drawn)]
    got = apply(white, drawn, 10.0)
    assert np.mean(got == 255) < 0.95 and np.mean(np.abs(got.astype(int) - expected) > 1) < 0.001


@pytest.mark.parametrize("jit", [False, True])
def test_noise_is_that_of_stateless_uniform(jit):
    chosen = [seeds.split(seeds.example_seed(3, 1, row), 3)[2] for row in range(5)] + [tf.constant([-5, 2**62], tf.int64)]
    streams = tf.stack([philox.stream(seed) for seed in chosen])
    got = tf.function(lambda streams: philox.noise(streams, 1003), jit_compile=jit)(streams)
    assert np.array_equal(got, [tf.random.stateless_uniform([1003], seed, 0, 256, tf.int32) for seed in chosen])


def test_a_counter_goes_over_into_its_next_words():
    start = np.array([1, 2, 2**32 - 2, 2**32 - 1, 2**32 - 1, 7], np.uint32)
    carried = np.array([1, 2, 0, 0, 0, 8], np.uint32)  # two counts of four numbers later
    got, expected = (philox.noise(tf.constant(one[np.newaxis]), 16).numpy()[0] for one in (start, carried))
    assert np.array_equal(got[8:], expected[:8])
