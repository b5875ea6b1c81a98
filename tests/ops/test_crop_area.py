"""The random crop's least area and its two laws: areas against iNat 2021's sixth place, against TensorFlow's own op, and
their least; and that the flags' names are those of the operations."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline.ops import decode, seeds
from pipeline.records import input as inputs
from pipeline.training import flags as training_flags
import raw_data

SHARES = [0.05, 0.25, 0.5, 0.75, 0.95]
SAMPLES = {"area": decode.sample_box, "height": decode.sample_box_by_height}


def boxes(law, height, width, least, count=4000):
    numbers = tf.range(count)
    draw = tf.function(lambda: tf.map_fn(lambda number: SAMPLES[law](height, width, tf.stack([number, 3]), least), numbers))
    return draw().numpy()


def areas(law, height, width, least, count=4000):
    """Shares of the picture's area; every box lies inside."""
    drawn = boxes(law, height, width, least, count)
    assert (drawn[:, :2] >= 0).all() and (drawn[:, :2] + drawn[:, 2:] <= [height, width]).all()
    share = drawn[:, 2] * drawn[:, 3] / (height * width)
    assert share.min() >= least
    return share


@pytest.mark.parametrize("law", decode.CROP_LAWS)
def test_no_crop_is_smaller_than_half_of_the_picture(law):
    """The quantiles that were read off the solution's crops."""
    found = np.quantile(areas(law, 400, 500, 0.5), SHARES)
    assert np.abs(found - [0.51, 0.57, 0.65, 0.75, 0.90]).max() < 0.02


def test_the_ordinary_crop_is_as_it_was():
    found = np.quantile(areas("area", 400, 500, 0.08), SHARES)
    assert np.abs(found - [0.12, 0.26, 0.45, 0.62, 0.83]).max() < 0.025
    assert np.array_equal(boxes("area", 300, 400, 0.08, 20), tf.stack([
        decode.sample_box(300, 400, tf.stack([number, 3])) for number in range(20)]))


def distorted(height, width, rng, least=0.5):
    """The share that tf.image.sample_distorted_bounding_box covers, in NumPy: an aspect, then a height that fits."""
    while True:
        aspect = rng.uniform(0.75, 1.33)
        most = int(min(height, (width + 0.5) / aspect, np.sqrt(height * width / aspect)))
        fewest = min(round(np.sqrt(0.08 * height * width / aspect)), most)
        tall = rng.integers(fewest, most + 1)
        share = tall * round(tall * aspect) / (height * width)
        if round(tall * aspect) <= width and share >= least:
            return share


@pytest.mark.parametrize("height, width", [(500, 400), (500, 500), (333, 500)])
def test_the_law_by_height_is_the_sixth_places(height, width):
    rng = np.random.default_rng(0)
    expected = np.quantile([distorted(height, width, rng) for _ in range(6000)], SHARES)
    assert np.abs(np.quantile(areas("height", height, width, 0.5), SHARES) - expected).max() < 0.02


def test_a_panorama_is_taken_as_far_as_it_goes():
    assert np.array_equal(boxes("height", 50, 400, 0.5, 5), np.tile([0, 0, 50, 400], (5, 1)))
    panorama = boxes("area", 50, 400, 0.5, 50)
    assert (panorama[:, 2] == 50).all() and (panorama[:, 3] == 200).all()


@pytest.mark.parametrize("law", decode.CROP_LAWS)
def test_the_whole_picture_is_a_least_area_too(law):
    assert (areas(law, 30, 40, 1.0, 20) == 1).all()


@pytest.mark.parametrize("augment", ["inception", "simple"])
@pytest.mark.parametrize("law", decode.CROP_LAWS)
def test_training_pictures_are_such_crops(augment, law):
    """A pixel tells where it stands: red by its column, green by its row."""
    rows, columns = np.mgrid[:240, :240]
    encoded = raw_data.encode(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8), quality=100)
    pictures = inputs.TrainPictures(32, augment, "", "squash", min_crop=0.7, crop_law=law)
    spans = []
    for row in range(12):
        made = inputs.training_picture(encoded, seeds.example_seed(2, 0, row), pictures).numpy().astype(float)
        if augment == "inception":
            spans.append(np.ptp(made[8:24, :, 0], axis=1).mean() * np.ptp(made[:, 8:24, 1], axis=0).mean() / 239**2)
        again = inputs.training_picture(encoded, seeds.example_seed(2, 0, row), pictures)
        assert np.array_equal(made, again)
    assert all(span > 0.6 for span in spans)


def test_the_same_in_a_dataset():
    encoded = raw_data.encode(raw_data.pixels(2, 100, 70))
    pictures = inputs.TrainPictures(32, "inception", "", "squash", min_crop=0.5, crop_law="height")
    made = tf.data.Dataset.range(6).map(
        lambda row: inputs.training_picture(encoded, seeds.example_seed(3, 1, row), pictures), num_parallel_calls=3)
    assert made.element_spec == tf.TensorSpec([32, 32, 3], tf.uint8)
    for row, picture in enumerate(made):
        assert np.array_equal(picture, inputs.training_picture(encoded, seeds.example_seed(3, 1, row), pictures))


def test_the_flag_knows_the_laws():
    assert training_flags.CROP_LAWS == decode.CROP_LAWS


def test_a_crop_is_resized_pillows_way():
    encoded = raw_data.encode(raw_data.pixels(4, 200, 160), quality=95)
    seed = tf.constant([6, 1])
    top, left, height, width = decode.sample_box_by_height(160, 200, seed, 0.5).numpy().tolist()
    expected = Image.open(io.BytesIO(encoded)).crop((left, top, left + width, top + height)).resize(
        (40, 40), Image.Resampling.BILINEAR)
    got = decode.random_crop(encoded, 40, seed, min_area=0.5, law="height").numpy().astype(int)
    assert np.abs(got - np.asarray(expected, int)).max() <= 2
