"""Class-balanced sampling: expected frequencies, exactly N pictures an epoch, and a resumed run that sees the same."""

import collections
import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from dataset_tools import build
from pipeline.errors import UserError
from pipeline.ops import seeds
from pipeline.records import class_balance, dataset, input as inputs
from pipeline.training import callbacks, run_checks, train
import raw_data
import tiny_records
from training_runs import run, stage

COUNTS = np.array([100, 0, 7, 30, 1])  # a long tail, with a class that has nothing


class LongTail:
    """Stands for a part: rows from 5 to 419 in steps of 3, their classes mixed."""

    def __init__(self, counts=COUNTS):
        self.labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
        self.rows = 5 + 3 * np.arange(len(self.labels))

    def single_labels(self):
        return self.rows, self.labels


def drawn(part, kind, epochs):
    """Copies, int [epochs, examples], in the order of the part's rows."""
    balance = class_balance.make(part, kind)
    draw = tf.function(lambda epoch: balance.copies(seeds.example_seed(7, epoch, -2)))
    tables = np.array([draw(tf.constant(epoch)) for epoch in range(epochs)])
    assert (np.delete(tables, part.rows - part.rows[0], axis=1) == 0).all()  # rows of other parts
    return tables[:, part.rows - part.rows[0]]


@pytest.mark.parametrize("kind, power", [("sqrt", 0.5), ("full", 1.0)])
def test_copies_are_as_frequent_as_the_formula_says(kind, power):
    part = LongTail()
    copies = drawn(part, kind, epochs=400)
    weights = COUNTS[part.labels] ** -power
    expected = weights * len(weights) / weights.sum()
    assert (copies.sum(axis=1) == len(weights)).all()
    assert (np.abs(copies - expected) < 1).all()  # the floor or the ceiling
    # The mean of 400 draws between two neighbouring integers is within 4.5 standard errors.
    np.testing.assert_allclose(copies.mean(axis=0), expected, atol=4.5 * 0.5 / 20)
    shares = np.stack([copies[:, part.labels == one].sum(axis=1) for one in range(len(COUNTS))], axis=1)
    wanted = np.where(COUNTS > 0, COUNTS ** (1 - power), 0)
    assert (np.abs(shares - wanted * len(weights) / wanted.sum()) < 1).all()


def test_examples_of_a_class_are_drawn_independently_of_their_neighbours():
    part = LongTail()
    copies = drawn(part, "full", epochs=400)[:, part.labels == 0]  # each in about a quarter of the epochs
    correlation = np.corrcoef(copies.T)[np.triu_indices(100, 1)]
    assert np.abs(correlation).max() < 0.3 and abs(correlation.mean()) < 0.02


def test_two_million_rows_add_up():
    counts = np.maximum(3000 / np.arange(1, 2001) ** 0.2, 1).astype(int)
    part = LongTail(counts)
    for copies in drawn(part, "sqrt", epochs=2):
        assert copies.sum() == len(part.rows) > 1_000_000 and copies.min() >= 0


@pytest.mark.parametrize("counts, kind, expected", [
    ([60, 30, 10, 0], "none", [60, 30, 10, 1]), ([64, 16, 4, 0], "sqrt", [8, 4, 2, 1]),
    ([9, 1, 0, 5], "full", [1, 1, 1, 1])])
def test_the_prior_is_that_of_the_pictures_shown(counts, kind, expected):
    log_prior = class_balance.log_prior(LongTail(counts), 4, kind)
    assert log_prior.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_prior), np.array(expected) / sum(expected), rtol=1e-6)


KEPT = (30, 15, 5)  # train pictures of each class in the shards


