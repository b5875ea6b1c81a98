"""Killed at any moment and started again, a run comes to the very bits that an undisturbed one comes to."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from raw_data import REPOSITORY, heed_interrupts
import tiny_places
import tiny_records
import two_hosts

# Two stages, two folds; drop-connect is the network's own. A checkpoint after almost every step.
FLAGS = ("--model=kecam/EfficientNetV2Tiny", "--fold=all", "--optimizer=adam", "--batch_size=5", "--dropout=0.5",
         "--channel_dropout=0.2", "--mixup=0.2", "--randaugment=2:4", "--ema=0.5", "--lr_schedule=plateau:0.5:1",
         "--save_minutes=0.002", "--stage=name=head,epochs=2,size=32,lr=0.01,train=head",
         "--stage=name=all,epochs=3,size=40,lr=0.003,train=all")
KILLS = int(os.environ.get("SOAK_KILLS", 20))
FIRST_SAVES = ("fold_0/stage_1_head", "fold_0/stage_2_all", "fold_1/stage_1_head", "fold_1/stage_2_all")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_records.make(tmp_path_factory.mktemp("killed"), folds=2)


def start(script, *flags):
    return subprocess.Popen([sys.executable, str(REPOSITORY / script), *flags], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_interrupts)


def finish(process):
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told[-3000:]


def training(data, model_dir):
    return start("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}", *FLAGS)


def answer(data, model_dir):
    for script, flags in (("predict.py", ("--split=test", f"--model_dir={model_dir}", f"--out={model_dir}/test")),
                          ("make_submission.py", (f"--predictions={model_dir}/test", f"--out={model_dir}/answers.csv"))):
        finish(start(script, f"--data_dir={data.directory}", *flags))


def assert_same_checkpoint(one: pathlib.Path, other: pathlib.Path):
    reader, other_reader = (tf.train.load_checkpoint(str(folder)) for folder in (one, other))
    names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    assert names == set(other_reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    assert one.name != "last" or any("optimizer" in name for name in names)
    for key in names:
        assert np.array_equal(reader.get_tensor(key), other_reader.get_tensor(key)), key


def assert_same(one: pathlib.Path, other: pathlib.Path):
    for name in FIRST_SAVES:
        assert (one / name / "history.csv").read_bytes() == (other / name / "history.csv").read_bytes(), name
        for kind in ("last", "best"):
            assert_same_checkpoint(one / name / kind, other / name / kind)
    for name in ("out_of_fold/ids.txt", "out_of_fold/log_probabilities.npy", "answers.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("undisturbed") / "model"
    began = time.monotonic()
    finish(training(data, model_dir))
    seconds = time.monotonic() - began
    answer(data, model_dir)
    return model_dir, seconds


def kill_all_of(process):
    """As a machine that goes down does: nobody is left to finish anything."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_three_kills_and_a_preemption(undisturbed, data, tmp_path):
    rng, model_dir = random.Random(17), tmp_path / "model"
    for number, name in zip((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), FIRST_SAVES):
        process = training(data, model_dir)
        while not (model_dir / name / "last" / "checkpoint").exists():
            assert process.poll() is None, process.stderr.read()[-3000:]
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))  # within a step, a validation, a checkpoint, or between stages
        if number == signal.SIGKILL:
            kill_all_of(process)
        else:
            process.send_signal(number)
            _, told = process.communicate(timeout=60)
            assert process.returncode == 75, told[-3000:]
            assert told.splitlines()[-1] == "multi_stage_train.py: ended by SIGTERM; the same command goes on"
    finish(training(data, model_dir))
    answer(data, model_dir)
    assert_same(undisturbed[0], model_dir)


@pytest.mark.soak
def test_kills_at_any_moment(undisturbed, data, tmp_path):
    """In prediction too, and while nothing is trained yet."""
    rng, model_dir, kills = random.Random(18), tmp_path / "model", 0
    while kills < KILLS:
        process = training(data, model_dir)
        try:
            process.wait(rng.uniform(0.3, 1.2) * undisturbed[1] / 2)
        except subprocess.TimeoutExpired:
            kill_all_of(process)
            kills += 1
            continue
        assert process.returncode == 0, process.stderr.read()[-3000:]
        for name in rng.sample(FIRST_SAVES, 2):  # it has come to its end: on from a checkpoint before
            (model_dir / name / "DONE").unlink()
    finish(training(data, model_dir))
    answer(data, model_dir)
    assert_same(undisturbed[0], model_dir)


@pytest.mark.soak
def test_two_hosts_are_killed_and_preempted(data, tmp_path):
    """Both are killed at once, twice; then one of them alone is told to end."""
    flags = [one for one in (f"--data_dir={data.directory}", *FLAGS, "--batch_size=6", "--save_minutes=0.01")
             if one != "--fold=all"] + ["--stage=name=all,epochs=9,size=40,lr=0.003,train=all"]
    stages = [name.removeprefix("fold_0/") for name in FIRST_SAVES[:2]]
    done = two_hosts.run(*flags, f"--model_dir={tmp_path}/whole")
    assert [one.returncode for one in done] == [0, 0], done[0].stderr[-3000:]
    rng = random.Random(19)
    for number, name in zip((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM), (*stages, stages[1])):
        saved = tmp_path / "ended" / name / "last" / "checkpoint"
        before = saved.read_text() if saved.exists() else ""
        hosts = two_hosts.start(*flags, f"--model_dir={tmp_path}/ended")
        while not saved.exists() or saved.read_text() == before:
            assert hosts[0].poll() is None, hosts[0].stderr.read()[-3000:]
            time.sleep(0.02)
        if number == signal.SIGKILL:
            time.sleep(rng.uniform(0, 1.5))
        for host in hosts if number == signal.SIGKILL else hosts[1:]:
            os.killpg(host.pid, number)
        if number == signal.SIGTERM:
            ended = two_hosts.end_of(hosts)
            assert [one.returncode for one in ended] == [75, 75], [one.stderr[-2000:] for one in ended]
        for host in hosts:
            host.wait()
    done = two_hosts.run(*flags, f"--model_dir={tmp_path}/ended")
    assert [one.returncode for one in done] == [0, 0], done[0].stderr[-3000:]
    for name in stages:
        assert_same_checkpoint(tmp_path / "whole" / name / "last", tmp_path / "ended" / name / "last")


@pytest.mark.soak
def test_the_geo_prior_is_killed(tmp_path):
    raw = tiny_places.write_inat2021(tmp_path / "raw")
    flags = ("--competition=inat2021", f"--data_dir={raw}", "--embed_dim=16", "--batch_size=16", "--lr=0.01", "--epochs=300",
             "--photographers", "--date_noise_days=5")
    finish(start("train_geo_prior.py", *flags, f"--model_dir={tmp_path}/whole"))
    rng = random.Random(20)
    for _ in range(10):
        process = start("train_geo_prior.py", *flags, f"--model_dir={tmp_path}/killed")
        time.sleep(rng.uniform(4, 9))
        kill_all_of(process)
    finish(start("train_geo_prior.py", *flags, f"--model_dir={tmp_path}/killed"))
    assert_same_checkpoint(tmp_path / "whole" / "last", tmp_path / "killed" / "last")
    for name in ("whole", "killed"):
        assert len((tmp_path / name / "history.csv").read_text().splitlines()) == 301
