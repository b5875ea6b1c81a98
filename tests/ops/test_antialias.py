"""--antialias=off: plain bilinear interpolation in training, evaluation and test-time views, against OpenCV's or NumPy's."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline.ops import decode, seeds, tta
from pipeline.records import input as inputs
import raw_data


def bilinear(image, height, width):
    """[H, W, C] to [height, width, C] between the four pixels next to each centre, in NumPy; rounded."""
    def along(length, size):
        centres = (np.arange(size) + 0.5) * length / size - 0.5
        low = np.clip(np.floor(centres), 0, length - 1).astype(int)
        return low, np.clip(np.floor(centres) + 1, 0, length - 1).astype(int), (centres - np.floor(centres))[:, None]

    image = np.asarray(image, float)
    top, bottom, down = along(image.shape[0], height)
    left, right, across = along(image.shape[1], width)
    rows = image[top] * (1 - down[:, None]) + image[bottom] * down[:, None]
    return np.round(rows[:, left] * (1 - across) + rows[:, right] * across)


def picture(height=160, width=220):
    """Noise, of which antialiasing makes gray."""
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return raw_data.encode(noise, quality=95)


def opened(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def close(got, expected):
    return np.abs(np.asarray(got, int) - np.asarray(expected, int)).max() <= 1


def test_the_reference_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    pixels = opened(picture())
    assert close(bilinear(pixels, 48, 48), cv2.resize(pixels, (48, 48), interpolation=cv2.INTER_LINEAR))


def test_the_reference_is_tensorflows():
    pixels = opened(picture())
    assert close(bilinear(pixels, 48, 64), tf.round(tf.image.resize(pixels, [48, 64], "bilinear", antialias=False)))


def test_evaluation():
    encoded = picture()
    plain, smooth = (decode.whole(encoded, 48, "squash", antialias=antialias).numpy() for antialias in (False, True))
    assert close(plain, bilinear(opened(encoded), 48, 48))
    assert plain.std() > 1.5 * smooth.std()


def test_evaluation_by_the_short_side():
    encoded = picture(160, 220)
    expected = bilinear(opened(encoded), 60, round(220 * 60 / 160))
    left = (expected.shape[1] - 48) // 2
    assert close(decode.whole(encoded, 48, "short:60", antialias=False), expected[6:54, left:left + 48])


@pytest.mark.parametrize("augment", ["inception", "eval", "crop", "imet"])
def test_training(augment):
    """What is undone by antialiasing stays: noise is as loud after the resize."""
    encoded = picture()
    deviations = []
    for antialias in (False, True):
        pictures = inputs.TrainPictures(32, augment, "", "short:40" if augment == "crop" else "squash", min_crop=0.5,
                                        antialias=antialias, resize_engine="reference")
        made = [inputs.training_picture(encoded, seeds.example_seed(1, 0, row), pictures).numpy() for row in range(4)]
        deviations.append(np.mean([one.std() for one in made]))
    assert deviations[0] > 1.3 * deviations[1]


def test_a_training_crop_is_interpolated():
    encoded, seed = picture(), tf.constant([9, 2])
    top, left, height, width = decode.sample_box_by_height(160, 220, seed, 0.5).numpy().tolist()
    got = decode.random_crop(encoded, 48, seed, min_area=0.5, law="height", antialias=False).numpy().astype(int)
    expected = bilinear(opened(encoded)[top:top + height, left:left + width], 48, 48)
    assert np.abs(got[1:-1, 1:-1] - expected[1:-1, 1:-1]).mean() < 1  # chroma of half the resolution differs at the edge


def test_six_views():
    encoded, size = picture(90, 150), 48
    pixels = opened(encoded)
    got = tta.host_views(encoded, size, tta.parse("six"), "squash", antialias=False)
    for view, part in zip(got, (pixels, pixels[:, :90], pixels[:, 60:])):
        assert close(view, bilinear(part, size, size))


def test_ten_views():
    encoded = picture(90, 150)
    small = bilinear(opened(encoded), 60, 100)
    got = tta.host_views(encoded, 48, tta.parse("ten"), "short:60", antialias=False)
    for view, (top, left) in zip(got, [(6, 26), (0, 0), (0, 52), (12, 0), (12, 52)]):
        assert close(view, small[top:top + 48, left:left + 48])


def test_batches_of_validation_and_prediction(tiny_data):
    part = tiny_data.part("val")
    encoded = [example["encoded"].numpy() for example in inputs.examples(part)]
    batch, = inputs.predict_batches(part, 32, tta.parse("none"), "squash", 11, antialias=False)
    (features, _, _), = inputs.validation_batches(part, 32, "squash", 11, antialias=False)
    for one, predicted, validated in zip(encoded, batch["image"][:, 0], features["image"]):
        assert close(predicted, bilinear(opened(one), 32, 32)) and np.array_equal(predicted, validated)
