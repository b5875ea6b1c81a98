"""A stage that was ended at any step goes on to the very bits that it would have come to, in one process."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT
from pipeline import preemption
from pipeline.errors import Preempted, UserError
from pipeline.runs import run as runs, saved
from pipeline.training import train, watch
from training_runs import run, stage

# Five steps an epoch; all that has a state or draws at random is on.
STAGE = {"epochs": 3, "lr": 0.01, "lr_schedule": "plateau:0.5:1", "early_stop": 3, "ema": 0.5, "mixup": 0.2,
         "randaugment": "2:4", "monitor": "val_accuracy"}
RUN = {"dropout": 0.5, "channel_dropout": 0.2, "save_minutes": 1e-9}
FOLDER = "stage_1_all"


@pytest.fixture(autouse=True)
def float32_policy():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def train_into(data, folder, **changes):
    train.run_training(run(data, folder, stage(**STAGE), **{**RUN, **changes}))


def contents(folder):
    """Of the newest checkpoint, by name; and the history as it stands in the file."""
    return contents_of_last(folder), (folder / FOLDER / "history.csv").read_bytes()


def contents_of_last(folder):
    reader = tf.train.load_checkpoint(str(folder / FOLDER / "last"))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: reader.get_tensor(name) for name in names}


def assert_same(one, other):
    (arrays, history), (others, other_history) = one, other
    assert history == other_history and arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert np.asarray(array).tobytes() == np.asarray(others[name]).tobytes(), name


@pytest.fixture(scope="module")
def undisturbed(tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train_into(tiny_data, folder)
    tf.keras.mixed_precision.set_global_policy("float32")
    return folder


class Killed(Exception):
    """Stands for a process that is killed."""


def test_ended_within_an_epoch_in_validation_and_between_it_ends_the_same(undisturbed, tiny_data, tmp_path, monkeypatch):
    looks = []

    def asked_from(number):
        looks.clear()
        monkeypatch.setattr(preemption, "asked", lambda: looks.append(1) or ("SIGTERM" if len(looks) >= number else ""))

    # A look before the stage, and after each of 5 steps and of 2 batches of the validation (11 pictures).
    for number, steps, snapshots in ((1 + 3, 3, 0), (1 + 2 + 1, 5, 0), (1 + 2 + 4, 9, 1)):
        asked_from(number)
        with pytest.raises(Preempted, match=f"SIGTERM after step {steps} of the stage"):
            train_into(tiny_data, tmp_path)
        arrays = contents_of_last(tmp_path)
        assert [arrays[f"{name}/.ATTRIBUTES/VARIABLE_VALUE"] for name in ("steps", "snapshots")] == [steps, snapshots]
    monkeypatch.undo()
    save = watch.Watch._save

    def killed_after(self):
        save(self)
        if self._steps == 12:
            raise Killed

    monkeypatch.setattr(watch.Watch, "_save", killed_after)
    with pytest.raises(Killed):
        train_into(tiny_data, tmp_path)
    monkeypatch.undo()
    train_into(tiny_data, tmp_path)
    assert_same(contents(undisturbed), contents(tmp_path))
    done, other = (json.loads((folder / FOLDER / "DONE").read_text()) for folder in (undisturbed, tmp_path))
    assert {**done, "seconds": 0} == {**other, "seconds": 0}


def test_two_checkpoints_stand_and_a_damaged_one_gives_way_to_the_one_before(undisturbed, tiny_data, tmp_path, caplog):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    last = folder / FOLDER / "last"
    newest, before = saved.names(str(last))
    assert len(list(last.glob("*.index"))) == 2
    (folder / FOLDER / "DONE").unlink()
    content = bytearray((last / f"{newest}.data-00000-of-00001").read_bytes())
    content[len(content) // 3] ^= 1
    (last / f"{newest}.data-00000-of-00001").write_bytes(content)
    assert saved.fault(str(last / before)) is None
    with caplog.at_level("WARNING", logger="absl"):
        train_into(tiny_data, folder)
    line, = (one.message for one in caplog.records if "damaged" in one.message)
    assert f"{last}/{newest} is damaged" in line and "\n" not in line
    assert_same(contents(undisturbed), contents(folder))
    (folder / FOLDER / "DONE").unlink()
    for path in last.glob("*.index"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="is damaged .* and no other is whole: delete the stage's folder"):
        train_into(tiny_data, folder)


def test_a_run_of_before_is_refused_in_one_line(undisturbed, tiny_data, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    (folder / FOLDER / "DONE").unlink()
    record = json.loads((folder / "run.json").read_text())
    del record["same"]["masks"]
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"masks was None, is '{runs.MASKS}'".replace("(", r"\(").replace(")", r"\)")):
        train_into(tiny_data, folder)


def test_what_was_half_written_goes_with_the_next_checkpoint(tmp_path):
    value = tf.Variable(1.0)
    one = saved.Saved(tf.train.Checkpoint(value=value), str(tmp_path / "last"), keep=2)
    one.save()
    for name in ("ckpt-7.data-00000-of-00001.tempstate123", "ckpt-7.index"):
        (tmp_path / "last" / name).write_bytes(b"")
    (tmp_path / "last" / "ckpt-7_temp").mkdir()
    assert saved.names(str(tmp_path / "last")) == ["ckpt-1"]
    one.save()
    value.assign(3.0)
    one.save()
    assert saved.names(str(tmp_path / "last")) == ["ckpt-9", "ckpt-8"]  # no name is used twice
    assert sorted(path.name for path in (tmp_path / "last").glob("ckpt*")) == [
        f"ckpt-{number}.{kind}" for number in (8, 9) for kind in ("data-00000-of-00001", "index")]
    (tmp_path / "last" / "checkpoint").write_bytes(b"\x00 broken")
    assert saved.names(str(tmp_path / "last")) == ["ckpt-9", "ckpt-8"]


# A process of its own, since logical devices are made before anything else.
ON_REPLICAS = """
import sys
import numpy as np
sys.path[:0] = ["tests", "tests/faults"]
import pytest, pathlib
from pipeline import preemption
from pipeline.errors import Preempted
from pipeline.records import dataset
import test_resume as here

data, folder = dataset.load(sys.argv[1]), pathlib.Path(sys.argv[2])
here.STAGE["epochs"] = 2
here.RUN["save_minutes"] = 0  # a step of two replicas on one core is slow enough
here.train_into(data, folder / "whole", virtual_replicas=2)
looks, asked = [], preemption.asked
preemption.asked = lambda: looks.append(1) or ("SIGTERM" if len(looks) >= 4 else "")
with pytest.raises(Preempted):
    here.train_into(data, folder / "parted", virtual_replicas=2)
preemption.asked = asked
sums = [value for name, value in here.contents_of_last(folder / "parted").items() if name.startswith("sums/")]
assert all(len(value) == 2 for value in sums) and any((value[0] != value[1]).any() for value in sums), sums
here.train_into(data, folder / "parted", virtual_replicas=2)
here.assert_same(here.contents(folder / "whole"), here.contents(folder / "parted"))
print("the same")
"""


@pytest.mark.slow
def test_each_replica_goes_on_with_its_own_sums(tiny_data, tmp_path):
    done = subprocess.run([sys.executable, "-c", ON_REPLICAS, tiny_data.directory, str(tmp_path)], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("the same"), done.stderr[-3000:]
