"""RandAugment's layers: how operations are drawn and follow one another, in a dataset too."""

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.ops import randaugment, seeds
from test_randaugment import NAMES, SEED, apply, level, picture

import tensorflow as tf

original = randaugment.draw


def test_operations_are_drawn_uniformly():
    draw = tf.function(lambda number: randaugment.draw(seeds.example_seed(42, 0, number), 6)[0])
    drawn = np.array([draw(tf.constant(number)).numpy() for number in range(1000)])
    assert drawn.shape == (1000, 6)
    counts = np.array([np.bincount(layer, minlength=16) for layer in drawn.T])
    assert counts.shape == (6, 16)
    chi_square = ((counts.sum(axis=0) - 375)**2 / 375).sum()
    assert chi_square < 37.7  # 15 degrees of freedom: 1 in 1,000
    pairs = np.bincount(drawn[:, 0] * 16 + drawn[:, 1], minlength=256)  # layers are independent
    assert ((pairs - 1000 / 256)**2 / (1000 / 256)).sum() < 330  # 255 degrees: 1 in 1,000


@pytest.mark.parametrize("mode", ["eager", "function", "dataset"])
def test_only_the_drawn_operations_run_in_their_order(monkeypatch, mode):
    ran = []

    def recording(name):
        def record(image):
            ran.append(name)
            return image

        def operation(image, level, seed):
            assert level == f"{name} at 0.4 of 8"
            return tf.ensure_shape(tf.numpy_function(record, [image], tf.uint8), image.shape)
        return randaugment.Operation(operation, lambda m, size: f"{name} at {m} of {size}")

    monkeypatch.setattr(randaugment, "OPERATIONS", {name: recording(name) for name in NAMES})
    indices, _ = randaugment.draw(SEED, 5)
    image = tf.constant(picture(8, 8))

    def augment(pixels):
        return randaugment.randaugment(pixels, SEED, 5, 4.0)

    if mode == "eager":
        augment(image)
    elif mode == "function":
        tf.function(augment)(image)
    else:
        list(tf.data.Dataset.from_tensors(image).map(augment))
    assert ran == [NAMES[index] for index in indices]


@pytest.mark.parametrize("number", range(5))
def test_layers_are_the_operations_one_after_the_other(number):
    pixels, seed = picture(32, 32), tf.constant([number, 77])
    indices, layer_seeds = randaugment.draw(seed, 4)
    expected = pixels
    for index, layer_seed in zip(indices.numpy(), layer_seeds):
        expected = apply(NAMES[index], expected, level(NAMES[index], 6, 32), layer_seed)
    assert np.array_equal(randaugment.randaugment(tf.constant(pixels), seed, 4, 6.0), expected)


@pytest.mark.parametrize("magnitude", [4.0, 28.0])
def test_in_a_dataset_as_in_eager(magnitude):
    image = tf.constant(picture(40, 40))

    def augment(row):
        return randaugment.randaugment(image, seeds.example_seed(42, 1, row), 3, magnitude)

    dataset = tf.data.Dataset.range(16).map(augment, num_parallel_calls=4)
    assert dataset.element_spec == tf.TensorSpec([40, 40, 3], tf.uint8)
    first, second = ([got.numpy() for got in dataset] for _ in range(2))
    assert np.array_equal(first, second)
    assert len({got.tobytes() for got in first}) > 10
    for row in range(0, 16, 5):
        assert np.array_equal(first[row], augment(row))


@pytest.mark.parametrize("height, width", [(1, 1), (2, 5)])
def test_tiny_pictures(height, width):
    pixels = np.full((height, width, 3), 90, np.uint8)
    for name in NAMES:
        apply(name, pixels, level(name, 10, 1))


def test_one_draw_for_all_layers():
    """Over some hundred seeds: one operation with one sign, and over the seeds every one of both."""
    draw = tf.function(lambda number: randaugment.draw(seeds.example_seed(42, 0, number), 6, same=True))
    drawn = [draw(tf.constant(number)) for number in range(400)]
    indices = np.array([one.numpy() for one, _ in drawn])
    layer_seeds = np.array([one.numpy() for _, one in drawn])
    assert indices.shape == (400, 6) and layer_seeds.shape == (400, 6, 2)
    assert (indices == indices[:, :1]).all() and (layer_seeds == layer_seeds[:, :1]).all()
    counts = np.bincount(indices[:, 0], minlength=16)
    assert ((counts - 25)**2 / 25).sum() < 37.7  # 15 degrees of freedom: 1 in 1,000
    assert len({tuple(one) for one in layer_seeds[:, 0]}) == 400


