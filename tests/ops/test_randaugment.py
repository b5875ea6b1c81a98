"""RandAugment: each operation against Pillow or NumPy, the level table, and how operations are drawn."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from pipeline.ops import randaugment

import tensorflow as tf

SEED = tf.constant([11, 12])
NAMES = ["AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness",
         "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Cutout", "SolarizeAdd"]
SIGNED = ["Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"]


def picture(height=60, width=80, seed=0):
    """Gradients, noise, a rectangle; the green channel spans only a part of the range."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, 60 + 90 * y / height, 127 * (x / width + y / height)], axis=-1)
    pixels += np.random.default_rng(seed).normal(0, 9, pixels.shape)
    pixels[height // 4:height // 2, width // 3:width // 2] = [230, 90, 30]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def apply(name, pixels, level, seed=SEED):
    got = randaugment.OPERATIONS[name].apply(tf.constant(pixels), level, seed)
    assert (got.dtype, got.shape) == (tf.uint8, pixels.shape)
    return got.numpy()


def level(name, magnitude, size=300):
    return randaugment.OPERATIONS[name].level(magnitude / 10, size)


def difference(got, expected):
    return np.abs(np.asarray(got, int) - np.asarray(expected, int)).max()


# Hypothesis finds pictures of few values, on which histograms are delicate.
pictures = hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
                      elements=st.integers(0, 255), fill=st.integers(0, 255))
few = hypothesis.settings(max_examples=20, deadline=None)


# The table

def test_the_sixteen_operations():
    assert list(randaugment.OPERATIONS) == NAMES


@pytest.mark.parametrize("magnitude, expected", [
    (0, dict(Rotate=0, Posterize=0, Solarize=0, Color=0.1, Contrast=0.1, Brightness=0.1, Sharpness=0.1, ShearX=0,
             ShearY=0, TranslateX=0, TranslateY=0, Cutout=0, SolarizeAdd=0)),
    (2, dict(Rotate=6, Posterize=0, Solarize=51, Color=0.46, Contrast=0.46, Brightness=0.46, Sharpness=0.46,
             ShearX=0.06, ShearY=0.06, TranslateX=20, TranslateY=20, Cutout=8, SolarizeAdd=22)),
    (4, dict(Rotate=12, Posterize=1, Solarize=102, Color=0.82, Contrast=0.82, Brightness=0.82, Sharpness=0.82,
             ShearX=0.12, ShearY=0.12, TranslateX=40, TranslateY=40, Cutout=16, SolarizeAdd=44)),
    (7, dict(Rotate=21, Posterize=2, Solarize=179, Color=1.36, Contrast=1.36, Brightness=1.36, Sharpness=1.36,
             ShearX=0.21, ShearY=0.21, TranslateX=70, TranslateY=70, Cutout=28, SolarizeAdd=77)),
    (10, dict(Rotate=30, Posterize=4, Solarize=256, Color=1.9, Contrast=1.9, Brightness=1.9, Sharpness=1.9,
              ShearX=0.3, ShearY=0.3, TranslateX=100, TranslateY=100, Cutout=40, SolarizeAdd=110)),
])
def test_levels(magnitude, expected):
    for name in ("AutoContrast", "Equalize", "Invert"):
        assert level(name, magnitude) is None
    assert {name: level(name, magnitude) for name in expected} == pytest.approx(expected)
    for name in ("Posterize", "Solarize", "Cutout", "SolarizeAdd"):
        assert isinstance(level(name, magnitude), int)


@pytest.mark.parametrize("size, share", [(224, 1), (225, 1), (600, 1), (112, 0.5), (56, 0.25)])
def test_pixel_amounts_scale_below_224(size, share):
    assert level("TranslateX", 4, size) == level("TranslateY", 4, size) == pytest.approx(40 * share)
    assert level("Cutout", 4, size) == 16 * share
    for name in set(NAMES) - {"TranslateX", "TranslateY", "Cutout"}:
        assert level(name, 4, size) == level(name, 4, 300)


