"""Crops within a box, a part of the decode, against Pillow."""

import io

import numpy as np
import pytest
from PIL import Image
import tensorflow as tf

from pipeline.ops import decode, tta
from pipeline.records import input as inputs
from test_decode import difference, jpeg, opened, picture

HEIGHT, WIDTH = 120, 200
# left, top, right, bottom as fractions → in pixels; on the blocks of the JPEG, off them, to the edges, of less than a pixel.
BOXES = {(0.4, 0.2, 0.8, 0.8): (80, 24, 160, 96), (0.133, 0.31, 0.777, 0.905): (27, 37, 155, 109),
         (0.0, 0.0, 1.0, 1.0): (0, 0, WIDTH, HEIGHT), (0.9, 0.5, 1.0, 1.0): (180, 60, WIDTH, HEIGHT),
         (0.5, 0.5, 0.5, 0.5): (100, 60, 101, 61), (1.0, 1.0, 1.0, 1.0): (199, 119, 200, 120)}


@pytest.fixture(scope="module")
def encoded():
    return jpeg(picture(HEIGHT, WIDTH), subsampling=0)


@pytest.mark.parametrize("box, pixels", BOXES.items())
@pytest.mark.parametrize("in_graph", [False, True])
def test_the_window_in_whole_pixels(box, pixels, in_graph, encoded):
    window = tf.function(decode.window) if in_graph else decode.window
    left, top, right, bottom = pixels
    assert window(encoded, tf.constant(box)).numpy().tolist() == [top, left, bottom - top, right - left]
    assert window(encoded).numpy().tolist() == [0, 0, HEIGHT, WIDTH]


@pytest.mark.parametrize("box, pixels", BOXES.items())
@pytest.mark.parametrize("progressive", [False, True])
def test_the_decoded_box_is_pillows_crop(box, pixels, progressive):
    encoded = jpeg(picture(HEIGHT, WIDTH), subsampling=0, progressive=progressive)
    crop = np.asarray(opened(encoded).crop(pixels))
    got = decode.decode(encoded, tf.constant(box))
    assert got.shape == crop.shape and difference(got, crop).max() <= 1


def test_the_box_is_cut_in_the_decode(encoded):
    graph = tf.function(lambda bytes_, box: decode.whole(bytes_, 32, "squash", box)).get_concrete_function(
        tf.TensorSpec([], tf.string), tf.TensorSpec([4], tf.float32)).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("DecodeAndCropJpeg") == 1 and "DecodeJpeg" not in kinds


@pytest.mark.parametrize("box", list(BOXES)[:4])
@pytest.mark.parametrize("resize", ["squash", "short:40"])
@pytest.mark.parametrize("name", ["six", "rot45"])
def test_views_of_a_box_are_those_of_a_picture_that_ends_there(box, resize, name, encoded):
    """The same crop, stored without loss of its own by Pillow, as a picture."""
    crop = opened(encoded).crop(BOXES[box])
    stored = np.asarray(crop)
    views = tta.parse(name)
    got = tta.host_views(encoded, 32, views, resize, tf.constant(box)).numpy()
    first = decode.resize_whole(tf.constant(stored), 32, resize)
    expected = np.stack([first, *views.on_host(tta.Picture(tf.constant(stored), first, 32, resize))])
    assert got.shape == expected.shape and difference(got, expected).max() <= 1


@pytest.mark.parametrize("augment", ["inception", "rot45", "eval"])
def test_training_sees_nothing_beyond_the_box(augment):
    pixels = np.full((HEIGHT, WIDTH, 3), [250, 0, 0], np.uint8)
    pixels[24:96, 80:160] = [0, 200, 0]
    encoded = jpeg(pixels, subsampling=0)
    pictures = inputs.TrainPictures(32, augment, "", "squash")
    draw = tf.function(lambda seed: inputs.training_picture(encoded, seed, pictures, tf.constant([0.4, 0.2, 0.8, 0.8])))
    for number in range(8):
        image = draw(tf.constant([5, number])).numpy().astype(int)
        assert image[..., 0].max() < 40 and image[..., 1].min() > 150


def test_random_crops_in_a_box_are_those_of_the_crop(encoded):
    """The same draw as in a picture of the box's size: Pillow's crop of Pillow's crop."""
    box = (0.4, 0.2, 0.8, 0.8)
    crop = opened(encoded).crop(BOXES[box])
    for number in range(5):
        seed = tf.constant([3, number])
        top, left, height, width = decode.sample_box(crop.height, crop.width, seed).numpy().tolist()
        expected = crop.crop((left, top, left + width, top + height)).resize((24, 24), Image.Resampling.BILINEAR)
        assert difference(decode.random_crop(encoded, 24, seed, tf.constant(box)), expected).max() <= 1


def test_in_a_dataset_on_many_threads(encoded):
    sides = tf.constant(list(BOXES), tf.float32)
    dataset = tf.data.Dataset.range(len(BOXES)).map(lambda row: decode.whole(encoded, 24, "squash", sides[row]),
                                                    num_parallel_calls=4)
    for box, got in zip(BOXES, dataset):
        assert np.array_equal(got, decode.whole(encoded, 24, "squash", tf.constant(box)))


def test_chroma_at_half_the_resolution_is_off_at_the_edge_only():
    encoded = jpeg(picture(HEIGHT, WIDTH), subsampling=2)
    crop = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB").crop((27, 37, 155, 109)))
    wrong = difference(decode.decode(encoded, tf.constant((0.133, 0.31, 0.777, 0.905))), crop)
    assert wrong[:, 2:-2].max() <= 1 and wrong.mean() < 0.5
