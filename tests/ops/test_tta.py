"""Test-time views against Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.ops import decode, seeds, tta

import tensorflow as tf


def jpeg(height, width, progressive=False):
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, 255 * y / height, 60 + 0 * x], axis=-1)
    pixels += np.random.default_rng(3).normal(0, 12, pixels.shape)
    pixels[height // 5:height // 3, width // 2:] = [20, 200, 90]
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=92, progressive=progressive)
    return file.getvalue()


def resized(encoded, box, size):
    crop = Image.open(io.BytesIO(encoded)).convert("RGB").crop(box)
    return np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR), int)


def test_parse():
    assert [(tta.parse(name).crops, tta.parse(name).total)
            for name in ("none", "flip", "six", "ten", "rot45", "crops")] == [
                (1, 1), (1, 2), (3, 6), (5, 10), (2, 10), (2, 2)]
    assert all(views.name == name for name, views in tta.TTA.items())
    with pytest.raises(UserError, match="unknown tta 'seven'; known: crops, flip, mask16, none, rot45, six, ten"):
        tta.parse("seven")


@pytest.mark.parametrize("height, width, first, second", [
    (90, 150, (0, 0, 90, 90), (60, 0, 150, 90)),    # left, right
    (151, 80, (0, 0, 80, 80), (0, 71, 80, 151)),    # top, bottom
    (70, 70, (0, 0, 70, 70), (0, 0, 70, 70)),
    (1, 1, (0, 0, 1, 1), (0, 0, 1, 1)),
])
@pytest.mark.parametrize("progressive", [False, True])
def test_six(height, width, first, second, progressive):
    encoded = jpeg(height, width, progressive)
    got = tta.host_views(encoded, 48, tta.parse("six"), "squash").numpy()
    assert (got.dtype, got.shape) == (np.uint8, (3, 48, 48, 3))
    for view, box in zip(got.astype(int), [(0, 0, width, height), first, second]):
        assert np.abs(view - resized(encoded, box, 48)).max() <= 1


@pytest.mark.parametrize("height, width", [(90, 150), (151, 80), (70, 70), (40, 300)])
def test_ten_takes_the_centre_and_the_corners(height, width):
    encoded = jpeg(height, width)
    got = tta.host_views(encoded, 48, tta.parse("ten"), "short:60").numpy()
    assert (got.dtype, got.shape) == (np.uint8, (5, 48, 48, 3))
    scale = 60 / min(height, width)
    long = (round(width * scale), round(height * scale))
    small = Image.open(io.BytesIO(encoded)).convert("RGB").resize(long, Image.Resampling.BILINEAR)
    right, bottom = long[0] - 48, long[1] - 48
    places = [(right // 2, bottom // 2), (0, 0), (right, 0), (0, bottom), (right, bottom)]
    for view, (left, top) in zip(got.astype(int), places):
        assert np.abs(view - np.asarray(small.crop((left, top, left + 48, top + 48)), int)).max() <= 1
    every = tta.parse("ten").on_device(tf.constant(got)[tf.newaxis]).numpy()[0]
    assert np.array_equal(every[5:], got[:, :, ::-1])


@pytest.mark.parametrize("eval_resize", ["squash", "short:48"])
def test_ten_needs_a_picture_larger_than_the_crops(eval_resize):
    with pytest.raises(UserError, match=f"--tta=ten .*eval_resize=short:N with N above 48, not {eval_resize}"):
        tta.check("ten", eval_resize, 48)
    tta.check("ten", "short:49", 48)
    tta.check("flip", eval_resize, 48)
    with pytest.raises(UserError, match=f"--tta=crops takes random crops: it needs eval_resize=crop:N, not {eval_resize}"):
        tta.check("crops", eval_resize, 48)
    tta.check("crops", "crop:40", 48)


def test_crops_are_mirror_images_of_two_random_parts():
    encoded = jpeg(150, 70)
    seed = tf.constant([6, 1], tf.int64)
    got = tta.host_views(encoded, 48, tta.parse("crops"), "crop:80", seed=seed).numpy()
    for view, one in zip(got, (seed, seeds.split(seed, 2)[1])):
        top, left, height, width = decode.sample_part(tf.constant([150, 70]), 80, one).numpy()
        assert (left, height, width) == (0, 80, 70)
        assert np.abs(view - resized(encoded, (0, top, 70, top + 80), 48)).max() <= 1
    assert (got[0] != got[1]).any()
    np.testing.assert_array_equal(tta.parse("crops").on_device(tf.constant(got)[tf.newaxis])[0], got[:, :, ::-1])


@pytest.mark.parametrize("name, resize", [(name, resize) for name in tta.TTA for resize in ("squash", "short:40")
                                          if (name, resize) != ("ten", "squash") and name not in ("crops", "mask16")])
def test_the_first_view_is_that_of_evaluation(name, resize):
    encoded = jpeg(60, 100)
    got = tta.host_views(encoded, 32, tta.parse(name), resize)
    assert got.shape == [tta.parse(name).crops, 32, 32, 3]
    assert np.array_equal(got[0], decode.whole(encoded, 32, resize))
    views = tta.parse(name).on_device(got[tf.newaxis])
    assert views.shape == [1, tta.parse(name).total, 32, 32, 3] and np.array_equal(views[0, 0], got[0])


def test_the_jpeg_is_decoded_once():
    function = tf.function(lambda encoded: tta.host_views(encoded, 32, tta.parse("six"), "squash"))
    operations = function.get_concrete_function(tf.TensorSpec([], tf.string)).graph.get_operations()
    assert sum(operation.type in ("DecodeJpeg", "DecodeAndCropJpeg") for operation in operations) == 1


def test_inside_a_dataset():
    pictures = [jpeg(60, 100), jpeg(100, 60), jpeg(30, 30)]
    dataset = tf.data.Dataset.from_tensor_slices(pictures).map(
        lambda encoded: tta.host_views(encoded, 32, tta.parse("six"), "squash"), num_parallel_calls=3)
    assert dataset.element_spec == tf.TensorSpec([3, 32, 32, 3], tf.uint8)
    for encoded, got in zip(pictures, dataset):
        assert np.array_equal(got, tta.host_views(encoded, 32, tta.parse("six"), "squash"))


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32, tf.bfloat16])
@pytest.mark.parametrize("jit", [False, True])
def test_mirror(dtype, jit):
    views = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3))
    got = tf.function(tta.mirror, jit_compile=jit)(tf.cast(views, dtype))
    assert (got.dtype, got.shape) == (dtype, [2, 6, 4, 5, 3])
    got = tf.cast(got, tf.int32).numpy()
    assert np.array_equal(got[:, :3], views)
    assert np.array_equal(got[:, 3:], views[:, :, :, ::-1])
