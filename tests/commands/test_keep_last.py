"""--keep: which checkpoint of a stage is handed on and predicted with, where the best is not the last.

The labels of val are rotated, so that its loss grows with whatever is learnt: the first epoch is the best.
"""

import json

import numpy as np
import pytest
import tensorflow as tf

from dataset_tools import build
from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.prediction import localize, map_to_box, predict
from pipeline.records import boxes, dataset
from pipeline.runs import run as runs
from pipeline.training import train
from raw_data import run_command
import tiny_records
from training_runs import run, stage

LINE = "--stage=name=all,epochs=3,size=32,lr=0.01,train=all"
NEW_KEYS = ("min_crop", "crop_law", "antialias", "place_drop", "freeze_place", "keep")  # which run.json had not before


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rotated")
    raw = tiny_records.write_raw(folder / "raw", train=40, val=12, test=5)
    val = json.loads((raw / "val.json").read_text())
    for one in val["annotations"]:
        one["category_id"] = one["category_id"] % 30 + 10
    (raw / "val.json").write_text(json.dumps(val))
    build.build("inat2021", str(raw), str(folder / "records"), folds=2)
    return dataset.load(str(folder / "records"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """By the command; the last epoch is kept."""
    model_dir = tmp_path_factory.mktemp("model")
    done = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}", LINE,
                       "--keep=last", "--model=kecam/EfficientNetV2Tiny", "--optimizer=adam", "--batch_size=10",
                       "--lr_schedule=constant", "--input_scaling=01", "--place_input=on")
    assert done.returncode == 0, done.stderr
    told = json.loads((model_dir / "stage_1_all" / "DONE").read_text())
    assert (told["best_epoch"], told["epochs"], told["keep"]) == (1, 3, "last")
    return model_dir


def weights(path):
    reader = tf.train.load_checkpoint(str(path))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
            if name.startswith(("base/", "head/")) and "OPTIMIZER_SLOT" not in name}


def same(one, other):
    assert one.keys() == other.keys() and one
    return all(np.array_equal(one[name], other[name]) for name in one)


def predicted(data, model_dir, out, **asked):
    predict.run_prediction(data.directory, predict.Request(str(model_dir), "test", str(out), **asked))
    made = predictions.Predictions(str(out))
    return made.meta["checkpoint"], made.rows(np.arange(len(made.ids)))


def test_the_last_is_predicted_with_unless_told_otherwise(trained, data, tmp_path):
    done = run_command("predict.py", f"--data_dir={data.directory}", f"--model_dir={trained}", "--split=test",
                       f"--out={tmp_path}/default")
    assert done.returncode == 0, done.stderr
    default = predictions.Predictions(str(tmp_path / "default"))
    assert default.meta["checkpoint"] == str(trained / "stage_1_all" / "last" / "ckpt-3")
    last, best = (predicted(data, trained, tmp_path / name, checkpoint=name) for name in ("last", "best"))
    assert last[0] == default.meta["checkpoint"] and best[0] == str(trained / "stage_1_all" / "best" / "ckpt-1")
    np.testing.assert_array_equal(default.rows(np.arange(5)), last[1])
    assert np.abs(last[1] - best[1]).max() > 0.1


def test_the_next_run_starts_from_the_last(trained, data, tmp_path):
    train.run_training(run(data, tmp_path / "next", stage(train="head", lr=0.0), init_from=str(trained), place_input=True))
    found = weights(tmp_path / "next" / "stage_1_all" / "last" / "ckpt-1")
    assert same(found, weights(trained / "stage_1_all" / "last" / "ckpt-3"))
    assert not same(found, weights(trained / "stage_1_all" / "best" / "ckpt-1"))
    assert json.loads((tmp_path / "next" / "run.json").read_text())["free"]["scaling"] == "01"
    with pytest.raises(UserError, match="--input_scaling=tf: .*model.*, which --init_from names, was trained with 01"):
        train.run_training(run(data, tmp_path / "other", init_from=str(trained), place_input=True, input_scaling="tf"))


@pytest.mark.parametrize("keep, epoch", [("last", 2), pytest.param("best", 1, marks=pytest.mark.slow)])
def test_the_next_stage_starts_from_what_is_kept(keep, epoch, data, tmp_path):
    first = stage(epochs=2, keep=keep, optimizer="adam", lr=0.03, lr_schedule="constant", batch_size=10)
    train.run_training(run(data, tmp_path, first, stage(name="head", train="head", lr=0.0)))
    assert json.loads((tmp_path / "stage_1_all" / "DONE").read_text())["best_epoch"] == 1
    kept = weights(tmp_path / "stage_1_all" / keep / f"ckpt-{epoch}")
    assert same(weights(tmp_path / "stage_2_head" / "last" / "ckpt-1"), kept)


@pytest.mark.slow
def test_boxes_are_of_the_last(trained, data):
    localize.run_localization(data.directory, localize.Request(str(trained), "some", map_to_box.Rule(0.3, 0.1, 0.05),
                                                               split="test", size=64))
    told = json.loads(open(boxes.meta_path(data.directory, "some"), encoding="utf-8").read())["how"]["checkpoints"]
    assert told["model"]["checkpoint"] == "ckpt-3"


@pytest.mark.slow
def test_a_fold_predicts_what_it_held_out_by_its_last(data, tmp_path):
    of_fold = run(data, tmp_path, stage(epochs=2, keep="last"), fold=0)
    train.run_training(of_fold)
    predict.predict_held_out(of_fold, str(tmp_path / "held_out"))
    path = predictions.Predictions(str(tmp_path / "held_out")).meta["checkpoint"]
    assert path == str(tmp_path / "fold_0" / "stage_1_all" / "last" / "ckpt-2")


def test_the_last_run_takes_all_epochs_of_one_that_kept_the_last(trained):
    assert [one.epochs for one in runs.with_epochs_of(str(trained), [stage(epochs=20)])] == [3]


def test_runs_of_before(data, tmp_path):
    """A finished one predicts the same; an unfinished one ends in a line that names what is new."""
    asked = run(data, tmp_path / "m", stage(epochs=2), place_input=True)
    train.run_training(asked)
    path, now = predicted(data, tmp_path / "m", tmp_path / "now")
    assert path == str(tmp_path / "m" / "stage_1_all" / "best" / "ckpt-1")
    record = json.loads((tmp_path / "m" / "run.json").read_text())
    for name in NEW_KEYS:
        del record["same"]["stages"]["all"][name]
    del record["same"]["input_scaling"]
    (tmp_path / "m" / "run.json").write_text(json.dumps(record))
    np.testing.assert_allclose(predicted(data, tmp_path / "m", tmp_path / "before")[1], now, atol=1e-5)
    with pytest.raises(UserError) as told:
        train.run_training(asked)
    assert "\n" not in str(told.value)
    assert all(f"stages.all.{name} was None" in str(told.value) for name in NEW_KEYS)
