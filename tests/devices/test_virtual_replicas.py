"""What depends on the number of replicas, on logical CPUs: steps, scores, files, predictions are those of one device."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from conftest import ROOT
from pipeline.answers import predictions
from raw_data import assert_one_line_mistake, run_command
import two_steps


def on_one_device(model, **changes):
    return two_steps.results(tf.distribute.get_strategy(), model, **changes)


def on_replicas(replicas, folder, model, *cases):
    """The results of each case's changes, by a process of their own."""
    lines = [json.dumps({"name": str(number), "model": model, **changes}) for number, changes in enumerate(cases)]
    done = subprocess.run([sys.executable, "tests/two_steps.py", str(replicas), str(folder), *lines], cwd=ROOT,
                          capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return [np.load(folder / f"{number}_{replicas}.npz") for number in range(len(cases))]


def assert_same(ones, others, atol):
    assert set(ones) == set(others)
    for name in ones:
        np.testing.assert_allclose(ones[name], others[name], rtol=0, atol=atol, err_msg=name)


# No BatchNorm: losses, scores (11 of the 16 pictures that are validated count), weights and their averages are the same.
@pytest.mark.parametrize("replicas, changes", [
    (2, {"optimizer": "sgd", "clip_norm": 0.1, "layer_decay": 0.8, "ema": 0.5}),
    pytest.param(8, {"optimizer": "sgd", "clip_norm": 0.1, "layer_decay": 0.8, "ema": 0.5}, marks=pytest.mark.slow),
    pytest.param(4, {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "clip_norm": 0.1, "accumulate": 2,
                     "loss": "focal"}, marks=pytest.mark.slow),
    pytest.param(4, {"optimizer": "lamb", "clip_norm": 0.1, "steps_per_execution": 2}, marks=pytest.mark.slow),
])
def test_steps_are_those_of_one_device(replicas, changes, tmp_path):
    several, = on_replicas(replicas, tmp_path, "kecam/BeitTiny", changes)
    assert_same(on_one_device("kecam/BeitTiny", **changes), several, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["keras/efficientnet-tiny", "efficientnet/tiny", "kecam/EfficientNetV2Tiny",
                                   "image_classifiers/senet-tiny"])
def test_batch_norm_is_each_replicas_own_unless_synchronized(model, tmp_path):
    how = {"optimizer": "sgd", "lr": 1e-3}
    # Keras' fused BatchNorm moves its variance towards n / (n − 1) times the batch's, as the synchronized one does not.
    one_device = on_one_device(model, **how, fused=False)
    synchronized, own = on_replicas(2, tmp_path, model, {**how, "sync_batch_norm": True}, how)
    assert_same(one_device, synchronized, 1e-4)
    moved = [name for name in own if "moving_variance" in name]
    assert moved and max(np.abs(own[name] - one_device[name]).max() for name in moved) > 1e-3


# Whole commands

FLAGS = ("--model=kecam/EfficientNetV2Tiny", "--optimizer=adam", "--batch_size=16", "--ema=0.5", "--randaugment=2:4")
STAGE = "--stage=name=all,epochs={},size=32,lr=0.01"


def command(script, *flags):
    done = run_command(script, *flags, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def trained(tiny_data, tmp_path_factory):
    """A run of one epoch on four replicas (that of eight takes three minutes to trace), and what it logged."""
    folder = tmp_path_factory.mktemp("four") / "model"
    told = command("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={folder}", *FLAGS,
                   STAGE.format(1), "--virtual_replicas=4")
    return folder, told


def predicted(data, model_dir, out, *flags):
    command("predict.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}", "--split=val", f"--out={out}", *flags)
    found = predictions.Predictions(str(out))
    return dict(zip(found.ids, found.rows(np.arange(len(found.ids)))))


@pytest.mark.slow
def test_a_checkpoint_of_four_replicas_serves_one_device(trained, tiny_data, tmp_path):
    model_dir, told = trained
    assert "MirroredStrategy: 4 replica(s) on CPU, 1 host(s); batch 16, of which each replica sees 4" in told
    one = predicted(tiny_data, model_dir, tmp_path / "one", "--batch_size=4")
    four = predicted(tiny_data, model_dir, tmp_path / "four", "--batch_size=8", "--virtual_replicas=4")
    assert len(one) == len(four) == 11  # N in is N out, though neither 4 nor 8 divides it
    assert one.keys() == four.keys()
    for name, logs in one.items():
        np.testing.assert_allclose(logs, four[name], atol=2e-3)  # float16 logs
    # What the four replicas were validated with is what one device predicts.
    log_loss = -np.mean([logs[int(name) % 3] for name, logs in one.items()])
    history = pd.read_csv(model_dir / "stage_1_all" / "history.csv")
    assert log_loss == pytest.approx(history["val_loss"].iloc[-1], abs=2e-3)


@pytest.mark.slow
def test_one_device_goes_on_where_four_replicas_stopped(trained, tiny_data):
    model_dir, _ = trained
    (model_dir / "stage_1_all" / "DONE").unlink()
    (model_dir / "run.json").unlink()
    told = command("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={model_dir}", *FLAGS,
                   STAGE.format(2))
    assert "going on after epoch 1" in told
    assert list(pd.read_csv(model_dir / "stage_1_all" / "history.csv")["epoch"]) == [0, 1]


# Mistakes

@pytest.mark.parametrize("flags, words", [
    (("--virtual_replicas=3", "--batch_size=16"), ("--batch_size=16", "3 replica(s)")),
    (("--virtual_replicas=2", "--jit=on"), ("--virtual_replicas", "--jit")),
])
def test_mistakes_end_with_one_line(flags, words, tiny_data, tmp_path):
    done = run_command("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m", *FLAGS,
                       STAGE.format(1), *flags)
    assert_one_line_mistake(done, *words)
    assert not (tmp_path / "m").exists()
