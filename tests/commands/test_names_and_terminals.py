"""Any path, and any terminal: patterns in names, names of any script, output that is no UTF-8."""

import os
import subprocess
import sys

import pytest

from pipeline import files
from pipeline.geo import prior as geo_prior
from pipeline.runs import patterns
import own_table
import raw_data
from raw_data import REPOSITORY
import tiny_places
import tiny_records

STAGES = ("--stage=name=a,epochs=2,size=32,lr=0.01", "--stage=name=b,epochs=1,size=32,lr=0.01")
NAME = "a [1] *x? 100% {y} 'größe\" \\z"


@pytest.mark.parametrize("name", ["plain", "run[1]", "a*b", "who?", "back\\slash", "ü [x] *? %s {} '\""])
def test_checkpoints_are_saved_found_read_and_replaced_in_any_folder(tmp_path, name):
    import tensorflow as tf

    folder, value = str(tmp_path / name / "last"), tf.Variable(1.0)
    kept = patterns.manager(tf.train.Checkpoint(value=value), folder)
    assert patterns.latest(folder) is None
    for number in (1, 2, 3):
        value.assign(number)
        kept.save(checkpoint_number=number)
    assert sorted(os.listdir(folder)) == ["checkpoint", "ckpt-3.data-00000-of-00001", "ckpt-3.index"]  # the old ones went
    assert patterns.latest(folder) == os.path.join(folder, "ckpt-3")
    value.assign(0)
    with patterns.plain_path(patterns.latest(folder)) as path:
        tf.train.Checkpoint(value=value).read(path).assert_existing_objects_matched()
    assert value.numpy() == 3


def test_a_folder_of_just_that_name_wins_over_the_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run[1]/p/val", "run1/p/val", "run1/q/val"):
        (tmp_path / name).mkdir(parents=True)
    assert files.matching("run[1]/p/val") == ["run[1]/p/val"]
    assert files.matching("run[1]/*/val") == ["run[1]/p/val"]
    assert files.matching("run?/*/val") == ["run1/p/val", "run1/q/val"]
    assert files.matching("run[12]/q/val") == ["run1/q/val"] and files.matching("run[1]/none") == []


def test_training_in_stages_prediction_and_submission_under_a_name_full_of_patterns(tmp_path):
    here = tmp_path / NAME
    data = tiny_records.make(here, train=12, val=4, test=3)
    model, geo = here / "m[0]", here / "geo[*]"
    run = lambda script, *flags: raw_data.run_command(script, *flags)  # noqa: E731
    for script, *flags in (
            ("multi_stage_train.py", "--model=kecam/EfficientNetV2Tiny", f"--data_dir={data.directory}", f"--model_dir={model}",
             "--batch_size=6", *STAGES),
            ("predict.py", f"--data_dir={data.directory}", f"--model_dir={model}", "--split=test"),
            ("make_submission.py", f"--data_dir={data.directory}", f"--predictions={model}/predictions/*", f"--out={here}/s.csv")):
        done = run(script, *flags)
        assert done.returncode == 0, done.stderr
    assert len((here / "s.csv").read_text().splitlines()) == 4
    assert len(os.listdir(model / "stage_1_a" / "last")) == 5  # of each of the two newest two files, and which they are
    raw = tiny_places.write_inat2021(here / "raw places")
    done = run("train_geo_prior.py", "--competition=inat2021", f"--data_dir={raw}", f"--model_dir={geo}", "--epochs=1",
               "--embed_dim=8", "--batch_size=16")
    assert done.returncode == 0, done.stderr
    assert geo_prior.load(str(geo)).class_ids


@pytest.mark.parametrize("settings", [
    {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}])
def test_output_that_is_no_utf8(tmp_path, settings):
    folder = tmp_path / "größe – 山田"
    own_table.make(folder / "raw", count=6, test=0)
    flags = ["--competition=table", f"--data_dir={folder}/raw", f"--out_dir={folder}/records", "--workers=1"]
    done = subprocess.run([sys.executable, "create_tfrecords.py", *flags], cwd=REPOSITORY, capture_output=True, timeout=300,
                          env={**{key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}, **settings})
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"6 pictures in" in done.stdout and (folder / "records" / "dataset.json").exists()


@pytest.mark.parametrize("script", ["create_tfrecords.py", "run.py", "evaluate.py"])
def test_help_and_mistakes_on_an_ascii_terminal(script):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, script, "--help"], cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr and "UnicodeEncodeError" not in done.stderr
    done = subprocess.run([sys.executable, script, "--größe=1"], cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_flagfile_with_a_byte_order_mark(tmp_path):
    (tmp_path / "inner.flags").write_bytes("\ufeff# größe\r\n--folds=1\r\n".encode())
    (tmp_path / "outer.flags").write_bytes(f"\ufeff--flagfile={tmp_path}/inner.flags\n--out_dir=x\n".encode())
    done = raw_data.run_command("create_tfrecords.py", f"--flagfile={tmp_path}/outer.flags")
    raw_data.assert_one_line_mistake(done, "--folds=1 would leave nothing")
    (tmp_path / "wide.flags").write_bytes("--folds=1\n".encode("utf-16"))
    raw_data.assert_one_line_mistake(raw_data.run_command("create_tfrecords.py", f"--flagfile={tmp_path}/wide.flags"), "UTF-8")
