"""Training runs on a tiny network: what is written, what goes on, what is refused."""

import json
import zlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.answers import predictions
from pipeline.errors import UserError, WorkError
from pipeline.models import classifier as classifiers
from pipeline.prediction import predict
from pipeline.records import dataset, input as inputs
from pipeline.runs import checkpoint, run as runs
from pipeline.training import callbacks, train, watch
from pipeline.training.step import TrainableClassifier
import raw_data
from training_runs import run, stage


@pytest.fixture(autouse=True)
def float32_policy():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def weights_of(stage_dir, name="base"):
    """{path in the checkpoint: array} of a part of the classifier, by TensorFlow's own reader."""
    reader = tf.train.load_checkpoint(checkpoint.find(str(stage_dir)))
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if key.startswith(f"{name}/")
            and "OPTIMIZER_SLOT" not in key}


@pytest.fixture(scope="module")
def two_stages(tiny_data, tmp_path_factory):
    """A finished run: the head for one epoch at 32 px, then all layers for three at 40 px."""
    model_dir = tmp_path_factory.mktemp("two_stages")
    train.run_training(run(tiny_data, model_dir, stage(name="head", train="head"),
                           stage(epochs=3, size=40, lr=0.005, warmup_epochs=0.5)))
    return model_dir


def test_a_run_leaves_what_the_next_command_needs(two_stages):
    record = json.loads((two_stages / "run.json").read_text())
    assert record["same"]["stages"]["all"]["size"] == 40
    assert record["versions"]["tensorflow"] == tf.__version__
    for folder in ("stage_1_head", "stage_2_all"):
        assert (two_stages / folder / "DONE").exists()
        assert list((two_stages / folder / "tensorboard").glob("*/events*"))
    history = pd.read_csv(two_stages / "stage_2_all" / "history.csv")
    assert list(history["epoch"]) == [0, 1, 2]
    assert {"loss", "accuracy", "top5", "val_loss", "val_accuracy", "val_top5", "lr"} <= set(history)
    assert history["lr"].iloc[-1] == pytest.approx(0.005)
    done = json.loads((two_stages / "stage_2_all" / "DONE").read_text())
    assert done["best"] == pytest.approx(history["val_loss"].min())
    best = int(checkpoint.find(str(two_stages / "stage_2_all")).rsplit("-", 1)[1])
    assert best == history["val_loss"].idxmin() + 1


def test_head_training_leaves_the_base_as_it_was(two_stages):
    built = classifiers.build("kecam/EfficientNetV2Tiny", 32, 3, seed=42)
    initial = {weight.name: weight.numpy() for weight in built.base.weights}
    after = list(weights_of(two_stages / "stage_1_head").values())
    assert after
    # Same arrays, BatchNorm statistics included, whatever their order in the checkpoint.
    assert sorted(array.tobytes() for array in after) == sorted(array.tobytes() for array in initial.values())


def test_a_second_start_makes_nothing_anew(two_stages, tiny_data):
    before = {path: path.stat().st_mtime_ns for path in two_stages.rglob("ckpt*")}
    train.run_training(run(tiny_data, two_stages, stage(name="head", train="head"),
                           stage(epochs=3, size=40, lr=0.005, warmup_epochs=0.5), cache="memory", ram_budget=1.5))
    assert {path: path.stat().st_mtime_ns for path in two_stages.rglob("ckpt*")} == before


def test_other_flags_are_refused_by_name(two_stages, tiny_data):
    with pytest.raises(UserError, match="stages.all.lr was 0.005, is 0.1") as caught:
        train.run_training(run(tiny_data, two_stages, stage(name="head", train="head"),
                               stage(epochs=3, size=40, lr=0.1, warmup_epochs=0.5)))
    assert str(two_stages) in str(caught.value) and "size" not in str(caught.value)


def test_a_run_of_before_there_were_engines_is_refused_by_name_and_predicts_the_same(two_stages, tiny_data, tmp_path):
    """Its pictures were resized and augmented by what is the reference now."""
    import shutil

    before = shutil.copytree(two_stages, tmp_path / "before")
    record = json.loads((before / "run.json").read_text())
    for one in record["same"]["stages"].values():
        del one["resize_engine"], one["randaugment_engine"]
    (before / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="stages.all.resize_engine was None, is 'fast'") as caught:
        train.run_training(run(tiny_data, before, stage(name="head", train="head"),
                               stage(epochs=3, size=40, lr=0.005, warmup_epochs=0.5)))
    assert "stages.all.randaugment_engine was None, is 'fast'" in str(caught.value) and "\n" not in str(caught.value)
    rows = []
    for model_dir in (two_stages, before):
        out = tmp_path / f"{model_dir.name}_predictions"
        predict.run_prediction(tiny_data.directory, predict.Request(str(model_dir), "val", str(out), tta="none", batch_size=4))
        rows.append(predictions.Predictions(str(out)).rows(np.arange(11)))
    np.testing.assert_array_equal(*rows)


