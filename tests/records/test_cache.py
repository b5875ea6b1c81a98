"""--cache: the same pictures in the same order with and without, and shards that are opened once."""

import os

import numpy as np
import pytest
import tensorflow as tf

from pipeline.records import cache as caches, input as inputs
import tiny_records


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_records.make_three_shards(tmp_path_factory.mktemp("cache"))


def flat(batches):
    return [np.asarray(one) for batch in batches for one in tf.nest.flatten(batch)]


@pytest.mark.parametrize("balance, host", [("none", inputs.Host()), ("sqrt", inputs.Host()), ("none", inputs.Host(1, 2))])
def test_batches_are_the_same_and_shards_are_opened_once(data, monkeypatch, balance, host):
    """Of 24 pictures: from the middle of the first epoch to that of the sixth, the last ones without the files."""
    monkeypatch.setattr(inputs, "BLOCK_LENGTH", 2)
    part = data.part("train")
    assert len(part.shards) == 3

    def batches(cache, count):
        made = inputs.train_batches(part, inputs.TrainPictures(32, "inception", "", "squash"), 8, 3, start_step=2,
                                    class_balance=balance, host=host, cache=cache)
        return flat(made.take(count))

    cache, expected = caches.RecordCache(), batches(None, 15)
    assert len({one.tobytes() for one in expected if one.ndim == 4}) > 8  # a host with few shards reads one twice an epoch
    for one, other in zip(expected, batches(cache, 15), strict=True):
        np.testing.assert_array_equal(one, other)
    moved = [(path, f"{path}.away") for path in part.paths]
    for path, away in moved:
        os.rename(path, away)
    try:
        for one, other in zip(expected, batches(cache, 15), strict=True):
            np.testing.assert_array_equal(one, other)
    finally:
        for path, away in moved:
            os.rename(away, path)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_shard_that_was_not_read_to_its_end_is_read_again(tmp_path, compression):
    path, records = str(tmp_path / "shard"), [bytes([number]) * (number + 1) for number in range(6)]
    with tf.io.TFRecordWriter(path, compression) as writer:
        for record in records:
            writer.write(record)
    cache = caches.RecordCache()
    made = tf.data.Dataset.from_tensors(tf.constant(40, tf.int64)).interleave(
        lambda row: cache.records(lambda: tf.data.TFRecordDataset(path, compression), row, tf.constant(6, tf.int64)))

    def read(count):
        return [(int(row), record.numpy()) for row, record in made.take(count)]

    expected = [(40 + number, record) for number, record in enumerate(records)]
    assert made.element_spec == (tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string))
    assert read(5) == expected[:5]
    os.rename(path, tmp_path / "away")
    with pytest.raises(tf.errors.NotFoundError):
        read(6)
    os.rename(tmp_path / "away", path)
    assert read(6) == expected
    os.remove(path)
    assert read(6) == expected


def test_what_fits(data, caplog):
    part = data.part("train")
    size = sum(os.path.getsize(path) for path in part.paths)
    assert caches.encoded_bytes(part) == size
    caplog.set_level("INFO", logger="absl")
    assert caches.make(part, "none", 0) is None and not caplog.records
    assert caches.make(part, "memory", 2 * size - 2) is None
    assert "--cache=memory: nothing is kept: the shards have 0.00" in caplog.text and "half of --ram_budget" in caplog.text
    cache = caches.make(part, "memory", 2 * size)
    assert cache and caches.make(part, "memory", 0) is cache  # of a run's next stage
    assert caches.left(2 * size, part) == size and caches.left(0, part) == 0


def test_the_budget_of_buffers(data):
    def options(**how):
        made = inputs.train_batches(data.part("train"), inputs.TrainPictures(32, "inception", "", "squash"), 8, 3, **how)
        return made.options()

    assert options(ram_budget=3 * caches.GIB).autotune.ram_budget == 3 << 30
    assert options().autotune.ram_budget is None
