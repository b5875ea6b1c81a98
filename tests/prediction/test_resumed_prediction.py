"""A prediction that was killed goes on where it stopped, and is that of an undisturbed run byte for byte."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from pipeline.answers import prediction_writer, predictions
from pipeline.errors import WorkError
from predicted_data import random_logs
import raw_data

OF = {"model": "m", "checkpoint": ["c"], "batch_size": 2}
FILES = ("log_probabilities.npy", "ids.txt", "meta.json")
IDS = [f"é{number}" for number in range(9)]
LOGS = random_logs(9)


@pytest.fixture(autouse=True)
def every_batch_is_saved(monkeypatch):
    monkeypatch.setattr(prediction_writer, "SAVE_SECONDS", 0.0)


def write_some(folder, rows, of=OF):
    """The first rows, two at a time, as a run that is killed leaves them."""
    writer = predictions.Writer(str(folder), len(IDS), 3, of)
    for start in range(writer.done, rows, 2):
        writer.append(IDS[start:start + 2], LOGS[start:start + 2])
    return writer


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def finished(folder, of=OF):
    """(how many rows stood, what all files hold at the end)"""
    writer = write_some(folder, len(IDS), of)
    writer.finish({"class_ids": ["a", "b", "c"], "split": "test"})
    assert {path.name for path in folder.iterdir()} == set(FILES)
    np.testing.assert_allclose(np.load(folder / FILES[0]), LOGS, rtol=1e-3)
    return writer.done, contents(folder)


def test_a_stream_goes_on(tmp_path):
    _, whole = finished(tmp_path / "whole")
    write_some(tmp_path / "a", 6)
    with open(tmp_path / "a/log_probabilities.npy.unfinished", "ab") as file:
        file.write(b"half a row")  # written behind the last mark
    with open(tmp_path / "a/ids.txt.unfinished", "ab") as file:
        file.write("é6\né".encode()[:-1])
    assert not (tmp_path / "a/meta.json").exists()
    assert finished(tmp_path / "a") == (6, whole)


@pytest.mark.parametrize("change", ["of", "matrix", "ids", "header", "mark", "rows", "gone"])
def test_another_stream_begins_anew(tmp_path, change):
    _, whole = finished(tmp_path / "whole")
    write_some(tmp_path / "a", 6)
    matrix, ids, mark = (tmp_path / "a" / name for name in
                         ("log_probabilities.npy.unfinished", "ids.txt.unfinished", "unfinished.json"))
    if change == "matrix":
        matrix.write_bytes(matrix.read_bytes()[:-1])
    elif change == "ids":
        ids.write_text("x\n")
    elif change == "header":
        matrix.write_bytes(b"x" + matrix.read_bytes()[1:])
    elif change == "mark":
        mark.write_text("[" * 100_000)
    elif change == "rows":
        mark.write_text(json.dumps({**json.loads(mark.read_text()), "rows": 10**9}))
    elif change == "gone":
        matrix.unlink()
    assert finished(tmp_path / "a", {**OF, "batch_size": 3} if change == "of" else OF) == (0, whole)


def test_earlier_predictions_stand_until_new_ones_do(tmp_path):
    """And an answer that is no number takes nothing along."""
    _, whole = finished(tmp_path)
    write_some(tmp_path, 4, {**OF, "model": "other"})
    assert contents(tmp_path) == whole and predictions.Predictions(str(tmp_path)).ids == IDS
    with pytest.raises(WorkError, match="NaN"):
        predictions.write(str(tmp_path), [(IDS, np.full_like(LOGS, np.nan))], {"examples": 9, "class_ids": ["a", "b", "c"]})
    assert contents(tmp_path) == whole and not list(tmp_path.glob("in_use*"))


KILLED = """
import os, runpy, signal, sys
from pipeline.answers import prediction_writer
prediction_writer.SAVE_SECONDS = 0.0
append, calls = prediction_writer.Writer.append, []
def counted(self, ids, logs):
    calls.append(ids)
    if len(calls) > LIMIT:
        os.kill(os.getpid(), SIGNAL)
    append(self, ids, logs)
LIMIT, SIGNAL = int(sys.argv.pop(1)), int(sys.argv.pop(1))
prediction_writer.Writer.append = counted
runpy.run_path("predict.py", run_name="__main__")
"""


@pytest.mark.slow
def test_predict_py_is_killed_and_preempted(tiny_data, tmp_path):
    train = [f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m"]
    done = raw_data.run_command("multi_stage_train.py", *train, "--model=kecam/EfficientNetV2Tiny", "--batch_size=10",
                                "--stage=name=all,epochs=1,size=32,lr=0.01", "--max_steps=2")
    assert done.returncode == 0, done.stderr
    flags = [*train, "--split=val", "--batch_size=2", "--tta=flip"]
    assert raw_data.run_command("predict.py", *flags, f"--out={tmp_path}/whole").returncode == 0
    # Of six batches two, then one more.
    for appended, sent, code, line in ((2, signal.SIGKILL, -signal.SIGKILL, ""), (1, signal.SIGTERM, 75, "ended by SIGTERM")):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(appended), str(int(sent)), *flags, f"--out={tmp_path}/out"],
                                cwd=raw_data.REPOSITORY, capture_output=True, text=True, timeout=300)
        assert killed.returncode == code and line in killed.stderr, killed.stderr
        assert not (tmp_path / "out/meta.json").exists()
    assert "is gone: taken over" in killed.stderr
    done = raw_data.run_command("predict.py", *flags, f"--out={tmp_path}/out")
    assert done.returncode == 0 and "going on behind 6 of 11 pictures" in done.stderr, done.stderr
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(os.listdir(tmp_path / "out")) == sorted(os.listdir(tmp_path / "whole"))