def test_predictions_equal_the_model_applied_by_hand(two_stages, tiny_data, tmp_path):
    out = tmp_path / "predictions"
    predict.run_prediction(tiny_data.directory, predict.Request(str(two_stages), "val", str(out), tta="flip",
                                                                batch_size=4))
    predicted = predictions.Predictions(str(out))
    assert sorted(predicted.ids) == sorted(tiny_data.examples("val")["id"]) and len(predicted.ids) == 11
    built = classifiers.build("kecam/EfficientNetV2Tiny", 40, 3)
    checkpoint.load(checkpoint.find(str(two_stages / "stage_2_all")), built)
    for position in (0, 7, 10):
        path = f"{tiny_data.directory}/../raw/val/{predicted.ids[position]}.jpg"
        picture = tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), dct_method="INTEGER_ACCURATE"), [40, 40],
                                  antialias=True)
        views = tf.stack([picture, picture[:, ::-1]])
        mean = tf.nn.softmax(built.model({"image": tf.round(views)}, training=False)).numpy().mean(axis=0)
        np.testing.assert_allclose(np.exp(predicted.rows(np.array([position]))[0]), mean, rtol=5e-3, atol=1e-5)


def test_predictions_that_are_up_to_date_stay(two_stages, tiny_data, tmp_path, capsys):
    def once(**changes):
        predict.run_prediction(tiny_data.directory, predict.Request(
            str(two_stages), "val", str(tmp_path), **{"tta": "none", "batch_size": 11, **changes}))
        return (tmp_path / "meta.json").stat().st_mtime_ns

    first = once()
    assert once() == first and "up to date" in capsys.readouterr().out
    assert once(tta="flip") > first


class Killed(Exception):
    """Stands for a process that is killed."""


def test_an_interrupted_run_goes_on_from_its_last_epoch(tiny_data, tmp_path, monkeypatch):
    whole = run(tiny_data, tmp_path, stage(epochs=3, randaugment="1:4"))
    log_rate = callbacks.LogLearningRate.on_epoch_end

    def killed_in_epoch_2(self, epoch, logs=None):
        if epoch == 1:
            raise Killed
        log_rate(self, epoch, logs)

    monkeypatch.setattr(callbacks.LogLearningRate, "on_epoch_end", killed_in_epoch_2)
    with pytest.raises(Killed):
        train.run_training(whole)
    monkeypatch.undo()
    assert not runs.is_done(str(tmp_path / "stage_1_all"))
    # A row whose checkpoint was never written must not stand twice.
    with open(tmp_path / "stage_1_all" / "history.csv", "a", encoding="utf-8") as file:
        file.write("1,0.5,0.5,0.5,0.5,0.5,0.5,0.5\n")
    train.run_training(whole)
    history = pd.read_csv(tmp_path / "stage_1_all" / "history.csv")
    assert list(history["epoch"]) == [0, 1, 2] and (history["loss"] != 0.5).all()
    reader = tf.train.load_checkpoint(str(tmp_path / "stage_1_all" / "last"))
    iterations, = (reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if "optimizer/_iterations" in key)
    assert iterations == 15  # 3 epochs of 50 // 10 steps, counted on over the interruption


def test_a_nan_ends_the_run_and_keeps_the_checkpoint(tiny_data, tmp_path):
    sgd = {"optimizer": "sgd", "momentum": 0.0}
    train.run_training(run(tiny_data, tmp_path, stage(epochs=1, lr=0.01, **sgd)))
    (tmp_path / "stage_1_all" / "DONE").unlink()
    (tmp_path / "run.json").unlink()
    with pytest.raises(WorkError, match="stage all: the loss became nan in epoch 2 at step 7, rate 1e.30, with .* the "
                                        "checkpoint of step 5 stands. Try a lower lr") as caught:
        train.run_training(run(tiny_data, tmp_path, stage(epochs=3, lr=1e30, **sgd)))
    told = json.loads((tmp_path / "stage_1_all" / "broken_batch.json").read_text())
    seen = inputs.train_examples(tiny_data.part("train"), zlib.crc32(b"42/all")).take(70)  # step 6 breaks the weights
    assert told["step"] == 7 and told["rows"] == [int(one["row"]) for one in seen][60:]
    table = tiny_data.examples("train").set_index("row")
    assert told["ids"] == [table["id"][row] for row in told["rows"]] and ", ".join(told["ids"][:4]) in str(caught.value)
    assert not runs.is_done(str(tmp_path / "stage_1_all"))
    built = classifiers.build("kecam/EfficientNetV2Tiny", 32, 3)
    checkpoint.load(tf.train.latest_checkpoint(str(tmp_path / "stage_1_all" / "last")), built)
    assert all(np.isfinite(weight.numpy()).all() for weight in built.model.weights)


