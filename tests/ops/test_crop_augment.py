"""--augment=crop: a square anywhere in the picture with its short side resized, against Pillow and NumPy."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from PIL import Image

from pipeline.errors import UserError
from pipeline.ops import decode, seeds
from pipeline.records import input as inputs
from pipeline.training import train
import raw_data
from training_runs import run, stage

CROP = inputs.TrainPictures(48, "crop", "", "short:60")


def test_every_place_is_as_likely():
    rows, columns = np.mgrid[:60, :100]
    image = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)  # a pixel tells where it stands
    draw = tf.function(lambda number: decode.random_short_side_crop(tf.constant(image), 48, 60, tf.stack([5, number])))
    drawn = tf.map_fn(draw, tf.range(3000), fn_output_signature=tf.uint8).numpy()
    corners = drawn[:, 0, 0, :2].astype(int)
    for crop, (top, left) in zip(drawn[:20], corners):
        assert np.array_equal(crop, image[top:top + 48, left:left + 48])
    for axis, places in ((0, 60 - 48 + 1), (1, 100 - 48 + 1)):
        counts = np.bincount(corners[:, axis], minlength=places)
        assert len(counts) == places and scipy.stats.chisquare(counts).pvalue > 1e-3
    assert abs(np.corrcoef(corners.T)[0, 1]) < 0.06


@pytest.mark.parametrize("width, height", [(90, 150), (151, 80), (40, 60)])
def test_crops_are_pillows(width, height):
    encoded = raw_data.encode(raw_data.pixels(1, width, height), quality=95)
    scale = 60 / min(width, height)
    size = (round(width * scale), round(height * scale))
    opened = Image.open(raw_data.io.BytesIO(encoded)).convert("RGB").resize(size, Image.Resampling.BILINEAR)
    resized = np.asarray(opened, int)
    candidates = [resized[top:top + 48, left:left + 48] for top in range(size[1] - 47) for left in range(size[0] - 47)]
    mirrored = 0
    for row in range(8):
        crop = inputs.training_picture(encoded, seeds.example_seed(3, 0, row), CROP).numpy().astype(int)
        distances = [[np.abs(one[:, ::way] - crop).max() for one in candidates] for way in (1, -1)]
        assert np.min(distances) <= 1
        mirrored += int(np.argmin(np.min(distances, axis=1)))
    assert 0 < mirrored < 8


def test_the_same_in_a_dataset():
    encoded = raw_data.encode(raw_data.pixels(2, 100, 70))
    made = tf.data.Dataset.range(6).map(
        lambda row: inputs.training_picture(encoded, seeds.example_seed(3, 1, row), CROP), num_parallel_calls=3)
    assert made.element_spec == tf.TensorSpec([48, 48, 3], tf.uint8)
    for row, picture in enumerate(made):
        assert np.array_equal(picture, inputs.training_picture(encoded, seeds.example_seed(3, 1, row), CROP))


def test_it_needs_the_short_side(tiny_data, tmp_path):
    with pytest.raises(UserError, match="augment=crop needs eval_resize=short:N, not squash"):
        train.run_training(run(tiny_data, tmp_path / "m", stage(augment="crop")))
