"""How long a stage is: parts of epochs, and validations more or less often than once an epoch."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.models import classifier as classifiers
from pipeline.runs import run as runs
from pipeline.training import callbacks, train
from training_runs import run, stage

# 50 pictures in batches of 10: five steps an epoch.


@pytest.fixture(autouse=True)
def float32_policy():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("epochs, validate_every, steps_per_snapshot, steps, ends", [
    (3, 1, 5, 15, [1, 2, 3]),
    (0.4, 1, 5, 2, [0.4]),
    (2.6, 1, 5, 13, [1, 2, 2.6]),
    (2, 0.4, 2, 10, [0.4, 0.8, 1.2, 1.6, 2]),
    (1, 0.4, 2, 5, [0.4, 0.8, 1]),
    (3, 0.5, 2, 12, [0.5, 1, 1.5, 2, 2.5, 3]),  # 2.5 steps can't be: an epoch is two halves of 2
    (4, 2, 10, 20, [2, 4]),
    (0.01, 1, 5, 1, [0.01]),
    (1, 0.01, 1, 5, [0.2, 0.4, 0.6, 0.8, 1]),
])
def test_snapshots_of_a_stage(tiny_data, tmp_path, epochs, validate_every, steps_per_snapshot, steps, ends):
    one = stage(epochs=epochs, validate_every=validate_every)
    plan = runs.plan_stage(run(tiny_data, tmp_path, one), one, tiny_data)
    assert (plan.steps_per_snapshot, plan.steps, plan.total_steps) == (steps_per_snapshot, steps, steps)
    assert plan.steps_per_snapshot * (plan.snapshots - 1) < plan.steps <= plan.steps_per_snapshot * plan.snapshots
    np.testing.assert_allclose([plan.epochs_after(number + 1) for number in range(plan.snapshots)], ends)
    assert all(plan.has_snapshot_after(end) for end in ends)
    assert not plan.has_snapshot_after(epochs + validate_every)
    assert not plan.has_snapshot_after(epochs - 0.37 * plan.validate_every)


@pytest.mark.parametrize("max_steps, steps_per_snapshot, snapshots", [(2, 2, 1), (5, 5, 1), (12, 5, 3), (99, 5, 3)])
def test_a_trial_is_cut_to_its_steps(tiny_data, tmp_path, max_steps, steps_per_snapshot, snapshots):
    one = stage(epochs=3)
    plan = runs.plan_stage(run(tiny_data, tmp_path, one, max_steps=max_steps), one, tiny_data)
    assert (plan.steps, plan.total_steps) == (min(max_steps, 15), 15)
    assert (plan.steps_per_snapshot, plan.snapshots) == (steps_per_snapshot, snapshots)


@pytest.mark.parametrize("epochs, min_steps, expected", [(3, 0, 3), (3, 15, 3), (3, 16, 4), (0.4, 3, 1), (2.6, 13, 2.6), (1, 99, 20)])
def test_a_stage_of_few_steps_has_as_many_whole_epochs_as_make_them_up(tiny_data, tmp_path, epochs, min_steps, expected):
    one = stage(epochs=epochs, min_steps=min_steps)
    plan = runs.plan_stage(run(tiny_data, tmp_path, one), one, tiny_data)
    assert plan.epochs == expected and plan.total_steps == round(expected * 5) >= min_steps
    assert ("min_steps" in run(tiny_data, tmp_path, one).identity()["stages"]["all"]) == (min_steps > 0)


def weights_at_the_end(folder):
    model = classifiers.build("kecam/EfficientNetV2Tiny", 32, 3).model
    path = tf.train.latest_checkpoint(str(folder / "stage_1_all" / "last"))
    tf.train.Checkpoint(model=model).read(path).assert_existing_objects_matched().expect_partial()
    return model.get_weights()


class Killed(Exception):
    """Stands for a process that is killed."""


def test_a_shorter_last_snapshot_and_an_interruption_change_no_step(tiny_data, tmp_path, monkeypatch, capsys):
    # Steps alone and in pairs are rounded in other orders. SGD's are as large as what it rounds, where Adam, of a gradient that is
    # rounding alone, makes a whole step.
    halves = {"epochs": 1.6, "lr_schedule": "cosine", "randaugment": "1:4", "optimizer": "sgd", "lr": 0.003}
    log_rate = callbacks.LogLearningRate.on_epoch_end

    def killed_in_the_last(self, epoch, logs=None):
        if epoch == 2:
            raise Killed
        log_rate(self, epoch, logs)

    often = run(tiny_data, tmp_path / "often", stage(validate_every=0.6, **halves), steps_per_execution=2)
    monkeypatch.setattr(callbacks.LogLearningRate, "on_epoch_end", killed_in_the_last)
    with pytest.raises(Killed):
        train.run_training(often)
    monkeypatch.undo()
    train.run_training(often)
    assert "epoch 0.6/1.6" in capsys.readouterr().out
    train.run_training(run(tiny_data, tmp_path / "once", stage(validate_every=1.6, **halves)))
    for one, other in zip(weights_at_the_end(tmp_path / "often"), weights_at_the_end(tmp_path / "once")):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert len(pd.read_csv(tmp_path / "often" / "stage_1_all" / "history.csv")) == 3  # 3, 3 and 2 steps
    for folder, best in (("often", {0.6, 1.2, 1.6}), ("once", {1.6})):
        done = json.loads((tmp_path / folder / "stage_1_all" / "DONE").read_text())
        assert (done["epochs"], done["steps"]) == (1.6, 8) and done["best_epoch"] in best
    found, = runs.with_epochs_of(str(tmp_path / "often"), [stage(epochs=7)])
    assert found.epochs in {0.6, 1.2, 1.6}


def test_patience_counts_validations(tiny_data, tmp_path):
    # At this rate none is better by MIN_DELTA than the first.
    slow = {"epochs": 3, "train": "head", "lr": 1e-7, "validate_every": 0.4, "early_stop": 2}
    train.run_training(run(tiny_data, tmp_path, stage(**slow)))
    done = json.loads((tmp_path / "stage_1_all" / "DONE").read_text())
    assert (done["epochs"], done["steps"]) == (pytest.approx(1.2), 6)


@pytest.mark.parametrize("keep_epochs, validate_every, told", [
    ("1:4", 1.0, "keep_epochs=1:4: it has no checkpoint after epoch 4, but every 1 .* up to 3"),
    ("1.5", 1.0, "after epoch 1.5"), ("1", 2.0, "after epoch 1, but every 2"),
])
def test_epochs_that_will_have_no_checkpoint(keep_epochs, validate_every, told, tiny_data, tmp_path):
    with pytest.raises(UserError, match=told):
        train.run_training(run(tiny_data, tmp_path / "m", stage(epochs=3, keep_epochs=keep_epochs,
                                                                validate_every=validate_every)))
    assert not (tmp_path / "m").exists()