COSINE = [0.5 * 0.02 * 0.5 * (1 + np.cos(np.pi * step / 10)) for step in (4, 9)]


@pytest.mark.parametrize("schedule, rates", [
    ("cosine", COSINE), pytest.param("plateau:0.5:9", [0.01, 0.01], marks=pytest.mark.slow)])
def test_a_rollback_goes_on_with_half_the_rate(schedule, rates, tiny_data, tmp_path, monkeypatch):
    told = iter([3])  # of a loss that is no number, once
    monkeypatch.setattr(TrainableClassifier, "broken_step", lambda self: next(told, None))
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0)
    train.run_training(run(tiny_data, tmp_path, stage(epochs=2, lr=0.02, lr_schedule=schedule), on_nan="rollback"))
    np.testing.assert_allclose(pd.read_csv(tmp_path / "stage_1_all" / "history.csv")["lr"], rates, rtol=1e-5)
    assert json.loads((tmp_path / "stage_1_all" / "DONE").read_text())["rate_factor"] == 0.5


@pytest.mark.slow
def test_three_rollbacks_are_all(tiny_data, tmp_path):
    sgd = {"optimizer": "sgd", "momentum": 0.0, "epochs": 2}
    rolling = run(tiny_data, tmp_path, stage(lr=1e30, **sgd), on_nan="rollback")
    with pytest.raises(WorkError, match="in epoch 1 at step 2, rate 1.25e.29"):
        train.run_training(rolling)
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "stage_1_all" / "last")))
    assert reader.get_tensor("steps/.ATTRIBUTES/VARIABLE_VALUE") == 0  # what it went back to each time


def test_weights_that_nobody_validates_are_looked_at(tiny_data, tmp_path):
    # Its loss is finite, and what it makes of the weights is not.
    one_step = stage(epochs=1, lr=1e38, weight_decay=100.0, optimizer="sgd", momentum=0.0, batch_size=61)
    with pytest.raises(WorkError, match="the weights became NaN or infinite in epoch 1. Try a lower lr"):
        train.run_training(run(tiny_data, tmp_path, one_step, train_split="train+val"))
    assert not list(tmp_path.rglob("ckpt*"))


@pytest.mark.slow
def test_lamb_trains_and_resumes(tiny_data, tmp_path):
    # tensorflow-addons' optimizer is of Keras' older kind, which makes its slots at the first step, after the restore.
    lamb = {"optimizer": "lamb", "lr": 0.02, "weight_decay": 1e-4, "clip_norm": 5.0, "label_smoothing": 0.1}
    train.run_training(run(tiny_data, tmp_path, stage(epochs=1, **lamb)))
    (tmp_path / "stage_1_all" / "DONE").unlink()
    (tmp_path / "run.json").unlink()
    train.run_training(run(tiny_data, tmp_path, stage(epochs=4, **lamb)))
    history = pd.read_csv(tmp_path / "stage_1_all" / "history.csv")
    assert list(history["epoch"]) == [0, 1, 2, 3]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


@pytest.mark.parametrize("changes", [
    {"precision": "mixed_bfloat16", "place_input": True}, {"train_split": "train+val", "steps_per_execution": 3},
    {"max_steps": 2, "warmup_epochs": 0.8}, pytest.param({"jit": True}, marks=pytest.mark.slow),
    pytest.param({"precision": "mixed_float16"}, marks=pytest.mark.slow)])
