"""Plateaus and early stopping: against Keras' callbacks left to themselves, and over interruptions."""

import json
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.runs import checkpoint, run as runs
from pipeline.training import callbacks, patience, train
from training_runs import run, stage

# At this rate no epoch is better by MIN_DELTA, so the counters run as by hand: epoch 1 is the best, and after every
# second epoch without a better one the rate is halved; the fifth of them ends the stage.
SLOW = {"epochs": 9, "train": "head", "lr": 1e-6, "lr_schedule": "plateau:0.5:2", "early_stop": 5}
RATES = [1e-6, 1e-6, 1e-6, 5e-7, 5e-7, 2.5e-7]


@pytest.fixture(autouse=True)
def float32_policy():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def played(made, scores, restarts=()):
    """Rates after each epoch, and the epoch that ended it, for the scores of a stage; restarted before `restarts`."""
    optimizer = tf.keras.optimizers.Adam(1.0)
    rates, model = [], None
    for epoch, score in enumerate(scores):
        if model is None or epoch in restarts:
            model = types.SimpleNamespace(optimizer=optimizer, stop_training=False)
            for callback in made:
                callback.set_model(model)
                callback.on_train_begin()
        for callback in made:
            callback.on_epoch_end(epoch, {"val_top5": score})
        rates.append(float(optimizer.learning_rate.numpy()))
        if model.stop_training:
            break
    return rates, epoch


def make(**changes):
    return list(patience.make(stage(lr_schedule="plateau:0.5:2", early_stop=4, monitor="val_top5", **changes)).values())


def keras_own():
    settings = {"monitor": "val_top5", "mode": "max", "min_delta": 1e-4}
    return [tf.keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=2, min_lr=1e-8, **settings),
            tf.keras.callbacks.EarlyStopping(patience=4, **settings)]


@pytest.mark.parametrize("number", range(5))
def test_counts_as_keras_does_also_over_restarts(number):
    scores = np.random.default_rng(number).choice([0.1, 0.10005, 0.2, 0.3], 12).astype(np.float32)
    expected = played(keras_own(), scores)
    assert played(make(), scores) == expected
    assert played(make(), scores, restarts=range(12)) == expected


def test_a_higher_top5_is_better():
    assert [patience.mode(name) for name in ("val_loss", "val_accuracy", "val_top5")] == ["min", "max", "max"]


def test_off_unless_asked_for():
    assert patience.make(stage()) == {}


def assert_ran_out_of_patience(folder):
    history = pd.read_csv(folder / "history.csv")
    np.testing.assert_allclose(history["lr"], RATES, rtol=1e-6)
    assert list(history["epoch"]) == list(range(6))
    assert json.loads((folder / "DONE").read_text())["epochs"] == 6


class Killed(Exception):
    """Stands for a process that is killed."""


@pytest.mark.parametrize("changes", [
    {}, pytest.param({"optimizer": "lamb"}, marks=pytest.mark.slow),
    pytest.param({"precision": "mixed_float16"}, marks=pytest.mark.slow),
    pytest.param({"optimizer": "lamb", "precision": "mixed_float16"}, marks=pytest.mark.slow),
    pytest.param({"optimizer": "sgd", "jit": True}, marks=pytest.mark.slow)])
def test_counters_and_rate_survive_interruptions(changes, tiny_data, tmp_path, monkeypatch):
    of_stage = {**SLOW, **{name: changes[name] for name in changes if name == "optimizer"}}
    whole = run(tiny_data, tmp_path, stage(**of_stage),
                **{name: changes[name] for name in changes if name != "optimizer"})
    log_rate, mark_done = callbacks.LogLearningRate.on_epoch_end, runs.mark_done
    to_kill = [4]  # before that epoch's checkpoint: both wait, and the rate has fallen once

    def sometimes_killed(self, epoch, logs=None):
        if to_kill and epoch == to_kill[0]:
            to_kill.pop(0)
            raise Killed
        log_rate(self, epoch, logs)

    def killed_before_done(*arguments):
        monkeypatch.setattr(runs, "mark_done", mark_done)
        raise Killed

    monkeypatch.setattr(callbacks.LogLearningRate, "on_epoch_end", sometimes_killed)
    monkeypatch.setattr(runs, "mark_done", killed_before_done)
    for _ in range(2):
        with pytest.raises(Killed):
            train.run_training(whole)
    train.run_training(whole)
    assert_ran_out_of_patience(tmp_path / "stage_1_all")


@pytest.mark.parametrize("changes, told", [
    ({"lr_schedule": "platau"}, "unknown lr_schedule 'platau'; known"),
    ({"lr_schedule": "plateau:0.5:4", "warmup_epochs": 1.0}, "stage all: warmup_epochs=1 does not go with"),
    ({"lr_schedule": "triangular:4", "warmup_epochs": 0.5}, "warmup_epochs=0.5 does not go with lr_schedule=triangular:4"),
])
def test_mistakes_are_told(changes, told, tiny_data, tmp_path):
    with pytest.raises(UserError, match=told):
        train.run_training(run(tiny_data, tmp_path / "m", stage(**changes)))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("changes", [{"lr_schedule": "plateau:0.5:4"}, {"early_stop": 8}])
def test_nothing_to_wait_for_where_nothing_is_held_out(changes, tiny_data, tmp_path):
    with pytest.raises(UserError, match="wait for val_accuracy, but nothing is held out"):
        train.run_training(run(tiny_data, tmp_path, stage(monitor="val_accuracy", **changes), train_split="train+val"))


@pytest.mark.parametrize("monitor", ["val_top5", "val_loss"])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_no_improvement(monitor, broken):
    made = list(patience.make(stage(lr_schedule="plateau:0.5:2", early_stop=4, monitor=monitor)).values())
    model = types.SimpleNamespace(optimizer=tf.keras.optimizers.Adam(1.0), stop_training=False)
    for callback in made:
        callback.set_model(model)
        callback.on_train_begin()
    for epoch, score in enumerate([0.5, broken, broken, broken, broken]):
        for callback in made:
            callback.on_epoch_end(epoch, {monitor: score})
    # Two halvings after twice two epochs without a better one, and the fourth of them ends it.
    assert model.stop_training and float(model.optimizer.learning_rate.numpy()) == 0.25
    assert all(callback.best == 0.5 for callback in made)


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_never_better(monitor, broken):
    assert not checkpoint.better(monitor, broken, None) and not checkpoint.better(monitor, broken, 0.5)
    assert checkpoint.better(monitor, 0.5, broken) and checkpoint.better(monitor, 0.5, None)
