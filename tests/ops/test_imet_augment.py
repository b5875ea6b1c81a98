"""The `imet` augmentation: each step, and all of them at full resolution, against Pillow, NumPy and SciPy."""

import io

import numpy as np
from PIL import Image
import pytest
from scipy import ndimage
import tensorflow as tf

from pipeline.ops import decode, imet, seeds
from pipeline.records import input as inputs
from raw_data import encode, pixels

NOTHING = imet.Draw(tf.constant(False), *(tf.constant(0.0) for _ in imet.Draw._fields[1:]))
SEED = tf.constant([3, 9], tf.int64)


def jpeg(width=60, height=46):
    return encode(pixels(1, width, height), quality=95, subsampling=0)


def opened(encoded):
    """As training's decoder has it, float [H, W, 3]."""
    return tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE").numpy().astype(float)


def drawn_as(**drawn):
    return NOTHING._replace(**{name: tf.constant(value) for name, value in drawn.items()})


def changed(encoded, part=None, size=None, box=None, noise_seed=SEED, **drawn):
    """The part (the whole) after these changes, at its own resolution or resized."""
    inside = decode.window(tf.constant(encoded), box)
    part = [0, 0, *inside[2:].numpy()] if part is None else part
    size = size or part[2]
    return imet.change(tf.constant(encoded), inside, tf.constant(part, tf.int32), drawn_as(**drawn), noise_seed,
                       size).numpy().astype(float)


def moved_by_scipy(picture, degrees, shift_x, shift_y):
    """albumentations' shift_scale_rotate without a scale: OpenCV's matrix about (w/2, h/2), border mirrored about the
    outermost pixel (SciPy's `mirror`)."""
    height, width = picture.shape[:2]
    angle, center = np.radians(degrees), np.array([height / 2, width / 2])
    # Where an output pixel (row, column) comes from: back by the shift, then clockwise about the centre.
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    offset = center - turn @ (center + np.array([shift_y * height, shift_x * width]))
    return np.stack([ndimage.affine_transform(picture[..., channel], turn, offset, order=1, mode="mirror")
                     for channel in range(3)], axis=-1)


def by_numpy(encoded, mirrored=False, brightness=0.0, contrast=0.0, shift_x=0.0, shift_y=0.0, degrees=0.0):
    """The author's steps but the noise over the whole picture, one after another."""
    picture = opened(encoded)
    picture = picture[:, ::-1] if mirrored else picture
    picture = np.clip(picture * (1 + contrast) + brightness * picture.mean(), 0, 255)
    return moved_by_scipy(picture, degrees, shift_x, shift_y)


SQUARE = jpeg(48, 48)


def test_nothing_drawn_changes_nothing():
    np.testing.assert_array_equal(changed(SQUARE), opened(SQUARE))


def test_brightness_adds_of_the_mean_and_contrast_is_a_factor():
    image = opened(SQUARE)
    bright = np.clip(np.round(image + 0.08 * image.mean()), 0, 255)
    assert np.abs(changed(SQUARE, brightness=0.08) - bright).max() <= 1
    assert np.abs(changed(SQUARE, contrast=-0.1) - np.round(0.9 * image)).max() <= 1


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees, x, y", [(0.0, 0.1, -0.05), (15.0, 0.0, 0.0), (-9.0, -0.08, 0.1)])
def test_shift_and_rotation_equal_scipy(degrees, x, y, mirrored):
    found = changed(SQUARE, degrees=degrees, shift_x=x, shift_y=y, mirrored=mirrored)
    expected = by_numpy(SQUARE, mirrored, degrees=degrees, shift_x=x, shift_y=y)
    assert np.abs(found - np.round(expected)).max() <= 1


def test_a_turn_is_counter_clockwise_and_a_shift_to_the_right_and_down():
    image = np.zeros((34, 34, 3), np.uint8)
    image[17, 29] = 255  # to the right of the centre
    encoded = encode(image, quality=100, subsampling=0)
    rows, columns = np.nonzero(changed(encoded, degrees=15.0)[..., 0] > 60)
    assert rows.mean() < 17
    rows, columns = np.nonzero(changed(encoded, shift_x=3 / 34, shift_y=2 / 34)[..., 0] > 60)
    assert (rows.tolist(), columns.tolist()) == ([19], [32])


@pytest.mark.parametrize("drawn", [
    {"mirrored": True}, {"contrast": 0.1}, {"brightness": -0.07, "mirrored": True},
    {"degrees": 11.0, "shift_x": -0.09, "shift_y": 0.03},
    {"mirrored": True, "brightness": 0.1, "degrees": -15.0, "shift_x": 0.1, "shift_y": -0.1},
    {"mirrored": True, "contrast": -0.08, "degrees": 4.0, "shift_x": 0.01, "shift_y": 0.06}])
@pytest.mark.parametrize("box", [None, [0.1, 0.25, 0.9, 1.0]])
def test_the_crop_is_of_the_picture_that_was_changed_whole(drawn, box):
    """Mirror, light, shift and turn over all of a long picture, then the crop, then the resize: as the author ran it."""
    encoded = jpeg(150, 90)
    inside = decode.window(tf.constant(encoded), box and tf.constant(box)).numpy()
    picture = np.ascontiguousarray(opened(encoded)[inside[0]:inside[0] + inside[2], inside[1]:inside[1] + inside[3]])
    lossless = encode(picture.astype(np.uint8), "PNG")
    whole = by_numpy(lossless, **drawn)
    top, left, height, width = part = [inside[2] - 50, inside[3] - 70, 48, 64]
    channels = np.moveaxis(whole[top:top + height, left:left + width], 2, 0).astype(np.float32)
    expected = np.stack([np.asarray(Image.fromarray(channel).resize((40, 40), Image.Resampling.BILINEAR))
                         for channel in channels], axis=-1)
    found = changed(encoded, part, 40, box and tf.constant(box), **drawn)
    assert np.abs(found - expected).max() <= 1


