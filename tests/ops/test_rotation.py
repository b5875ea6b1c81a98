"""--rotate: the picture turned before it is cropped, against Pillow."""

import io

import numpy as np
import pytest
from PIL import Image
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.ops import decode, rotation, seeds
from pipeline.records import input as inputs
from pipeline.training import train
import raw_data
from training_runs import run, stage

WIDTH, HEIGHT = 270, 180


@pytest.fixture(scope="module")
def encoded():
    return raw_data.encode(raw_data.pixels(1, WIDTH, HEIGHT), quality=97, subsampling=0)


def turned(encoded, size, degrees):
    """Resized and turned by Pillow; and where it is the picture, by a margin, and where black."""
    with Image.open(io.BytesIO(encoded)) as picture:
        resized = picture.resize(size, Image.Resampling.BILINEAR)
    image = resized.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=0)
    inner = Image.new("L", size)
    inner.paste(255, (2, 2, size[0] - 2, size[1] - 2))
    outer = Image.new("L", (2 * size[0], 2 * size[1]))
    outer.paste(255, (size[0] // 2 - 2, size[1] // 2 - 2, size[0] // 2 + size[0] + 2, size[1] // 2 + size[1] + 2))
    corner = (size[0] // 2, size[1] // 2)
    black = np.asarray(outer.rotate(degrees, center=(size[0], size[1])))[corner[1]:, corner[0]:][:size[1], :size[0]] == 0
    return np.asarray(image, int), np.asarray(inner.rotate(degrees)) == 255, black


@pytest.mark.parametrize("short, size, degrees", [(90, 64, 15.0), (90, 64, -11.0), (180, 128, 7.0), (60, 60, -15.0),
                                                  (90, 64, 0.0), (120, 64, 90.0), (240, 160, 5.0)])
def test_a_turned_crop_is_pillows(short, size, degrees, encoded):
    scale = short / HEIGHT
    image, known, black = turned(encoded, (round(WIDTH * scale), short), degrees)
    for top, left in ((0, 0), (short - size, round(WIDTH * scale) - size), ((short - size) // 2, 7)):
        part = tf.constant([top / scale, left / scale, size / scale, size / scale], tf.float64)
        got = rotation.crop(encoded, tf.constant([0, 0, HEIGHT, WIDTH]), part, size, tf.constant(degrees, tf.float64))
        place = slice(top, top + size), slice(left, left + size)
        difference = np.abs(got.numpy().astype(int) - image[place]).max(axis=-1)
        assert known[place].mean() > 0.4 and difference[known[place]].max() <= 2
        assert not got.numpy()[black[place]].any()


def test_an_oblong_part_is_squashed(encoded):
    with Image.open(io.BytesIO(encoded)) as picture:
        turned_picture = picture.rotate(10.0, Image.Resampling.BILINEAR)
    expected = turned_picture.crop((80, 60, 200, 150)).resize((64, 64), Image.Resampling.BILINEAR)
    part = tf.constant([60.0, 80.0, 90.0, 120.0], tf.float64)
    got = rotation.crop(encoded, tf.constant([0, 0, HEIGHT, WIDTH]), part, 64, tf.constant(10.0, tf.float64)).numpy()
    # Resized before and not after it was turned, along other axes.
    assert np.abs(got.astype(int) - np.asarray(expected, int)).mean() < 1.0


def test_in_a_box_the_box_is_the_picture(encoded):
    box = tf.constant([0.2, 0.1, 0.9, 0.8])
    window = decode.window(encoded, box)
    with Image.open(io.BytesIO(encoded)) as picture:
        top, left, height, width = window.numpy()
        boxed = raw_data.encode(picture.crop((left, top, left + width, top + height)), "PNG")
    with Image.open(io.BytesIO(boxed)) as picture:
        expected = np.asarray(picture.rotate(12.0, Image.Resampling.BILINEAR).crop((20, 10, 84, 74)), int)
    got = rotation.crop(encoded, window, tf.constant([10.0, 20.0, 64.0, 64.0], tf.float64), 64, tf.constant(12.0, tf.float64))
    difference = np.abs(got.numpy().astype(int) - expected).max(axis=-1)
    assert np.quantile(difference, 0.97) <= 3


def test_degrees_are_uniform():
    draw = tf.function(lambda number: rotation.draw(tf.stack([3, number]), 15.0))
    drawn = tf.map_fn(draw, tf.range(2000), fn_output_signature=tf.float64).numpy()
    np.testing.assert_allclose(np.quantile(drawn, [0, 0.25, 0.5, 0.75, 1]), [-15, -7.5, 0, 7.5, 15], atol=0.8)


@pytest.mark.parametrize("augment, resize", [("crop", "short:60"), ("inception", "squash"), ("simple", "squash")])
def test_training_pictures_turn_about_the_same_crop(augment, resize, encoded):
    plain, slight, far = (inputs.TrainPictures(48, augment, "", resize, rotate=degrees) for degrees in (0.0, 1e-4, 90.0))
    for row in range(4):
        first, second, third = (inputs.training_picture(encoded, seeds.example_seed(3, 0, row), how).numpy().astype(int)
                                for how in (plain, slight, far))
        # By nearly nothing: the same place and mirror image, but for a bilinear touch.
        assert np.abs(first - second).mean() < 1.5
        assert np.abs(first - third).mean() > 5


def test_no_more_is_decoded_than_is_needed(encoded):
    graph = tf.function(lambda given: rotation.crop(given, tf.constant([0, 0, HEIGHT, WIDTH]), tf.constant(
        [10.0, 10.0, 20.0, 20.0], tf.float64), 32, tf.constant(15.0, tf.float64))).get_concrete_function(
            tf.TensorSpec([], tf.string)).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("DecodeAndCropJpeg") == 1 and "DecodeJpeg" not in kinds


@pytest.mark.parametrize("augment", ["eval", "rot45", "imet"])
def test_what_is_not_cropped_is_not_turned_before(augment, tiny_data, tmp_path):
    with pytest.raises(UserError, match=f"rotate=15 .*augment=crop, inception, simple, not {augment}"):
        train.run_training(run(tiny_data, tmp_path / "m", stage(augment=augment, rotate=15.0)))
