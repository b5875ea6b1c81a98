"""--augment_on=device: what the device makes of a batch is what the host makes of it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pipeline.ops import mixing
from pipeline.preflight import lowering
from pipeline.records import device_pictures, input as inputs
from pipeline.records.training_picture import TrainPictures

BATCH = 10
LATER = {"jitter": 0.3, "pca_noise": 0.1, "random_erasing": 0.5, "grid_mask": 0.1}
PLAIN = TrainPictures(32, "inception", "", "squash")
PICTURES = dataclasses.replace(PLAIN, **LATER)
MIXES = [mixing.Alphas(), mixing.Alphas(mixup=0.4), mixing.Alphas(mixup=0.4, cutmix=1.0), mixing.Alphas(cutmix=1.0),
         mixing.Alphas(mixup=0.4, draw="picture")]


def batches(part, pictures, mix, count=3):
    made = iter(inputs.train_batches(part, pictures, BATCH, seed=7, mix=mix))
    return [next(made) for _ in range(count)]


def on_device(pictures):
    return dataclasses.replace(pictures, augment_on="device")


def finish(pictures, jit=True):
    return tf.function(lambda features, labels: device_pictures.finish(features, labels, pictures), jit_compile=jit)


def assert_same(got, expected, atol=1):
    features, labels = got
    assert set(features) == set(expected[0])
    image = np.abs(features["image"].numpy().astype(int) - expected[0]["image"])
    assert features["image"].dtype == tf.uint8 and image.max() <= atol
    assert type(labels) is type(expected[1])
    for one, other in zip(tf.nest.flatten(labels), tf.nest.flatten(expected[1])):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("pictures, mix", [(PICTURES, MIXES[0]), *((PLAIN, mix) for mix in MIXES[1:])])
def test_the_device_does_what_the_host_does(tiny_data, pictures, mix):
    """All but RandAugment, exactly but for rounding; each mix that is drawn for a batch, its labels too."""
    part = tiny_data.part("train")
    raw = batches(part, on_device(pictures), mix)
    own = finish(pictures)
    for batch, expected in zip(raw, batches(part, pictures, mix)):
        assert np.any(batch[0]["image"] != expected[0]["image"])
        assert_same(own(*batch), expected)


def test_uncompiled_and_several_labels(tiny_multi_label_data):
    part, mix = tiny_multi_label_data.part("train"), mixing.Alphas(mixup=0.4, cutmix=1.0)
    for batch, expected in zip(batches(part, on_device(PICTURES), mix, 2), batches(part, PICTURES, mix, 2)):
        assert_same(finish(PICTURES, jit=False)(*batch), expected)


@pytest.mark.parametrize("changes", [{"augment": "eval"}, dict.fromkeys(LATER, 0.0)])
def test_nothing_is_drawn_where_nothing_is_asked(tiny_data, changes):
    pictures = dataclasses.replace(PICTURES, **changes)
    (batch,), (expected,) = (batches(tiny_data.part("train"), one, mixing.Alphas(), 1) for one in (on_device(pictures), pictures))
    assert set(batch[0]) == {"image", "place"}
    assert_same(device_pictures.finish(*batch, pictures), expected, atol=0)


@pytest.mark.parametrize("mix", [mixing.Alphas(mixup=0.4), mixing.Alphas(mixup=0.4, draw="picture")])
def test_a_replica_mixes_within_its_part(tiny_data, mix):
    features, labels = batches(tiny_data.part("train"), on_device(PLAIN), mix, 1)[0]
    for half in (slice(0, BATCH // 2), slice(BATCH // 2, BATCH)):
        part = tf.nest.map_structure(lambda whole: whole[half], (features, labels))
        image, mixed = device_pictures.finish(*part, PLAIN)
        assert isinstance(mixed, mixing.MixedLabels)
        own = part[0]["image"].numpy().astype(float)
        for number, (share, label) in enumerate(zip(mixed.share.numpy(), mixed.partner.numpy())):
            expected = share * own[number] + (1 - share) * own
            apart = np.abs(image["image"][number].numpy() - expected).max(axis=(1, 2, 3))
            assert np.any((apart <= 0.51) & (labels[half] == label))


@pytest.mark.parametrize("mix", MIXES[::2])
def test_specs_are_those_of_a_batch(tiny_data, mix):
    pictures = dataclasses.replace(PICTURES, randaugment="2:4")
    batch = inputs.train_batches(tiny_data.part("train"), on_device(pictures), BATCH, seed=0, mix=mix).element_spec[0]
    assert device_pictures.drawn_specs(pictures, mix, BATCH) == batch[device_pictures.DRAWN]


def test_the_device_is_given_nothing_of_the_host(tiny_data):
    """It is a program for a TPU: no host calls, all shapes known; and it is the same whenever it is traced."""
    pictures = dataclasses.replace(PICTURES, randaugment="1:4")
    spec = inputs.train_batches(tiny_data.part("train"), on_device(pictures), BATCH, 0, mix=MIXES[2]).element_spec
    programs = [lowering.lower(lambda features, labels: device_pictures.finish(features, labels, pictures), list(spec))
                for _ in range(2)]
    assert programs[0] == programs[1]