def test_noise_is_gray_and_normal():
    flat = encode(np.full((64, 64, 3), 128, np.uint8), quality=100)
    difference = changed(flat, noise=0.04) - 128
    np.testing.assert_array_equal(difference[..., 0], difference[..., 2])
    assert difference.std() == pytest.approx(0.04 * 255, rel=0.05) and abs(difference.mean()) < 0.6


def test_noise_comes_before_the_resize():
    """So that shrinking takes three quarters of its variance away at half the side."""
    flat = encode(np.full((128, 128, 3), 128, np.uint8), quality=100)
    at_full, shrunk = (changed(flat, size=size, noise=0.04)[4:-4, 4:-4].std() for size in (128, 64))
    kernel = np.array([0.125, 0.375, 0.375, 0.125])  # Pillow's bilinear at half the side
    assert shrunk / at_full == pytest.approx((kernel**2).sum(), rel=0.08)


def test_draws_have_their_ranges_and_probabilities():
    draw = tf.function(lambda number: tf.stack([tf.cast(one, tf.float32) for one in imet.draw(tf.stack([number, 0]))]))
    drawn = np.array([draw(tf.constant(number, tf.int64)) for number in range(1000)])
    limits = np.array([1, 0.1, 0.1, 0.1, 0.1, 15.0, 0.05])
    assert (np.abs(drawn) <= limits + 1e-6).all() and (np.abs(drawn).max(axis=0) > 0.9 * limits).all()
    mirrored, brightness, contrast, shift_x, shift_y, degrees, noise = (drawn != 0).T
    assert not (brightness & contrast).any() and (shift_x == degrees).all() and (shift_y == degrees).all()
    for share, expected in ((mirrored, 0.5), (brightness | contrast, 0.3), (degrees, 0.3), (noise, 0.3), (brightness, 0.15)):
        assert share.mean() == pytest.approx(expected, abs=0.05)
    assert drawn[noise, 6].min() >= 0.01


def coordinates(height, width):
    """A JPEG whose red tells twice the row and whose green twice the column."""
    y, x = np.mgrid[:height, :width]
    return tf.constant(encode(np.stack([2 * y, 2 * x, 0 * x], axis=-1).astype(np.uint8), quality=100, subsampling=0))


@pytest.mark.parametrize("most, rows", [(None, 80), (90, 90)])
def test_the_crop_has_its_size_and_reaches_every_place(most, rows):
    """Twice the size of 40, or what eval_resize=crop:N says."""
    encoded, tops, mirrored = coordinates(100, 60), [], 0
    augment = tf.function(lambda number: imet.imet(encoded, 40, tf.stack([number, 1]), most=most))
    unchanged = 0
    for number in range(200):
        seed = tf.constant([number, 1], tf.int64)
        drawn = [float(one) for one in imet.draw(seeds.split(seed, 3)[1])]
        if any(drawn[1:]):
            continue
        unchanged += 1
        part = augment(tf.constant(number, tf.int64)).numpy().astype(float)
        part = part[:, ::-1] if drawn[0] else part
        mirrored += bool(drawn[0])
        # `rows` of 100 rows and all 60 columns, shrunk to 40: half a row of the result is missing at either end.
        assert part[-1, :, 0].mean() - part[0, :, 0].mean() == pytest.approx(2 * rows * 39 / 40, abs=5)
        assert part[:, 0, 1].mean() < 4 and part[:, -1, 1].mean() > 2 * 59 - 5
        tops.append(part[0, :, 0].mean() / 2)
    assert unchanged > 40 and 0.25 < mirrored / unchanged < 0.75
    assert min(tops) < 2.5 and max(tops) > 100 - rows - 2


def test_a_small_picture_is_taken_whole():
    encoded = tf.constant(SQUARE)
    part = decode.sample_part(tf.constant([48, 48]), 96, SEED)
    np.testing.assert_array_equal(part, [0, 0, 48, 48])
    whole = np.asarray(Image.open(io.BytesIO(SQUARE)).resize((64, 64), Image.Resampling.BILINEAR), float)
    found = imet.change(encoded, decode.window(encoded), part, NOTHING, SEED, 64).numpy()
    assert np.abs(found - whole).max() <= 1


def test_a_picture_of_one_pixel(tmp_path):
    for number in range(12):
        found = imet.imet(tf.constant(encode(np.full((1, 1, 3), 90, np.uint8))), 32, tf.constant([number, 0], tf.int64))
        assert found.shape == (32, 32, 3)


def test_the_input_pipeline_uses_it(tiny_data):
    pictures = inputs.TrainPictures(32, "imet", "", "crop:40")
    batches = [next(iter(inputs.train_batches(tiny_data.part("train"), pictures, 16, seed)))[0]["image"].numpy()
               for seed in (1, 1, 2)]
    assert batches[0].shape == (16, 32, 32, 3)
    np.testing.assert_array_equal(batches[0], batches[1])
    assert (batches[0] != batches[2]).any()