def test_six_layers_of_one_draw_move_a_picture_six_times_one_way(monkeypatch):
    """Translation by 40 px becomes one by 240, to the one side or the other: the signs never cancel each other."""
    monkeypatch.setattr(randaugment, "OPERATIONS",
                        {name: randaugment.OPERATIONS[name] for name in ("TranslateX", "Cutout")})
    monkeypatch.setattr(randaugment, "draw", lambda seed, layers, same: (
        tf.zeros([layers], tf.int32), original(seed, layers, same)[1]))
    columns = np.broadcast_to(np.arange(300) % 128, (300, 300))
    image = tf.constant(np.stack([columns] * 3, axis=-1).astype(np.uint8))
    augment = tf.function(lambda number: randaugment.randaugment(image, seeds.example_seed(1, 0, number), 6, 4.0, same=True))
    moved = [augment(tf.constant(number)).numpy()[0, :, 0] for number in range(40)]
    left, right = np.full(300, 128), np.full(300, 128)
    left[:60], right[240:] = columns[0, 240:], columns[0, :60]
    ways = [0 if np.array_equal(one, left) else 1 if np.array_equal(one, right) else None for one in moved]
    assert set(ways) == {0, 1} and 10 <= sum(ways) <= 30


def test_one_draw_cuts_out_on_the_diagonal():
    cut = randaugment.operations(same=True)["Cutout"]
    image = tf.constant(np.zeros((64, 64, 3), np.uint8))
    for number in range(20):
        rows, columns = np.nonzero(cut.apply(image, 3, tf.constant([number, 4])).numpy()[..., 0])
        assert rows.min() == columns.min() and rows.max() == columns.max()


@pytest.mark.parametrize("side", [32, 224, 300])
@pytest.mark.parametrize("factor", [0.46, 0.82, 1.36])
def test_the_references_contrast(side, factor):
    """Its mean is the sum of the gray histogram over 256, clipped: written out in NumPy."""
    pixels = picture(side, side)
    gray = pixels @ np.array([0.299, 0.587, 0.114])
    histogram, _ = np.histogram(gray, bins=256, range=(0, 256))
    mean = np.uint8(np.clip(histogram.sum() / 256, 0, 255))
    expected = np.clip(mean + factor * (pixels.astype(np.float32) - mean), 0, 255).astype(np.uint8)
    got = randaugment.operations(tf_contrast=True)["Contrast"].apply(tf.constant(pixels), factor, SEED).numpy()
    assert np.abs(got.astype(int) - expected).max() <= 1
    assert mean == {32: 4, 224: 196, 300: 255}[side]
    if factor < 1:
        assert got.mean() > pixels.mean() if side > 200 else got.mean() < pixels.mean()


def test_options_change_what_they_say_alone():
    plain, other = randaugment.operations(), randaugment.operations(same=True, tf_contrast=True)
    assert list(plain) == list(other) == NAMES and plain == randaugment.OPERATIONS
    assert [name for name in NAMES if plain[name] != other[name]] == ["Contrast", "Cutout"]
    image, drawn = tf.constant(picture(40, 40)), 0
    for number in range(32):  # by --randaugment itself
        seed = tf.constant([number, 5])
        parsed = [randaugment.parse(text) for text in ("1:4:same", "1:4:same:tf_contrast")]
        one, two = (randaugment.randaugment(image, seed, *options).numpy() for options in parsed)
        is_contrast = NAMES[int(randaugment.draw(seed, 1, True)[0][0])] == "Contrast"
        drawn += is_contrast
        assert np.array_equal(one, two) is not is_contrast
    assert drawn


def test_parse():
    assert randaugment.parse("6:4") == (6, 4.0, False, False)
    assert randaugment.parse("2:2.5") == (2, 2.5, False, False)
    assert randaugment.parse("6:4:same") == (6, 4.0, True, False)
    assert randaugment.parse("6:4:tf_contrast:same") == randaugment.parse("6:4:same:tf_contrast") == (6, 4.0, True, True)
    for text in ("6:4:", "6:4:some", "6:4:same:same", "6:4:layers", "same", "6:same:4"):
        with pytest.raises(UserError, match="LAYERS:MAGNITUDE .*same and tf_contrast may stand"):
            randaugment.parse(text)
    for text in ("", "6", "6:", ":4", "0:4", "-1:4", "1.5:4", "2:-1", "2:31", "2:nan", "2:inf", "2:4:6", "a:b"):
        with pytest.raises(UserError, match="randaugment .*LAYERS:MAGNITUDE"):
            randaugment.parse(text)
