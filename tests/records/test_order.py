"""The order of reading: every example once, entered at any place, whatever the shards are like."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from pipeline.records import class_balance, dataset, order as orders, schema

SIZES = (9, 4, 0, 11, 1, 7, 5, 8)  # records of the shards
SET_ASIDE = {0: (2, 3), 5: (30,)}  # rows, by shard


def write_shards(folder, sizes=SIZES, compression=(), set_aside=None, record=b"x" * 100):
    """A part of records that tell their row (in 'image'), as adopted ones lie: rows go by position."""
    shards, row = [], 0
    for number, size in enumerate(sizes):
        path, kind = folder / f"{number}.tfrecord", "GZIP" if number in compression else ""
        with tf.io.TFRecordWriter(str(path), kind) as writer:
            for position in range(size):
                value = b"%d" % (row + position) + record
                feature = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])),
                           "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[(row + position) % 2]))}
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        shards.append(schema.Shard(path.name, "train", None, row, size, path.stat().st_size, "",
                                   tuple((set_aside or {}).get(number, ())), kind))
        row += size
    manifest = schema.Manifest("turtle_recall", "turtle_recall_solution", False, (), tuple(shards), 0, 0, {})
    return dataset.Dataset(str(folder), manifest).part("train")


def rows(order, count, start=0):
    """[(epoch, row, copy)]; the row that is told is the one that stands in the record."""
    found = []
    for one in order.records(start).take(count).as_numpy_iterator():
        image = tf.train.Example.FromString(one["record"]).features.feature["image"].bytes_list.value[0]
        assert int(image.rstrip(b"x")) == one["row"]
        found.append((int(one["epoch"]), int(one["row"]), int(one.get("copy", 0))))
    return found


@pytest.fixture(params=[SET_ASIDE])
def part(request, tmp_path, monkeypatch):
    """Groups of three shards, the last one of two, and windows of some six records."""
    monkeypatch.setattr(orders, "GROUP", 3)
    monkeypatch.setattr(orders, "WINDOW_RECORDS", 6)
    return write_shards(tmp_path, compression=(1, 3), set_aside=request.param)


@pytest.mark.parametrize("part", [None, SET_ASIDE], indirect=True, ids=["whole", "set_aside"])
def test_every_example_once_an_epoch_from_any_place(part):
    order = orders.Order(part, 5, part.size)
    wanted = sorted(set(range(sum(SIZES))) - {row for shard in part.shards for row in shard.set_aside})
    whole = rows(order, 3 * part.size + 9)
    for epoch in range(3):
        shown = whole[epoch * part.size:(epoch + 1) * part.size]
        assert sorted(row for one, row, _ in shown if one == epoch) == wanted
    assert len({tuple(row for _, row, _ in whole[epoch * part.size:][:part.size]) for epoch in range(3)}) == 3
    for start in (1, part.size // 2, part.size, 2 * part.size - 4):
        assert rows(order, 9, start) == whole[start:start + 9]


def test_an_epoch_may_be_shorter_and_others_are_left_out_each_time(part):
    order = orders.Order(part, 5, part.size - 5)
    whole = rows(order, 8 * (part.size - 5))
    counts = collections.Counter(row for _, row, _ in whole)
    assert len(counts) == part.size and max(counts.values()) <= 8 and len(set(whole)) == len(whole)
    assert [one for one, _, _ in whole] == [epoch for epoch in range(8) for _ in range(part.size - 5)]
    assert rows(order, 20, part.size - 9) == whole[part.size - 9:part.size + 11]


def test_copies_of_a_balance_are_entered_too(part):
    kept = np.array([row for shard in part.shards for row in range(shard.first_row, shard.first_row + shard.records)
                     if row not in shard.set_aside])
    # Rare: the rows 0 to 4. Each is wanted about three times as often as another.
    weights = np.where(kept < 5, 3.0, 1.0)
    bounds = np.concatenate([[0], np.cumsum(weights)]) * len(kept) / weights.sum()
    bounds[-1] = len(kept)
    balance = class_balance.ClassBalance(tf.zeros([len(kept)], tf.float64), tf.constant(kept - kept.min()),
                                         tf.constant(bounds), int(kept.min()), int(kept.max()))
    order = orders.Order(part, 5, part.size, balance)
    whole = rows(order, 2 * part.size)
    for epoch in range(2):
        shown = whole[epoch * part.size:(epoch + 1) * part.size]
        assert len(set(shown)) == part.size
        for row, times in collections.Counter(row for _, row, _ in shown).items():
            assert sorted(copy for _, one, copy in shown if one == row) == list(range(times))
    for start in (3, part.size + 6):
        assert rows(order, 9, start) == whole[start:start + 9]


def test_each_host_has_shards_of_its_own_and_epochs_of_one_length(part):
    drawn = []
    for host in range(2):
        order = orders.Order(part, 5, part.size // 2, host=host, hosts=2)
        whole = rows(order, 4 * (part.size // 2))
        assert [one for one, _, _ in whole] == [epoch for epoch in range(4) for _ in range(part.size // 2)]
        assert rows(order, 30, part.size // 2 - 7) == whole[part.size // 2 - 7:][:30]
        drawn.append(whole)
    for epoch in range(4):
        ours, theirs = ({row for one, row, _ in whole if one == epoch} for whole in drawn)
        assert ours and theirs and not ours & theirs


def test_a_window_holds_so_many_bytes(tmp_path, monkeypatch):
    part = write_shards(tmp_path, (40, 40), record=b"x" * 1000)
    mean = sum(shard.bytes for shard in part.shards) / 80
    monkeypatch.setattr(orders, "WINDOW_BYTES", 20 * mean)
    assert orders.window_size(part) in (19, 20)
    monkeypatch.setattr(orders, "WINDOW_BYTES", 1e12)
    assert orders.window_size(part) == 80  # never more than there are


def test_neighbours_come_from_any_shard(tmp_path, monkeypatch):
    """Even where windows are so small that they mix little themselves: shards are merged at random."""
    monkeypatch.setattr(orders, "WINDOW_RECORDS", 20)
    part = write_shards(tmp_path, (100,) * 16)
    shown = np.array([row for _, row, _ in rows(orders.Order(part, 1, part.size), part.size)]) // 100
    same = (shown[1:] == shown[:-1]).mean()
    assert abs(same - 1 / 16) < 4 * np.sqrt(1 / 16 * 15 / 16 / 1600)


def test_what_an_epoch_leaves_out_is_not_always_the_end_of_a_shard(tmp_path):
    part = write_shards(tmp_path, (20,))
    whole = rows(orders.Order(part, 5, 15), 60)
    left_out = [set(range(20)) - {row for one, row, _ in whole if one == epoch} for epoch in range(4)]
    assert all(len(one) == 5 for one in left_out) and any(one != set(range(15, 20)) for one in left_out)
    assert len(set.union(*left_out)) > 8
