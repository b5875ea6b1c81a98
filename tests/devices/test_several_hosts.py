"""Two processes of this machine as two hosts, by TF_CONFIG: what each reads, and that together they are one run."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.answers import predictions
from pipeline.devices import hosts
from pipeline.errors import UserError
from pipeline.models import classifier as classifiers
from pipeline.records import input as inputs
from pipeline.runs import checkpoint
from raw_data import run_command
import tiny_records
import two_hosts

PLAIN = inputs.TrainPictures(32, "inception", "", "squash")
HOSTS = [inputs.Host(index, 2) for index in range(2)]


def test_hosts_without_shards_of_their_own_divide_each_batch(tiny_data):
    part = tiny_data.part("train")
    whole = list(inputs.train_batches(part, PLAIN, 8, seed=3, start_step=2).take(7))  # into the second epoch
    halves = [list(inputs.train_batches(part, PLAIN, 8, seed=3, start_step=2, host=host).take(7)) for host in HOSTS]
    for (features, labels), *parts in zip(whole, *halves):
        np.testing.assert_array_equal(features["image"], np.concatenate([one["image"] for one, _ in parts]))
        np.testing.assert_array_equal(labels, np.concatenate([one for _, one in parts]))


def test_hosts_with_shards_of_their_own_read_different_ones(tmp_path):
    part = tiny_records.make_three_shards(tmp_path).part("train")  # 24 examples: one host has two shards, one has one
    assert HOSTS[0].takes_shards(part) and not inputs.Host(0, 4).takes_shards(part)
    drawn = []
    for host in HOSTS:
        examples = list(inputs.train_examples(part, seed=1, host=host).take(20 * 12))
        assert [int(one["epoch"]) for one in examples] == [epoch for epoch in range(20) for _ in range(12)]
        drawn.append(np.array([int(one["row"]) for one in examples]).reshape(20, 12))
        later = inputs.train_examples(part, seed=1, start=30, host=host).take(5)
        assert [int(one["row"]) for one in later] == list(drawn[-1].flatten()[30:35])
    for ours, theirs in zip(*drawn):
        assert not set(ours) & set(theirs) and max(np.unique(np.concatenate([ours, theirs]), return_counts=True)[1]) <= 2
    # Which host has which shards changes by the epoch, so that no picture has more than its share for long.
    counts = np.unique(np.concatenate(drawn), return_counts=True)[1]
    assert len(counts) == 24 and counts.min() > 10 and counts.max() < 30


@pytest.mark.parametrize("batch_size", [2, 4, 8, 16])
def test_together_hosts_validate_every_example_once(tiny_data, batch_size):
    part = tiny_data.part("val")
    whole = list(inputs.validation_batches(part, 32, "squash", batch_size))
    halves = [list(inputs.validation_batches(part, 32, "squash", batch_size, host)) for host in HOSTS]
    assert len(whole) == len(halves[0]) == len(halves[1])
    assert sum(float(tf.reduce_sum(weights)) for half in halves for _, _, weights in half) == 11
    for (features, _, weights), *parts in zip(whole, *halves):
        np.testing.assert_array_equal(weights, np.concatenate([one for _, _, one in parts]))
        shown = np.concatenate([one["image"] for one, _, _ in parts])
        np.testing.assert_array_equal(features["image"][weights > 0], shown[weights > 0])


# Whole runs

def flags_of(data, model_dir, model, *more):
    return (f"--data_dir={data.directory}", f"--model_dir={model_dir}", f"--model={model}", "--optimizer=sgd",
            "--batch_size=8", *more)


def weights_of(stage_dir, model):
    built = classifiers.build(model, 32, 3)
    checkpoint.load(checkpoint.find(str(stage_dir)), built)
    return built.model.get_weights()


STAGE = "--stage=name={},epochs={},size=32,lr=0.01"


@pytest.mark.slow
def test_two_hosts_train_what_one_trains(tiny_data, tmp_path):
    flags = (STAGE.format("all", 1), "--max_steps=2", "--clip_norm=0.5", "--ema=0.5")
    told = two_hosts.train(*flags_of(tiny_data, tmp_path / "two", "kecam/BeitTiny", *flags))
    assert "MultiWorkerMirroredStrategy: 2 replica(s) on CPU, 2 host(s); batch 8, of which each replica sees 4" in told[0]
    assert "fewer than hosts" in told[1]
    done = run_command("multi_stage_train.py", *flags_of(tiny_data, tmp_path / "one", "kecam/BeitTiny", *flags))
    assert done.returncode == 0, done.stderr
    two, one = (pd.read_csv(tmp_path / name / "stage_1_all" / "history.csv") for name in ("two", "one"))
    assert list(two["epoch"]) == [0] and sorted(two) == sorted(one)
    np.testing.assert_allclose(two[sorted(two)], one[sorted(one)], rtol=1e-5)
    for ours, theirs in zip(*(weights_of(tmp_path / name / "stage_1_all", "kecam/BeitTiny") for name in ("two", "one"))):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_hosts_go_through_stages_and_on_where_they_stopped(tiny_data, tmp_path):
    model = "kecam/EfficientNetV2Tiny"
    two_hosts.train(*flags_of(tiny_data, tmp_path / "m", model, STAGE.format("head", 1), STAGE.format("all", 1),
                               "--keep_epochs=1"))
    last = tmp_path / "m" / "stage_2_all"
    assert (last / "kept" / "epoch-1.index").exists() and (last / "DONE").exists()
    (last / "DONE").unlink()
    (tmp_path / "m" / "run.json").unlink()
    told = two_hosts.train(*flags_of(tiny_data, tmp_path / "m", model, STAGE.format("head", 1), STAGE.format("all", 2)))
    assert all("going on after epoch 1" in one for one in told)
    assert list(pd.read_csv(last / "history.csv")["epoch"]) == [0, 1]
    done = run_command("predict.py", f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m", "--split=val",
                       f"--out={tmp_path}/val")
    assert done.returncode == 0, done.stderr
    assert np.isfinite(predictions.Predictions(str(tmp_path / "val")).rows(np.arange(11))).all()


def test_predict_works_on_one_host(monkeypatch):
    monkeypatch.setattr(hosts, "count", lambda strategy: 2)
    with pytest.raises(UserError, match="predict.py works on one host: unset TF_CONFIG"):
        hosts.require_one(tf.distribute.get_strategy(), "predict.py")
