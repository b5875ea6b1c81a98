"""How commands end: 2 for what is found before work begins, 3 for what goes wrong later, 130 where they are interrupted."""

import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

import predicted_data
import tiny_places
from pipeline import command, files
from pipeline.errors import UserError, WorkError
from raw_data import REPOSITORY, assert_one_line, assert_one_line_mistake, heed_interrupts, run_command

TINY = ("--model=kecam/EfficientNetV2Tiny", "--optimizer=adam", "--batch_size=10")
STAGE = "--stage=name=all,epochs=1,size=32,lr=0.01,train=all"


def test_weights_broken_by_the_last_step_are_told_and_never_the_best(tiny_data, tmp_path):
    done = run_command("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}", *TINY,
                       "--optimizer=sgd", "--monitor=val_accuracy", "--stage=name=a,epochs=1,size=32,lr=0.01",
                       "--stage=name=b,epochs=1,size=32,lr=1e30", "--batch_size=50")  # one step, of a finite loss
    assert_one_line(done, 3, "stage b", "nan", "epoch 1", "lr")
    assert (tmp_path / "stage_1_a" / "DONE").exists() and not (tmp_path / "stage_2_b" / "DONE").exists()
    assert not list((tmp_path / "stage_2_b").rglob("ckpt*"))


def test_a_damaged_shard_is_found_at_work(tiny_data, tmp_path):
    records = shutil.copytree(tiny_data.directory, tmp_path / "records")
    shard, = records.glob("train.tfrecord*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(bytes(content))
    done = run_command("multi_stage_train.py", f"--data_dir={records}", f"--model_dir={tmp_path}/m", *TINY, STAGE)
    assert_one_line(done, 3, f"{shard} is damaged")


def test_a_warmup_longer_than_its_stage_is_a_mistake(tiny_data, tmp_path):
    done = run_command("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m", *TINY,
                       "--stage=name=fine,epochs=2,size=32,lr=0.01", "--warmup_epochs=1.5",
                       "--stage=name=short,epochs=1,size=32,lr=0.01")
    assert_one_line_mistake(done, "stage short", "1.5", "warmup_epochs=1")
    assert not (tmp_path / "m").exists()


def test_a_geo_prior_whose_loss_breaks(tmp_path):
    raw = tiny_places.write_inat2021(tmp_path / "raw")
    done = run_command("train_geo_prior.py", "--competition=inat2021", f"--data_dir={raw}", f"--model_dir={tmp_path}/m",
                       "--embed_dim=16", "--batch_size=16", "--lr=1e30", "--epochs=2")
    assert_one_line(done, 3, "nan in epoch 1", "--lr")
    assert not (tmp_path / "m" / "last").exists()


def test_an_interrupt_is_one_line(tiny_data, tmp_path):
    flags = [f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m", *TINY,
             "--stage=name=all,epochs=1000,size=32,lr=0.01"]
    with subprocess.Popen([sys.executable, str(REPOSITORY / "multi_stage_train.py"), *flags], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_interrupts) as running:
        while not (tmp_path / "m" / "stage_1_all" / "last").exists():
            assert running.poll() is None
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGINT)
        _, told = running.communicate(timeout=60)
    assert_one_line(subprocess.CompletedProcess([], running.returncode, "", told), 130, "interrupted")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """(dataset, log-probabilities) of 9 examples."""
    folder = tmp_path_factory.mktemp("sound")
    return predicted_data.make_dataset(folder / "records", [0, 1, 2] * 3), predicted_data.random_logs(9)


def foreign_predictions(folder, data, logs):
    """As another program might write them: with what Writer refuses."""
    predicted_data.write_predictions(folder, data, np.zeros_like(logs))
    np.save(folder / "log_probabilities.npy", logs.astype(np.float16))
    return folder


@pytest.mark.parametrize("row", [[np.nan, -1, -2], [np.inf, -1, -2], [-np.inf] * 3])
@pytest.mark.parametrize("others", [0, 1])
def test_predictions_that_rank_nothing_are_refused_by_name(row, others, sound, tmp_path):
    data, logs = sound
    broken = logs.copy()
    broken[4] = row
    wanted = [predicted_data.write_predictions(tmp_path / "p" / str(index), data, logs) for index in range(others)]
    wanted.append(foreign_predictions(tmp_path / "broken", data, broken))
    flags = [f"--data_dir={data.directory}", *(f"--predictions={one}" for one in wanted)]
    done = run_command("evaluate.py", *flags, f"--out={tmp_path}/scores.json")
    assert_one_line_mistake(done, f"{tmp_path}/broken", "NaN or infinite")
    assert not done.stdout and not (tmp_path / "scores.json").exists()
    done = run_command("make_submission.py", *flags, f"--out={tmp_path}/s.csv")
    assert_one_line_mistake(done, f"{tmp_path}/broken", "NaN or infinite")
    assert not (tmp_path / "s.csv").exists()


def test_predictions_of_what_cannot_be_answered_are_scored(sound, tmp_path):
    data, logs = sound
    logs = logs.copy()
    logs[:, 2] = -np.inf
    folder = foreign_predictions(tmp_path / "p", data, logs)
    done = run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={folder}", f"--out={tmp_path}/s.json")
    assert done.returncode == 0, done.stderr
    expected = (logs.astype(np.float16).argmax(axis=1) == np.arange(9) % 3).mean()
    assert json.loads((tmp_path / "s.json").read_text())["top1"] == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["f2", "distance"])