@pytest.fixture(scope="module")
def long_tail(tmp_path_factory):
    """tiny_records, less most train pictures of classes 1 and 2, in two folds."""
    folder = tmp_path_factory.mktemp("tail")
    raw = tiny_records.write_raw(folder / "raw", train=90)
    train = json.loads((raw / "train.json").read_text(encoding="utf-8"))
    kept = {image["id"] for image in train["images"] if image["id"] // 3 < KEPT[image["id"] % 3]}
    train["images"] = [image for image in train["images"] if image["id"] in kept]
    train["annotations"] = [one for one in train["annotations"] if one["image_id"] in kept]
    raw_data.write(raw / "train.json", train)
    build.build("inat2021", str(raw), str(folder / "records"), folds=2)
    return dataset.load(str(folder / "records"))


def seen(part, count, start=0, seed=1):
    examples = inputs.train_examples(part, seed, start, class_balance="sqrt").take(count)
    return [(int(one["epoch"]), int(one["row"]), int(one["copy"])) for one in examples]


def test_an_epoch_holds_the_copies_that_were_drawn(long_tail):
    part = long_tail.part("train")
    rows, labels = part.single_labels()
    label_of = dict(zip(rows, labels))
    shown = seen(part, 150)
    for epoch in range(3):
        copies = [(row, copy) for one, row, copy in shown[50 * epoch:50 * (epoch + 1)] if one == epoch]
        assert len(set(copies)) == 50  # exactly N, none twice
        for row, times in collections.Counter(row for row, _ in copies).items():
            assert sorted(copy for one, copy in copies if one == row) == list(range(times))
        by_class = np.bincount([label_of[row] for row, _ in copies])
        wanted = np.sqrt(KEPT) * 50 / np.sqrt(KEPT).sum()
        assert (np.abs(by_class - wanted) < 1).all()
    orders = {tuple(row for one, row, _ in shown if one == epoch) for epoch in range(3)}
    assert len(orders) == 3


@pytest.mark.parametrize("start", [1, 49, 50, 77])
def test_a_later_start_sees_what_would_have_come(long_tail, start):
    part = long_tail.without_fold("train", 0)
    assert seen(part, 30, start) == seen(part, start + 30)[start:]


def test_the_seed_alone_decides(long_tail):
    part = long_tail.part("train")
    orders = []
    for seed, of_process in ((5, 0), (5, 1), (6, 0)):
        tf.random.set_seed(of_process)
        orders.append(seen(part, 50, seed=seed))
    assert orders[0] == orders[1] != orders[2]


def test_each_copy_is_another_picture(long_tail):
    how = inputs.TrainPictures(32, "inception", "", "squash")
    part = long_tail.part("train")
    rare = [row for row, label in zip(*part.single_labels()) if label == 2]
    batches = inputs.train_batches(part, how, 50, seed=1, class_balance="full")
    (features, labels), = batches.take(1)
    examples = inputs.train_examples(part, 1, class_balance="full").take(50)
    rows = np.array([int(one["row"]) for one in examples])
    assert np.bincount(labels).tolist() in ([17, 17, 16], [17, 16, 17], [16, 17, 17])
    for row in rare:
        pictures = features["image"].numpy()[rows == row]
        assert len({picture.tobytes() for picture in pictures}) == len(pictures) >= 3


def test_without_a_balance_there_are_no_copies(tiny_data):
    """And seeds as they were before there was a balance."""
    examples = inputs.train_examples(tiny_data.part("train"), seed=3).take(10)
    assert all("copy" not in one for one in examples)
    assert seeds.example_seed(3, 1, 7).numpy().tolist() == [-6792612370347318161, 7]


def test_a_part_whose_table_does_not_agree_is_refused(long_tail, tmp_path):
    records = shutil.copytree(long_tail.directory, tmp_path / "records")
    table = (records / "examples.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (records / "examples.csv").write_text("".join(table[:1] + table[2:]), encoding="utf-8")
    with pytest.raises(UserError, match="examples.csv has 49 examples of train, the shards hold 50"):
        dataset.load(str(records)).part("train").single_labels()


@pytest.fixture
def float32_policy():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def test_a_resumed_training_equals_the_uninterrupted_one(long_tail, tmp_path, monkeypatch, float32_policy):
    # The head alone, since the base's dropout keeps a state that no checkpoint holds.
    balanced = stage(train="head", epochs=3, class_balance="sqrt", logit_adjust=1.0)
    train.run_training(run(long_tail, tmp_path / "whole", balanced))
    log_rate = callbacks.LogLearningRate.on_epoch_end

    def interrupted(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        log_rate(self, epoch, logs)

    monkeypatch.setattr(callbacks.LogLearningRate, "on_epoch_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.run_training(run(long_tail, tmp_path / "resumed", balanced))
    monkeypatch.undo()
    train.run_training(run(long_tail, tmp_path / "resumed", balanced))
    histories = [pd.read_csv(tmp_path / name / "stage_1_all" / "history.csv") for name in ("whole", "resumed")]
    pd.testing.assert_frame_equal(*histories, rtol=1e-5)


def test_validation_does_without_the_adjustment(long_tail, tmp_path, float32_policy):
    losses = []
    for tau in (0.0, 1.0):
        train.run_training(run(long_tail, tmp_path / str(tau), stage(train="head", lr=0.0, logit_adjust=tau)))
        losses.append(pd.read_csv(tmp_path / str(tau) / "stage_1_all" / "history.csv").iloc[-1])
    plain, adjusted = losses
    assert adjusted["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-6)
    # At the beginning all classes are about as likely, so the adjusted loss is about the entropy of the prior.
    prior = np.array(KEPT) / sum(KEPT)
    assert plain["loss"] == pytest.approx(np.log(3), abs=0.05)
    assert adjusted["loss"] == pytest.approx(-(prior * np.log(prior)).sum(), abs=0.05)


@pytest.mark.parametrize("changes, told", [
    ({"class_balance": "full", "logit_adjust": 1.0}, "logit_adjust=1 has nothing to adjust"),
    ({"class_balance": "sqrt", "multi_label": True}, "want one label a picture"),
    ({"logit_adjust": 0.5, "multi_label": True}, "want one label a picture")])
def test_what_does_not_go_together_is_told(long_tail, tmp_path, changes, told):
    changes = dict(changes)
    manifest = dataclasses.replace(long_tail.manifest, multi_label=changes.pop("multi_label", False))
    with pytest.raises(UserError, match=told):
        run_checks.check_long_tail(stage(**changes), dataclasses.replace(long_tail, manifest=manifest))
