"""--place_drop: places that are not told in training, by a draw of their own for each picture and epoch."""

import numpy as np
import pytest

from pipeline.ops import seeds
from pipeline.records import input as inputs
from pipeline.records.training_picture import training_place

import tensorflow as tf

PLAIN = inputs.TrainPictures(32, "inception", "", "squash")
DROPPING = inputs.TrainPictures(32, "inception", "", "squash", place_drop=0.5)
PLACE = [0.5, -0.25, 1.0]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_share_is_dropped(share):
    pictures = inputs.TrainPictures(32, "inception", "", "squash", place_drop=share)
    numbers = tf.range(3000, dtype=tf.int64)
    told = tf.function(lambda: tf.map_fn(
        lambda row: training_place(tf.constant(PLACE), seeds.example_seed(4, 1, row), pictures), numbers,
        fn_output_signature=tf.float32))().numpy()
    dropped = (told == 0).all(axis=1)
    np.testing.assert_array_equal(told[~dropped], np.tile(np.float32(PLACE), (np.sum(~dropped), 1)))
    assert dropped.mean() == pytest.approx(share, abs=0.03)


def places(data, pictures, epochs=3):
    """{(epoch, the picture's number in the order): place} and the pictures themselves."""
    batches = list(inputs.train_batches(data.part("train"), pictures, 10, seed=3).take(5 * epochs))
    return (np.concatenate([features["place"] for features, _ in batches]),
            np.concatenate([features["image"] for features, _ in batches]))


def test_batches_lose_places_and_nothing_else(tiny_data):
    whole, pictures = places(tiny_data, PLAIN)
    some, same_pictures = places(tiny_data, DROPPING)
    np.testing.assert_array_equal(pictures, same_pictures)  # what happens to a picture does not hang on its place
    assert (whole[:, 2] == 1).all()
    kept = some[:, 2] == 1
    np.testing.assert_array_equal(some[kept], whole[kept])
    assert not some[~kept].any() and 50 < kept.sum() < 100
    assert len({tuple(kept[epoch * 50:][:50]) for epoch in range(3)}) == 3
    np.testing.assert_array_equal(some, places(tiny_data, DROPPING)[0])


def test_prediction_is_told_all(tiny_data):
    for features, _, _ in inputs.validation_batches(tiny_data.part("val"), 32, "squash", 11):
        assert (features["place"][:, 2] == 1).numpy().all()