def test_a_metric_of_another_kind_of_task_is_passed_over(metric, sound, tmp_path):
    data, logs = sound
    folder, records = predicted_data.write_predictions(tmp_path / "p", data, logs), tmp_path / "records"
    shutil.copytree(data.directory, records)
    manifest = json.loads((records / "dataset.json").read_text())
    (records / "dataset.json").write_text(json.dumps({**manifest, "metric": metric}))
    done = run_command("evaluate.py", f"--data_dir={records}", f"--predictions={folder}", f"--out={tmp_path}/s.json")
    assert done.returncode == 0 and "the competition's own" not in done.stdout
    assert json.loads((tmp_path / "s.json").read_text())["examples"] == 9


def test_an_old_or_damaged_header_is_no_warning(sound, tmp_path):
    data, logs = sound
    array = pathlib.Path(predicted_data.write_predictions(tmp_path / "p", data, logs)) / "log_probabilities.npy"
    whole = array.read_bytes()
    array.write_bytes(whole.replace(b"(9, 3), } ", b"(9L, 3), }"))  # as Python 2 wrote numbers
    done = run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={tmp_path}/p", f"--out={tmp_path}/s.json")
    assert done.returncode == 0 and "Warning" not in done.stderr
    array.write_bytes(whole.replace(b"(9, 3), } ", b"(9L, 8), }"))
    done = run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={tmp_path}/p", f"--out={tmp_path}/s.json")
    assert_one_line_mistake(done, "log_probabilities.npy is damaged")


def raised_from(error, cause):
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device", "/somewhere/ckpt")
IN_A_STEP = """Graph execution error:

Detected at node model/conv defined at (most recent call last):
  File "train.py", line 1, in <module>
OOM when allocating tensor with shape[32,64]
\t [[{{node model/conv}}]]
Hint: If you want to see a list of allocated tensors"""


@pytest.mark.parametrize("error, before, later, told", [
    (UserError("--lr"), 2, 3, "--lr"),
    (WorkError("the loss became nan"), 3, 3, "nan"),
    (FileNotFoundError(errno.ENOENT, "No such file", "x.csv"), 2, 3, "x.csv"),
    (FULL, 3, 3, "/somewhere/ckpt"),
    (raised_from(UserError("can't write x.csv"), FULL), 3, 3, "can't write x.csv"),
    (MemoryError("Unable to allocate 9 GiB"), 3, 3, "out of memory Unable to allocate 9 GiB"),
    (tf.errors.ResourceExhaustedError(None, None, IN_A_STEP), 3, 3, "OOM when allocating tensor with shape[32,64]"),
    (tf.errors.DataLossError(None, None, "{{function_node __wrapped__SaveV2}} m/ckpt-1; File too large [Op:SaveV2]"),
     2, 3, "m/ckpt-1; File too large"),
    (tf.errors.UnavailableError(None, None, "storage.googleapis.com is gone"), 2, 3, "storage.googleapis.com is gone"),
    (tf.errors.FailedPreconditionError(None, None, "Error executing an HTTP request: libcurl code 6 meaning 'Couldn't resolve "
                                       "host name', error details: Could not resolve host: www.googleapis.com"),
     2, 3, "Could not resolve host: www.googleapis.com"),
    (KeyboardInterrupt(), 130, 130, "interrupted"),
])
def test_the_exit_code_of_what_ends_a_command(error, before, later, told, monkeypatch):
    for has_begun, code in ((False, before), (True, later)):
        monkeypatch.setattr(command, "_work_has_begun", has_begun)
        found, line = command.outcome(error)
        assert found == code and told in line and "{{" not in line


@pytest.mark.parametrize("error", [ValueError("shapes"), KeyError("x"),
                                   tf.errors.InvalidArgumentError(None, None, "shapes"),
                                   tf.errors.FailedPreconditionError(None, None, "a variable has no value")])
def test_a_bug_keeps_its_traceback(error, monkeypatch):
    monkeypatch.setattr(command, "_work_has_begun", True)
    assert command.outcome(error) is None


def test_a_full_disk_is_told_of_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files.uuid, "uuid4", lambda: files.uuid.UUID(int=0))
    (tmp_path / "scores.json.00000000.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError) as raised:
        files.write_json(str(tmp_path / "scores.json"), {"top1": 1})
    code, line = command.outcome(raised.value)
    assert code == 3 and f"{tmp_path}/scores.json" in line and not list(tmp_path.iterdir())


def test_a_full_disk_is_told_of_the_predictions_too(sound, tmp_path):
    """The line was "[Errno 28] No space left on device", of whatever file."""
    data, logs = sound
    (tmp_path / "log_probabilities.npy.unfinished").symlink_to("/dev/full")
    with pytest.raises(OSError) as raised:
        predicted_data.write_predictions(tmp_path, data, logs)
    code, line = command.outcome(raised.value)
    assert code == 3 and f"{tmp_path}/log_probabilities.npy" in line