def test_the_amounts_of_a_small_picture_reach_its_pixels(monkeypatch):
    monkeypatch.setattr(randaugment, "OPERATIONS", {"TranslateX": randaugment.OPERATIONS["TranslateX"]})
    got = randaugment.randaugment(tf.constant(np.full((112, 112, 3), 7, np.uint8)), SEED, 1, 4.0).numpy()
    assert np.sum(got[0, :, 0] == 128) == 20


# Operations that keep pixels in place

@few
@hypothesis.given(pictures)
def test_autocontrast_is_pillows(pixels):
    assert difference(apply("AutoContrast", pixels, None), ImageOps.autocontrast(Image.fromarray(pixels))) <= 1


@few
@hypothesis.given(pictures)
def test_equalize_is_pillows(pixels):
    assert difference(apply("Equalize", pixels, None), ImageOps.equalize(Image.fromarray(pixels))) <= 1


@pytest.mark.parametrize("name, pillow", [("AutoContrast", ImageOps.autocontrast), ("Equalize", ImageOps.equalize)])
@pytest.mark.parametrize("seed", range(3))
def test_histogram_operations_on_a_photograph(name, pillow, seed):
    pixels = picture(90, 70, seed)
    assert difference(apply(name, pixels, None), pixels) > 20
    assert difference(apply(name, pixels, None), pillow(Image.fromarray(pixels))) <= 1


def test_invert():
    pixels = picture()
    assert np.array_equal(apply("Invert", pixels, None), ImageOps.invert(Image.fromarray(pixels)))


@pytest.mark.parametrize("bits", range(9))
def test_posterize(bits):
    pixels = picture()
    expected = pixels.astype(int) // 2**(8 - bits) * 2**(8 - bits)
    assert np.array_equal(apply("Posterize", pixels, bits), expected)
    if bits == 0:
        assert not expected.any()


@pytest.mark.parametrize("threshold", [0, 1, 102, 128, 255, 256, 384])
def test_solarize(threshold):
    pixels = picture()
    assert np.array_equal(apply("Solarize", pixels, threshold), ImageOps.solarize(Image.fromarray(pixels), threshold))


@pytest.mark.parametrize("amount", [0, 44, 110, 165, 330])
def test_solarize_add(amount):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = [min(value + amount, 255) if value < 128 else value for value in range(256)]
    assert apply("SolarizeAdd", pixels, amount)[:, :, 1].ravel().tolist() == expected


@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
@pytest.mark.parametrize("factor", [0.1, 0.46, 0.82, 1.0, 1.36, 1.9, 5.5])
def test_enhancements_are_pillows(name, factor):
    for pixels in (picture(), picture(3, 3), np.full((5, 4, 3), 200, np.uint8)):
        expected = getattr(ImageEnhance, name)(Image.fromarray(pixels)).enhance(factor)
        # A smoothed or gray value rounded the other way shows |1 - factor| times.
        assert difference(apply(name, pixels, factor), expected) <= 1 + abs(1 - factor)


@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
def test_factor_one_changes_nothing(name):
    assert np.array_equal(apply(name, picture(), 1.0), picture())


def test_sharpness_keeps_the_border():
    pixels = picture()
    got = apply("Sharpness", pixels, 0.1)
    for edge in ((0,), (-1,), (slice(None), 0), (slice(None), -1)):
        assert np.array_equal(got[edge], pixels[edge])
    assert not np.array_equal(got, pixels)


# Operations that move pixels

def moved(pixels, matrix):
    """Nearest neighbour with NumPy: the output (x, y) from (a x + b y + c, d x + e y + f), 128 from outside."""
    height, width, _ = pixels.shape
    a, b, c, d, e, f = matrix
    y, x = np.mgrid[:height, :width]
    source_x, source_y = np.floor(a * x + b * y + c + 0.5).astype(int), np.floor(d * x + e * y + f + 0.5).astype(int)
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    return np.where(inside[..., None], pixels[source_y.clip(0, height - 1), source_x.clip(0, width - 1)], 128)


