"""--augment_on=device through training: the step does what the host else does, and what it can't do is told."""

import csv
import json

import pytest

from pipeline.errors import UserError
from pipeline.training import run_checks, train
from raw_data import run_command
from training_runs import run, stage
import two_steps

ALL = {"augment_on": "device", "randaugment": "2:4", "random_erasing": 0.3, "jitter": 0.2, "pca_noise": 0.1, "grid_mask": 0.1,
       "mixup": 0.2}


def history(stage_dir):
    with open(stage_dir / "history.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_by_the_command(tiny_data, tmp_path):
    done = run_command("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m",
                       "--model=kecam/EfficientNetV2Tiny", "--stage=name=all,epochs=1,size=32,lr=0.01", "--batch_size=8",
                       "--accumulate=2", "--steps_per_execution=2", "--deterministic",
                       *(f"--{name}={one}" for name, one in ALL.items()))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "m" / "run.json").read_text())["same"]["stages"]["all"]["augment_on"] == "device"
    assert "XLA" not in done.stderr  # which the augmentation is compiled by
    row, = history(tmp_path / "m" / "stage_1_all")
    assert 0 < float(row["loss"]) < 3 and 0 <= float(row["accuracy"]) <= 1


def test_host_and_device_train_alike(tiny_data, tmp_path):
    """All but RandAugment is the same; and a run is the same again."""
    later = {**ALL, "randaugment": ""}
    losses = {}
    for name, changes in {"host": {**later, "augment_on": "host"}, "device": later, "again": later}.items():
        train.run_training(run(tiny_data, tmp_path / name, stage(batch_size=10, optimizer="sgd", **changes), max_steps=3))
        losses[name] = float(history(tmp_path / name / "stage_1_all")[0]["loss"])
    assert losses["again"] == losses["device"] == pytest.approx(losses["host"], abs=1e-3)
    plain = {**dict.fromkeys(later, 0.0), "randaugment": "", "augment_on": "device"}
    train.run_training(run(tiny_data, tmp_path / "plain", stage(batch_size=10, optimizer="sgd", **plain), max_steps=3))
    assert abs(float(history(tmp_path / "plain" / "stage_1_all")[0]["loss"]) - losses["device"]) > 1e-3


@pytest.mark.slow
def test_on_several_replicas(tiny_data, tmp_path):
    done = run_command("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m",
                       "--model=kecam/EfficientNetV2Tiny", "--stage=name=all,epochs=1,size=32,lr=0.01", "--batch_size=8",
                       "--accumulate=2", "--virtual_replicas=2", *(f"--{name}={one}" for name, one in ALL.items()),
                       "--mixup_draw=picture")
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0 < float(history(tmp_path / "m" / "stage_1_all")[0]["loss"]) < 3


@pytest.mark.parametrize("changes, words", [
    ({"randaugment": "6:4", "randaugment_engine": "reference"}, "randaugment_engine=reference"),
    ({"randaugment": "2:15"}, "2:15"),
])
def test_what_the_device_has_not_is_told(tiny_data, tmp_path, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        run_checks.check_flags(run(tiny_data, tmp_path / "m", stage(augment_on="device", **changes)))
    assert "stage all: augment_on=device" in str(caught.value) and "\n" not in str(caught.value)
    run_checks.check_flags(run(tiny_data, tmp_path / "m", stage(augment_on="host", **changes)))


def test_the_reference_engine_may_be_named_where_it_is_not_used(tiny_data, tmp_path):
    unused = stage(augment_on="device", randaugment_engine="reference", augment="eval")
    run_checks.check_flags(run(tiny_data, tmp_path / "m", unused))


def test_preflights_step_has_it():
    """The program that is compiled for a TPU takes what is drawn, and does more than the one without."""
    from pipeline.preflight import steps
    from pipeline.runs import run as runs
    from pipeline.tasks import registry as tasks

    sizes = {}
    for where in ("host", "device"):
        asked = runs.Run("", "", "kecam/EfficientNetV2Tiny", (stage(**{**ALL, "augment_on": where}, batch_size=8),))
        competition = steps.Competition(two_steps.CLASSES, tasks.SINGLE_LABEL, False)
        step = steps.plan(asked, cores=1)[0]
        sizes[where] = len(steps.Programs(asked, competition, 1).make(step, 8).serialized)
    assert sizes["device"] > 1.2 * sizes["host"]
