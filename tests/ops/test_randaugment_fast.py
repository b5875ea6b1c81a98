"""RandAugment's fast engine: operations against Pillow and NumPy, chains against one operation after another, the draw."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from pipeline.ops import randaugment, randaugment_fast, seeds
from pipeline.records import input as inputs
from raw_data import encode
from test_randaugment import NAMES, SIGNED, difference, level, matrix_of, moved, picture, pillow_moved

import tensorflow as tf

HEIGHT, WIDTH = 57, 61   # pixels that are no multiple of four
IN_PLACE = [name for name in NAMES if name not in (*SIGNED, "Cutout")]
PIXELWISE = ["Invert", "Posterize", "Solarize", "SolarizeAdd", "Brightness"]  # nothing of the picture's other pixels


def apply(names, pixels, magnitude, positive=None, centers=None, **options):
    """The chain of these operations."""
    count = len(names)
    chain = randaugment_fast.chain(*pixels.shape[:2], count, magnitude, options.get("tf_contrast", False))
    drawn = randaugment_fast.Draw(tf.constant([NAMES.index(name) for name in names]),
                                  tf.constant([True] * count if positive is None else positive),
                                  tf.constant([[0, 0]] * count if centers is None else centers))
    got = chain(tf.constant(pixels), *drawn)
    assert (got.dtype, got.shape) == (tf.uint8, pixels.shape)
    return got.numpy()


def one_after_another(names, pixels, magnitude, positive, centers):
    """The same by the reference's operations; those with chance in them in NumPy."""
    for name, plus, (row, column) in zip(names, positive, centers):
        amount = level(name, magnitude, min(pixels.shape[:2]))
        if name in SIGNED:
            pixels = moved(pixels, matrix_of(name, amount if plus else -amount, *pixels.shape[:2])).astype(np.uint8)
        elif name == "Cutout":
            pixels = pixels.copy()
            pixels[max(0, row - amount):row + amount, max(0, column - amount):column + amount] = 128
        else:
            pixels = randaugment.OPERATIONS[name].apply(tf.constant(pixels), amount, tf.constant([0, 0])).numpy()
    return pixels


def drawn(rng, names, count, height, width):
    return ([names[number] for number in rng.integers(0, len(names), count)], rng.random(count) < 0.5,
            np.stack([rng.integers(0, height, count), rng.integers(0, width, count)], axis=1).astype(np.int32))


# Each operation alone