def pillow_moved(pixels, matrix):
    # Pillow speaks of pixel centres at halves.
    a, b, c, d, e, f = matrix
    centers = (a, b, c + 0.5 - 0.5 * (a + b), d, e, f + 0.5 - 0.5 * (d + e))
    image = Image.fromarray(pixels)
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, centers, Image.Resampling.NEAREST,
                                      fillcolor=(128, 128, 128)))


def matrix_of(name, amount, height, width):
    if name == "Rotate":
        cos, sin = np.cos(np.radians(amount)), np.sin(np.radians(amount))
        x, y = (width - 1) / 2, (height - 1) / 2
        return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y
    return {"ShearX": (1, amount, 0, 0, 1, 0), "ShearY": (1, 0, 0, amount, 1, 0),
            "TranslateX": (1, 0, amount, 0, 1, 0), "TranslateY": (1, 0, 0, 0, 1, amount)}[name]


@pytest.mark.parametrize("name, amount", [("Rotate", 12), ("Rotate", 30), ("ShearX", 0.12), ("ShearX", 0.297),
                                          ("ShearY", 0.21), ("TranslateX", 20.0), ("TranslateY", 13.4),
                                          ("TranslateX", 100.0), ("Rotate", 0.0)])
def test_moves_are_numpys_and_pillows(name, amount):
    pixels = picture(61, 80)
    seen = set()
    for number in range(12):
        got = apply(name, pixels, amount, tf.constant([number, 0]))
        signs = [sign for sign in (1, -1)
                 if np.mean(got != moved(pixels, matrix_of(name, sign * amount, 61, 80))) < 0.005]
        assert signs, "neither the level nor its negative"
        assert np.mean(got != pillow_moved(pixels, matrix_of(name, signs[0] * amount, 61, 80))) < 0.02
        seen.update(signs)
    assert seen == {1, -1}


@pytest.mark.parametrize("name", SIGNED)
def test_the_sign_is_drawn_evenly(name):
    pixels = tf.constant(picture(16, 16))
    function = tf.function(lambda number: randaugment.OPERATIONS[name].apply(pixels, 0.3 if "Shear" in name else 5.0,
                                                                             tf.stack([number, 3])))
    results = [function(tf.constant(number)).numpy().tobytes() for number in range(300)]
    assert len(set(results)) == 2
    assert 115 < results.count(results[0]) < 185


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SIGNED) - {"Cutout"}))
def test_the_others_have_no_chance_in_them(name):
    assert len({apply(name, picture(), level(name, 7), tf.constant([number, 3])).tobytes() for number in range(8)}) == 1


def test_cutout_is_a_square_about_a_uniform_centre():
    pixels = tf.constant(np.zeros((30, 40, 3), np.uint8))
    function = tf.function(lambda number: randaugment.cutout(pixels, 8, tf.stack([number, 5])))
    centers = []
    for number in range(400):
        got = function(tf.constant(number)).numpy()
        assert set(np.unique(got)) == {0, 128}
        rows, columns = np.nonzero(got.any(axis=(1, 2)))[0], np.nonzero(got.any(axis=(0, 2)))[0]
        assert np.all(got[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1] == 128)  # full, all channels
        # Clipped at a border, it ends at that border; the centre then follows from its other end.
        y = rows[0] + 8 if rows[0] > 0 else rows[-1] + 1 - 8
        x = columns[0] + 8 if columns[0] > 0 else columns[-1] + 1 - 8
        assert rows.tolist() == list(range(max(0, y - 8), min(30, y + 8)))
        assert columns.tolist() == list(range(max(0, x - 8), min(40, x + 8)))
        centers.append((y, x))
    y, x = np.array(centers).T
    assert y.min() == 0 and y.max() == 29 and x.min() <= 1 and x.max() >= 38
    assert abs(y.mean() - 14.5) < 1.5 and abs(x.mean() - 19.5) < 2


def test_cutout_of_nothing():
    assert np.array_equal(apply("Cutout", picture(), 0), picture())
