"""The `imet` augmentation, step by step against Pillow and NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from pipeline.ops import imet
from pipeline.records import input as inputs
from raw_data import encode, pixels

NOTHING = imet.Draw(*(tf.constant(0.0) for _ in imet.Draw._fields))
SEED = tf.constant([3, 9], tf.int64)


def picture(size=32):
    return pixels(1, size, size)


def changed(image, **drawn):
    return imet.change(tf.constant(image), NOTHING._replace(**{name: tf.constant(value) for name, value in drawn.items()}),
                       SEED).numpy()


def test_nothing_drawn_changes_nothing():
    np.testing.assert_array_equal(changed(picture()), picture())


def test_brightness_and_contrast():
    image = picture().astype(float)
    bright = np.clip(np.round(image + 0.08 * 255), 0, 255)
    assert np.abs(changed(picture(), brightness=0.08) - bright).max() <= 1
    contrast = np.clip(np.round(image.mean() + 0.9 * (image - image.mean())), 0, 255)
    assert np.abs(changed(picture(), contrast=-0.1) - contrast).max() <= 1


@pytest.mark.parametrize("degrees, x, y", [(0.0, 0.1, -0.05), (15.0, 0.0, 0.0), (-9.0, -0.08, 0.1)])
def test_shift_and_rotation_equal_scipy(degrees, x, y):
    size, angle = 32, np.radians(degrees)
    center = (size - 1) / 2
    # Where an output pixel (row, column) comes from: back by the shift, then clockwise about the centre.
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    offset = center - turn @ (center + size * np.array([y, x]))
    expected = np.stack([ndimage.affine_transform(picture()[..., channel].astype(float), turn, offset, order=1,
                                                  mode="reflect") for channel in range(3)], axis=-1)
    found = changed(picture(), degrees=degrees, shift_x=x, shift_y=y)
    assert np.abs(found - np.round(expected)).max() <= 1


def test_a_turn_is_counter_clockwise_and_a_shift_to_the_right_and_down():
    image = np.zeros((33, 33, 3), np.uint8)
    image[16, 28] = 255  # to the right of the centre
    rows, columns = np.nonzero(changed(image, degrees=15.0)[..., 0] > 20)
    assert rows.mean() < 16
    rows, columns = np.nonzero(changed(image, shift_x=3 / 33, shift_y=2 / 33)[..., 0] > 20)
    assert (rows.tolist(), columns.tolist()) == ([18], [31])


def test_noise_is_gray_and_normal():
    image = np.full((64, 64, 3), 128, np.uint8)
    difference = changed(image, noise=0.04).astype(float) - 128
    np.testing.assert_array_equal(difference[..., 0], difference[..., 2])
    assert difference.std() == pytest.approx(0.04 * 255, rel=0.05) and abs(difference.mean()) < 0.6


def test_draws_have_their_ranges_and_probabilities():
    draw = tf.function(lambda number: tf.stack(imet.draw(tf.stack([number, 0]))))
    drawn = np.array([draw(tf.constant(number, tf.int64)) for number in range(1000)])
    limits = np.array([0.1, 0.1, 0.1, 0.1, 15.0, 0.05])
    assert (np.abs(drawn) <= limits + 1e-6).all() and (np.abs(drawn).max(axis=0) > 0.9 * limits).all()
    brightness, contrast, shift_x, shift_y, degrees, noise = (drawn != 0).T
    assert not (brightness & contrast).any() and (shift_x == degrees).all() and (shift_y == degrees).all()
    for share in (brightness | contrast, degrees, noise):
        assert share.mean() == pytest.approx(0.3, abs=0.05)
    assert brightness.mean() == pytest.approx(0.15, abs=0.04)
    assert drawn[noise, 5].min() >= 0.01


def test_the_crop_is_at_most_twice_the_size_and_reaches_every_place():
    y, x = np.mgrid[:100, :60]
    encoded = tf.constant(encode(np.stack([2 * y, 2 * x, 0 * x], axis=-1).astype(np.uint8), quality=100))
    crop = tf.function(lambda number: imet.random_crop(encoded, 40, tf.stack([number, 1])))
    tops = []
    for number in range(60):
        part = crop(tf.constant(number, tf.int64)).numpy().astype(float)
        assert part.shape == (40, 40, 3)
        # 80 of 100 rows and all 60 columns, shrunk to 40: a row of the result covers 2 of the picture's.
        assert part[-1, :, 0].mean() - part[0, :, 0].mean() == pytest.approx(2 * 78, abs=5)
        assert part[:, 0, 1].mean() < 4 and part[:, -1, 1].mean() > 2 * 59 - 5
        tops.append(part[0, :, 0].mean() / 2)
    assert min(tops) < 2.5 and max(tops) > 18


def test_a_small_picture_is_taken_whole(tmp_path):
    encoded = tf.constant(encode(picture(32), quality=95))
    whole = tf.image.resize(tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE"), [48, 48], antialias=True)
    np.testing.assert_array_equal(imet.random_crop(encoded, 48, SEED), tf.cast(tf.round(whole), tf.uint8))


def test_the_input_pipeline_uses_it(tiny_data):
    pictures = inputs.TrainPictures(32, "imet", "", "squash")
    batches = [next(iter(inputs.train_batches(tiny_data.part("train"), pictures, 16, seed)))[0]["image"].numpy()
               for seed in (1, 1, 2)]
    assert batches[0].shape == (16, 32, 32, 3)
    np.testing.assert_array_equal(batches[0], batches[1])
    assert (batches[0] != batches[2]).any()
