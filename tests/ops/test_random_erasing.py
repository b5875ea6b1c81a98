"""Random erasing against NumPy: what is erased is a rectangle within the paper's bounds, the rest stays."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.ops import random_erasing, seeds
from pipeline.records import input as inputs


def seed(number):
    return tf.constant([number, 11], tf.int64)


@pytest.mark.parametrize("size", [20, 64])
def test_boxes_are_rectangles_of_the_papers_size(size):
    draw = tf.function(lambda number: random_erasing.draw_box(tf.stack([number, 11]), size))
    areas, aspects = [], []
    for number in range(300):
        box = draw(tf.constant(number, tf.int64)).numpy()
        rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
        assert box[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all() and box.sum() == len(rows) * len(columns)
        areas.append(box.mean())
        aspects.append(len(rows) / len(columns))
    rounding = 2 / size  # of a side to whole pixels
    assert 0.02 - rounding < min(areas) < 0.05 and 0.28 < max(areas) < 1 / 3 + rounding
    assert 0.3 * 0.7 < min(aspects) < 0.45 and 2.2 < max(aspects) < 3.3 * 1.4
    assert np.mean(areas) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    assert np.mean(np.log(aspects)) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("wrap", [lambda function: function, tf.function])
def test_the_rest_of_the_picture_stays(wrap):
    image = np.full((40, 40, 3), 7, np.uint8)
    erase = wrap(lambda one: random_erasing.erase(tf.constant(image), one, 1.0))
    erased = erase(seed(3)).numpy()
    box = random_erasing.draw_box(seeds.split(seed(3), 3)[1], 40).numpy()
    np.testing.assert_array_equal(erased[~box], image[~box])
    noise = erased[box]
    assert noise.min() < 40 and noise.max() > 215 and noise.mean() == pytest.approx(127.5, abs=15)
    np.testing.assert_array_equal(erase(seed(3)), erased)
    assert (erase(seed(4)).numpy() != erased).any()


def test_it_happens_with_its_probability():
    image = tf.zeros([16, 16, 3], tf.uint8)
    erase = tf.function(lambda number: random_erasing.erase(image, tf.stack([number, 0]), 0.25))
    erased = sum(bool(erase(tf.constant(number, tf.int64)).numpy().any()) for number in range(400))
    assert 70 < erased < 130


def test_a_place_at_every_border_is_reached():
    draw = tf.function(lambda number: random_erasing.draw_box(tf.stack([number, 5]), 12))
    boxes = np.array([draw(tf.constant(number, tf.int64)) for number in range(300)])
    assert boxes.any(axis=0).all()


def test_the_input_pipeline_erases(tiny_data):
    plain, erasing = (inputs.TrainPictures(32, "inception", "", "squash", random_erasing=probability)
                      for probability in (0.0, 1.0))
    first, second = (next(iter(inputs.train_batches(tiny_data.part("train"), one, 8, seed=1)))[0]["image"].numpy()
                     for one in (plain, erasing))
    changed = (first != second).any(axis=(1, 2, 3))
    assert changed.all() and (first == second).mean() > 0.5  # the same crops, with a rectangle of noise each