def test_ways_to_run(changes, tiny_data, tmp_path):
    changes = dict(changes)
    warmup = changes.pop("warmup_epochs", 0.0)  # 4 steps of 5: it is not the stage that max_steps makes shorter
    train.run_training(run(tiny_data, tmp_path, stage(warmup_epochs=warmup), **changes))
    history = pd.read_csv(tmp_path / "stage_1_all" / "history.csv")
    assert np.isfinite(history["loss"]).all()
    # Without anything held out, Keras' CSVLogger leaves those columns empty.
    assert history["val_loss"].isna().all() == (changes.get("train_split") == "train+val")
    done = json.loads((tmp_path / "stage_1_all" / "DONE").read_text())
    assert done["steps"] == {"train_split": 6, "max_steps": 2}.get(next(iter(changes)), 5)
    if changes.get("precision") == "mixed_float16":
        names = [name for name, _ in tf.train.list_variables(str(tmp_path / "stage_1_all" / "last"))]
        assert any("loss_scale" in name for name in names)
    if "precision" in changes:
        predict.run_prediction(tiny_data.directory, predict.Request(str(tmp_path), "test", str(tmp_path / "p"), tta="six",
                                                                    batch_size=4))
        assert np.isfinite(predictions.Predictions(str(tmp_path / "p")).rows(np.arange(7))).all()


def test_a_run_starts_from_an_earlier_one(two_stages, tiny_data, tmp_path):
    train.run_training(run(tiny_data, tmp_path, stage(train="head", lr=0.0), init_from=str(two_stages)))
    # A head stage at rate 0 leaves everything as it was found.
    for name in ("base", "head"):
        ours, theirs = weights_of(tmp_path / "stage_1_all", name), weights_of(two_stages / "stage_2_all", name)
        assert ours.keys() == theirs.keys() and ours
        assert all((ours[key] == theirs[key]).all() for key in ours)


def test_a_run_with_other_classes_takes_the_base_alone(two_stages, tmp_path):
    from dataset_tools import build

    raw_data.write_inat2021(tmp_path / "raw", train=12, val=4, test=3, classes=4)
    build.build("inat2021", str(tmp_path / "raw"), str(tmp_path / "records"))
    data = dataset.load(str(tmp_path / "records"))
    train.run_training(run(data, tmp_path / "m", stage(train="head", lr=0.0), init_from=str(two_stages)))
    ours, theirs = weights_of(tmp_path / "m" / "stage_1_all"), weights_of(two_stages / "stage_2_all")
    assert ours.keys() == theirs.keys() and all((ours[key] == theirs[key]).all() for key in ours)
    assert {array.shape for array in weights_of(tmp_path / "m" / "stage_1_all", "head").values()} >= {(4,)}


@pytest.mark.parametrize("changes, told", [
    ({"num_classes": 4}, "--num_classes=4"),
    ({"train_split": "tain"}, "no split 'tain'"),
    ({"train_split": "train+train"}, "twice"),
    ({"train_split": "test"}, "no labels"),
    ({"stage": {"size": 16}}, "at least 32 px"),
    ({"model": "keras/efficientnet-b99"}, "efficientnet-b99"),
    ({"weights": "imagenette"}, "imagenette"),
    ({"weights": "nowhere.h5"}, "nowhere.h5"),
    ({"tta": "seven"}, "seven"),
    ({"init_from": "/nowhere"}, "/nowhere"),
    ({"stage": {"randaugment": "many"}}, "many"),
    ({"stage": {"augment": "eval", "randaugment": "2:4"}}, "augment=eval"),
    ({"stage": {"freeze_place": True}}, "stage all: freeze_place=on: without --place_input"),
    ({"stage": {"eval_resize": "short:20"}}, "short:20"),
    ({"stage": {"train": "last:1000"}}, "last:1000"),
    ({"stage": {"train": "from:nothing"}}, "nothing"),
    ({"stage": {"warmup_epochs": 1.5}}, "stage all: a warm-up of 1.5 epochs .* of 1; give it warmup_epochs=1 at most"),
])
def test_mistakes_are_told_before_anything_is_trained(changes, told, tiny_data, tmp_path):
    changes = dict(changes)
    with pytest.raises(UserError, match=told):
        train.run_training(run(tiny_data, tmp_path / "m", stage(**changes.pop("stage", {})), **changes))
    assert not list(tmp_path.rglob("ckpt*"))


def test_a_shard_that_was_cut_short_is_named(tiny_data, tmp_path):
    import shutil

    records = shutil.copytree(tiny_data.directory, tmp_path / "records")
    shard, = records.glob("train.tfrecord*")
    shard.write_bytes(shard.read_bytes()[:-100])
    data = dataset.load(str(records))
    with pytest.raises(UserError, match=str(shard)):
        train.run_training(run(data, tmp_path / "m"))


def test_a_damaged_shard_of_the_right_size_is_told(tiny_data, tmp_path):
    import shutil

    records = shutil.copytree(tiny_data.directory, tmp_path / "records")
    shard, = records.glob("train.tfrecord*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(bytes(content))
    data = dataset.load(str(records))
    with pytest.raises(UserError, match=f"{shard} is damaged"):
        train.run_training(run(data, tmp_path / "m"))
