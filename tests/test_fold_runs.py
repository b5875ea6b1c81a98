"""Training by folds, through the command: a process each, what is held out, what goes on after a kill."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tiny_records
from pipeline import predictions
from raw_data import REPOSITORY, assert_one_line_mistake, run_command

FLAGS = ("--model=kecam/EfficientNetV2Tiny", "--stage=name=all,epochs=1,size=32,lr=0.01,train=all", "--optimizer=adam",
         "--batch_size=10")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_records.make(tmp_path_factory.mktemp("folds"), folds=3)


@pytest.fixture(scope="module")
def by_folds(data, tmp_path_factory):
    """(model directory, stdout) of a run of all folds of which fold 1 was killed at first."""
    model_dir = tmp_path_factory.mktemp("model")
    arguments = [f"--data_dir={data.directory}", f"--model_dir={model_dir}", *FLAGS]
    killed = subprocess.Popen([sys.executable, str(REPOSITORY / "multi_stage_train.py"), *arguments, "--fold=1"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (model_dir / "fold_1" / "stage_1_all").exists():
        assert killed.poll() is None
        time.sleep(0.2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    first = run_command("multi_stage_train.py", *arguments, "--fold=0")
    assert first.returncode == 0, first.stderr
    before = {path: path.stat().st_mtime_ns for path in (model_dir / "fold_0").rglob("ckpt*")}
    done = run_command("multi_stage_train.py", *arguments, "--fold=all")
    assert done.returncode == 0, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (model_dir / "fold_0").rglob("ckpt*")}
    return model_dir, done.stdout


def test_every_example_is_predicted_by_the_fold_that_did_not_see_it(by_folds, data):
    model_dir, _ = by_folds
    folds = data.examples("train").set_index("id")["fold"]
    for fold in range(3):
        held_out = predictions.Predictions(str(model_dir / f"fold_{fold}" / "out_of_fold")).ids
        assert sorted(held_out) == sorted(folds.index[folds == fold]) and held_out
    assert sorted(predictions.Predictions(str(model_dir / "out_of_fold")).ids) == sorted(folds.index)


def test_the_table_tells_what_numpy_finds(by_folds):
    model_dir, printed = by_folds
    rows = [line.split() for line in printed.splitlines() if re.match(r"\s+(\d|all)\s", line)]
    assert [row[0] for row in rows] == ["0", "1", "2", "all"]
    for row in rows:
        folder = model_dir / "out_of_fold" if row[0] == "all" else model_dir / f"fold_{row[0]}" / "out_of_fold"
        matrix = np.load(folder / "log_probabilities.npy").astype(float)
        labels = np.array([int(one) % 3 for one in (folder / "ids.txt").read_text().split()])
        order = np.argsort(-matrix, axis=1, kind="stable")
        ranks = np.array([list(line).index(label) for line, label in zip(order, labels)])
        assert float(row[1]) == pytest.approx((ranks == 0).mean(), abs=1e-4)
        assert float(row[3]) == pytest.approx((1 / (ranks + 1)).mean(), abs=1e-4)
    assert json.loads((model_dir / "fold_2" / "result.json").read_text())["epochs"] == [1]


def test_prediction_averages_the_folds_and_keeps_each(by_folds, data, tmp_path):
    model_dir, _ = by_folds
    done = run_command("predict.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}", "--split=test",
                       f"--out={tmp_path}/test", "--fold=0:2")
    assert done.returncode == 0, done.stderr
    parts = [predictions.Predictions(str(tmp_path / "test" / f"fold_{fold}")) for fold in (0, 2)]
    mean = predictions.Predictions(str(tmp_path / "test"))
    assert mean.ids == parts[0].ids == parts[1].ids and len(mean.ids) == 7
    everything = np.arange(7)
    np.testing.assert_allclose(np.exp(mean.rows(everything)),
                               (np.exp(parts[0].rows(everything)) + np.exp(parts[1].rows(everything))) / 2, rtol=3e-3)


def test_predicting_the_trained_split_is_out_of_fold(by_folds, data, tmp_path):
    model_dir, _ = by_folds
    done = run_command("predict.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}", "--split=train",
                       f"--out={tmp_path}/train", "--tta=none")
    assert done.returncode == 0, done.stderr
    ours = predictions.Predictions(str(tmp_path / "train"))
    theirs = predictions.Predictions(str(model_dir / "out_of_fold"))
    order = [theirs.ids.index(one) for one in ours.ids]
    np.testing.assert_allclose(ours.rows(np.arange(50)), theirs.rows(np.array(order)), atol=2e-2)


@pytest.mark.parametrize("flags, words", [
    (["--fold=3"], ["--fold", "folds 0 to 2"]),
    (["--fold=0:x"], ["--fold=0:x"]),
])
def test_folds_that_are_none(flags, words, data, tmp_path):
    done = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={tmp_path}/m", *FLAGS, *flags)
    assert_one_line_mistake(done, *words)


def test_a_run_without_folds_does_not_mix_with_one_by_folds(by_folds, data):
    model_dir, _ = by_folds
    done = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}", *FLAGS)
    assert done.returncode == 2 and "by_folds" in done.stderr.splitlines()[-1]


def test_the_last_run_takes_the_epochs_that_the_folds_found(by_folds, data, tmp_path):
    model_dir, _ = by_folds
    for fold, best in ((0, 2), (1, 5), (2, 3)):
        done = model_dir / f"fold_{fold}" / "stage_1_all" / "DONE"
        done.write_text(json.dumps({**json.loads(done.read_text()), "best_epoch": best}))
    from pipeline import runs
    from training_runs import stage

    assert [one.epochs for one in runs.with_epochs_of(str(model_dir), [stage(epochs=200)])] == [3]
    done = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={tmp_path}/m", *FLAGS,
                       f"--epochs_from={model_dir}", "--train_split=train+val", "--dry_run")
    assert done.returncode == 0 and "3 epoch(s) of 6 steps" in done.stderr  # (50 + 11) // 10
