"""--grid_mask: which cells become black, and how often."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.ops import grid_mask, seeds
from pipeline.records import input as inputs
from pipeline.training import train
from raw_data import encode, pixels
from training_runs import run, stage

IMAGE = np.random.default_rng(0).integers(1, 256, (448 // 8, 448 // 8, 3), dtype=np.uint8)  # cells of 8 px, nowhere black


def test_cells_are_blanked_whole_one_in_ten():
    blank = tf.function(lambda number: grid_mask.blank(tf.constant(IMAGE), tf.stack([1, number]), 0.1))
    drawn = tf.map_fn(blank, tf.range(400), fn_output_signature=tf.uint8).numpy()
    cells = drawn.reshape(400, 7, 8, 7, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(400, 7, 7, -1)
    original = IMAGE.reshape(7, 8, 7, 8, 3).transpose(0, 2, 1, 3, 4).reshape(7, 7, -1)
    black, kept = (cells == 0).all(axis=-1), (cells == original).all(axis=-1)
    assert (black ^ kept).all()
    assert abs(black.mean() - 0.1) < 0.01  # three standard deviations are 0.0064
    np.testing.assert_allclose(black.mean(axis=0), 0.1, atol=0.07)
    counts = black.sum(axis=(1, 2))
    assert abs(counts.var() - 49 * 0.09) < 1.2  # independent: binomial


def test_a_side_that_seven_does_not_divide():
    image = tf.constant(IMAGE[:32, :32])
    blanked = grid_mask.blank(image, tf.constant([0, 1]), 0.5).numpy()
    columns = np.arange(32) * 7 // 32
    for row in range(7):
        for column in range(7):
            cell = blanked[np.ix_(columns == row, columns == column)]
            assert not cell.any() or np.array_equal(cell, image.numpy()[np.ix_(columns == row, columns == column)])
    assert 4 <= np.bincount(columns).min() <= np.bincount(columns).max() <= 5


def test_it_comes_after_everything():
    encoded = encode(pixels(1))
    plain, masked, gone = (inputs.TrainPictures(28, "inception", "2:5", "squash", grid_mask=share) for share in (0.0, 0.3, 1.0))
    seed = seeds.example_seed(3, 0, 5)
    before, after, nothing = (inputs.training_picture(encoded, seed, how).numpy() for how in (plain, masked, gone))
    changed = (before != after).any(axis=-1)
    assert changed.any() and not after[changed].any() and not nothing.any()


def test_not_with_eval(tiny_data, tmp_path):
    with pytest.raises(UserError, match="grid_mask=0.1 does not go with augment=eval"):
        train.run_training(run(tiny_data, tmp_path / "m", stage(augment="eval", grid_mask=0.1)))