def pillows(name, pixels, amount):
    image = Image.fromarray(pixels)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return getattr(ImageEnhance, name)(image).enhance(amount)
    if name == "Posterize":
        return (pixels.astype(np.int32) // 2**(8 - amount) * 2**(8 - amount)).astype(np.uint8)
    if name == "SolarizeAdd":
        return np.where(pixels < 128, np.minimum(pixels.astype(int) + amount, 255), pixels)
    function = {"AutoContrast": ImageOps.autocontrast, "Equalize": ImageOps.equalize, "Invert": ImageOps.invert}.get(name)
    return function(image) if function else ImageOps.solarize(image, amount)


@pytest.mark.parametrize("magnitude", [0.0, 4.0, 9.9, 26.0])
def test_operations_alone_are_pillows(magnitude):
    few = np.random.default_rng(0).choice([3, 90, 200], (HEIGHT, WIDTH, 3)).astype(np.uint8)
    flat = np.full((HEIGHT, WIDTH, 3), 77, np.uint8)
    for pixels in (picture(HEIGHT, WIDTH), few, flat):
        for name in IN_PLACE:
            amount = level(name, magnitude, HEIGHT)
            rounding = 1 + abs(1 - amount) if name in ("Color", "Contrast", "Brightness", "Sharpness") else 1
            assert difference(apply([name], pixels, magnitude), pillows(name, pixels, amount)) <= rounding, name
    pixels = picture(HEIGHT, WIDTH)
    for name in SIGNED:
        for sign in (1, -1):
            matrix = matrix_of(name, sign * level(name, magnitude, HEIGHT), HEIGHT, WIDTH)
            got = apply([name], pixels, magnitude, [sign == 1])
            assert np.mean(got != moved(pixels, matrix)) < 0.01, name  # halves, which float32 rounds either way
            assert np.mean(got != pillow_moved(pixels, matrix)) < 0.02, name
    for center in ((0, 0), (30, 20), (56, 60)):
        got = apply(["Cutout"], pixels, magnitude, centers=[center])
        assert np.array_equal(got, one_after_another(["Cutout"], pixels, magnitude, [True], [center]))


def test_the_references_contrast():
    pixels = picture(HEIGHT, WIDTH)
    expected = randaugment.reference_contrast(tf.constant(pixels), level("Contrast", 4.0))
    assert np.array_equal(apply(["Contrast"], pixels, 4.0, tf_contrast=True), expected)


# Chains

def test_chains_in_place_are_one_after_another():
    rng = np.random.default_rng(1)
    pixels = picture(HEIGHT, WIDTH)
    for _ in range(60):
        names, positive, centers = drawn(rng, IN_PLACE, 4, HEIGHT, WIDTH)
        got = apply(names, pixels, 4.0, positive, centers)
        expected = one_after_another(names, pixels, 4.0, positive, centers)
        assert np.mean(np.abs(got.astype(int) - expected) > 1) < 0.002, names


@pytest.mark.parametrize("names", [["TranslateX", "TranslateY"], ["TranslateX", "TranslateY", "Cutout", *PIXELWISE]])
def test_chains_by_whole_pixels_are_one_after_another(names):
    """Edges and cutouts too: each has become what the colours after it made of its gray."""
    rng = np.random.default_rng(2)
    pixels = picture(56, 56)  # where 10 px are what 40 px are from 224 px on
    for _ in range(60):
        chain = drawn(rng, names, 4, 56, 56)
        assert np.array_equal(apply(chain[0], pixels, 4.0, *chain[1:]), one_after_another(chain[0], pixels, 4.0, *chain[1:]))


def test_chains_of_moves_are_one_after_another_but_for_the_rounding_of_places():
    """Four nearest neighbours are within 2 px of one, which is what a steady slope shows; the gray is where it was."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    slope = np.stack([2 * x, 2 * y, x + y], axis=-1).astype(np.uint8)  # below 128
    for _ in range(40):
        names, positive, centers = drawn(rng, [*SIGNED, "Cutout", "Invert"], 4, HEIGHT, WIDTH)
        got = apply(names, slope, 4.0, positive, centers)
        apart = np.abs(got.astype(int) - one_after_another(names, slope, 4.0, positive, centers)).max(axis=-1)
        assert np.mean(apart > 6) < 0.03 and np.mean(apart) < 3, names  # edges are lines of a few pixels


# The draw

def test_the_draw_is_uniform_and_independent():
    draw = tf.function(lambda number: randaugment_fast.draw(seeds.example_seed(42, 0, number), 6, 40, 30))
    draws = [draw(tf.constant(number)) for number in range(1000)]
    indices, positive, centers = (np.array([one[part].numpy() for one in draws]) for part in range(3))
    assert indices.shape == positive.shape == (1000, 6) and centers.shape == (1000, 6, 2)
    assert ((np.bincount(indices.ravel(), minlength=16) - 375)**2 / 375).sum() < 37.7  # 15 degrees of freedom: 1 in 1,000
    pairs = np.bincount(indices[:, 0] * 16 + indices[:, 1], minlength=256)
    assert ((pairs - 1000 / 256)**2 / (1000 / 256)).sum() < 330
    assert abs(positive.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(indices.ravel(), positive.ravel())[0, 1]) < 0.05
    for part, side in ((0, 40), (1, 30)):
        counts = np.bincount(centers[..., part].ravel(), minlength=side)
        assert len(counts) == side and abs(centers[..., part].mean() - (side - 1) / 2) < 0.5 and counts.min() > 90


LEVELS = {"AutoContrast": None, "Equalize": None, "Invert": None, "Posterize": 1, "Solarize": 102, "SolarizeAdd": 44,
          "Color": 0.82, "Contrast": 0.82, "Brightness": 0.82, "Sharpness": 0.82, "Rotate": 12, "ShearX": 0.12, "ShearY": 0.12,
          "TranslateX": 10, "TranslateY": 10}  # at magnitude 4 and 56 px, by the paper's table


def test_pixels_show_operations_signs_and_levels_as_often_as_the_paper_has_them():
    """Of a thousand rows in two epochs: whatever was done is the one of Pillow's results that it is next to."""
    pixels = picture(56, 56)
    results = {(name, 0): pillows(name, pixels, LEVELS[name]) for name in IN_PLACE}
    results |= {(name, sign): moved(pixels, matrix_of(name, sign * LEVELS[name], 56, 56)) for name in SIGNED for sign in (1, -1)}
    table = np.stack([np.asarray(one, np.float32) for one in results.values()])
    made = tf.data.Dataset.range(1024).map(lambda row: randaugment_fast.randaugment(
        tf.constant(pixels), seeds.example_seed(42, row % 2, row // 2), 1, 4.0), num_parallel_calls=2)
    found = []
    for got in made.as_numpy_iterator():
        apart = np.abs(table - got).mean(axis=(1, 2, 3))
        cut = (got != pixels).any(axis=-1)
        is_cutout = cut.sum() <= 64 and (got[cut] == 128).all()
        assert is_cutout or apart.min() < 1
        found.append(("Cutout", 0) if is_cutout else list(results)[apart.argmin()])
    counts = np.array([sum(name == one for one, _ in found) for name in NAMES])
    assert ((counts - 64)**2 / 64).sum() < 37.7  # 15 degrees of freedom: 1 in 1,000
    signs = [sign for _, sign in found if sign]
    assert abs(sum(signs)) < 3.3 * len(signs)**0.5
    assert set(found) == {*results, ("Cutout", 0)}


def test_one_draw_for_all_layers():
    draw = tf.function(lambda number: randaugment_fast.draw(seeds.example_seed(42, 0, number), 6, 40, 40, same=True))
    for number in range(50):
        indices, positive, centers = (part.numpy() for part in draw(tf.constant(number)))
        assert indices.shape == (6,) and len(set(indices)) == len(set(positive)) == 1
        assert (centers == centers[0, 0]).all()


def test_what_was_drawn_is_what_is_done():
    pixels = picture(HEIGHT, WIDTH)
    for number in range(30):
        seed = tf.constant([number, 4])
        indices, positive, centers = randaugment_fast.draw(seed, 4, HEIGHT, WIDTH)
        expected = apply([NAMES[index] for index in indices], pixels, 4.0, positive.numpy(), centers.numpy())
        assert np.array_equal(randaugment_fast.randaugment(tf.constant(pixels), seed, 4, 4.0), expected)


# In a dataset

def test_the_same_pixels_on_any_number_of_threads():
    encoded, size = encode(picture(90, 120)), 32
    pictures = inputs.TrainPictures(size, "inception", "3:4", "squash")

    def pictures_by(threads):
        made = tf.data.Dataset.range(24).map(
            lambda row: inputs.training_picture(encoded, seeds.example_seed(3, 1, row), pictures),
            num_parallel_calls=threads)
        assert made.element_spec == tf.TensorSpec([size, size, 3], tf.uint8)
        return np.stack([one.numpy() for one in made])

    one, four = pictures_by(1), pictures_by(4)
    assert np.array_equal(one, four) and len({made.tobytes() for made in one}) == 24
    assert np.array_equal(one[5], inputs.training_picture(encoded, seeds.example_seed(3, 1, 5), pictures))


def test_the_engine_is_the_one_that_was_asked_for():
    encoded, seed = encode(picture(90, 120)), seeds.example_seed(3, 1, 2)
    plain = inputs.training_picture(encoded, seed, inputs.TrainPictures(32, "inception", "", "squash"))
    own_seed = seeds.split(seed, 5)[3]
    for engine, module in (("fast", randaugment_fast), ("reference", randaugment)):
        pictures = inputs.TrainPictures(32, "inception", "2:6", "squash", randaugment_engine=engine)
        assert np.array_equal(inputs.training_picture(encoded, seed, pictures), module.randaugment(plain, own_seed, 2, 6.0))
