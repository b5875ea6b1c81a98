"""Training by folds, through the command: a process each, what is held out, what goes on after a kill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tiny_records
from pipeline import files
from pipeline.answers import predictions
from pipeline.experiment import fold_runs
from raw_data import REPOSITORY, assert_one_line, assert_one_line_mistake, heed_interrupts, run_command

FLAGS = ("--model=kecam/EfficientNetV2Tiny", "--stage=name=all,epochs=1,size=32,lr=0.01,train=all", "--optimizer=adam",
         "--batch_size=10")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_records.make(tmp_path_factory.mktemp("folds"), folds=3)


WRAPPER = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
fault = dict(one.split(":") for one in os.environ["FAULTS"].split()).get(sys.argv[-1].removeprefix("--fold="))
if fault:
    from pipeline.training import schedules
    if fault == "nan":
        schedules.make_rate = lambda *arguments: 1e30
    else:
        schedules.make_rate = lambda *arguments: os.kill(os.getpid(), int(fault))
exec(open({str(REPOSITORY / "multi_stage_train.py")!r}).read())  # sys.argv still names this file, which folds run too
"""


def start_with_faults(folder, faults, *flags):
    """The command, of which some folds (0:nan 1:9) break or get a signal when their first stage begins; a Popen."""
    script = folder / "train_with_faults.py"
    script.write_text(WRAPPER)
    return subprocess.Popen([sys.executable, str(script), *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "FAULTS": faults}, start_new_session=True, preexec_fn=heed_interrupts)


@pytest.fixture(scope="module")
def by_folds(data, tmp_path_factory):
    """(model directory, stdout) of a run of all folds of which fold 0 broke and fold 1 was killed at first."""
    model_dir = tmp_path_factory.mktemp("model")
    arguments = [f"--data_dir={data.directory}", f"--model_dir={model_dir}", *FLAGS]
    first = start_with_faults(tmp_path_factory.mktemp("faults"), "0:nan 1:9", *arguments, "--fold=all")
    assert_tells_of_the_dead(model_dir, *first.communicate(timeout=300), first.returncode)
    before = {path: path.stat().st_mtime_ns for path in (model_dir / "fold_2").rglob("ckpt*")}
    assert before
    done = run_command("multi_stage_train.py", *arguments, "--fold=all")
    assert done.returncode == 0, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (model_dir / "fold_2").rglob("ckpt*")}
    assert not list(model_dir.glob("fold_*/failed.json"))
    return model_dir, done.stdout


def assert_tells_of_the_dead(model_dir, printed, logged, code):
    """Fold 0 broke, 1 was killed, 2 stands."""
    assert code == 3
    rows = {line.split()[0]: line for line in reversed(printed.splitlines())}  # the first of a name
    assert re.search(r"died: stage all, fold 0: the .*loss became nan in epoch 1", rows["0"])
    assert "died: killed by signal 9 (out of memory?)" in rows["1"]
    assert re.fullmatch(r"\s+2(\s+[\d.]+){5}", rows["2"])
    assert printed.splitlines()[-1] == f"out of fold, folds 2 of 3: {model_dir}/out_of_fold"
    all_ids, ids = ((folder / "out_of_fold" / "ids.txt").read_text() for folder in (model_dir, model_dir / "fold_2"))
    assert all_ids == ids
    last = logged.splitlines()[-1]
    assert "fold 0 died: stage all, fold 0: " in last and "fold 1 died: killed" in last and "Traceback" not in logged
    assert "nan" in json.loads((model_dir / "fold_0" / "failed.json").read_text())["reason"]


@pytest.mark.parametrize("whom", ["child", "parent", pytest.param("both", marks=pytest.mark.slow)])  # Ctrl-C: both
def test_an_interrupt_stops_all_folds_with_one_line(whom, data, tmp_path):
    running = start_with_faults(tmp_path, f"0:{int(signal.SIGINT)}" if whom == "child" else "", f"--model_dir={tmp_path}/m",
                                f"--data_dir={data.directory}", *FLAGS, "--stage=name=all,epochs=1000,size=32,lr=0.01",
                                "--fold=all")
    if whom != "child":
        while not (tmp_path / "m" / "fold_0" / "stage_1_all" / "last").exists():
            assert running.poll() is None
            time.sleep(0.1)
        (os.killpg if whom == "both" else os.kill)(running.pid, signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert_one_line(subprocess.CompletedProcess([], running.returncode, "", told), 130, "interrupted")
    assert (tmp_path / "m" / "fold_0").exists() and not (tmp_path / "m" / "fold_1").exists()


def test_a_mistake_is_told_once_and_stops_all_folds(data, tmp_path):
    done = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={tmp_path}/m", *FLAGS,
                       "--randaugment=many", "--fold=all")
    assert_one_line_mistake(done, "many")
    assert not (tmp_path / "m").exists()


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
    from pipeline.runs import run as runs
    from training_runs import stage

    assert [one.epochs for one in runs.with_epochs_of(str(model_dir), [stage(epochs=200, min_steps=99)])] == [3]
    done = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={tmp_path}/m", *FLAGS,
                       f"--epochs_from={model_dir}", "--train_split=train+val", "--min_steps=99", "--dry_run")
    assert done.returncode == 0 and "18 (6 an epoch)" in done.stdout  # three epochs of (50 + 11) // 10
    done = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={tmp_path}/m", *FLAGS,
                       "--train_split=train+val", "--min_steps=99", "--dry_run")
    assert done.returncode == 0 and "102 (6 an epoch)" in done.stdout


def test_folds_by_different_views_say_so_together(data, by_folds, tmp_path):
    """All were told to be by the first one's views."""
    model_dir = shutil.copytree(by_folds[0], tmp_path / "model")
    meta = model_dir / "fold_1" / "out_of_fold" / "meta.json"
    files.write_json(str(meta), {**json.loads(meta.read_text()), "tta": "flip"})
    fold_runs.print_table(data.directory, str(model_dir), {})
    assert json.loads((model_dir / "out_of_fold" / "meta.json").read_text())["tta"] == "flip and none"
