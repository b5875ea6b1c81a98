"""train=probe through the commands: what it predicts is what scikit-learn's own fit to the same features predicts."""

import csv
import io
import json
import shutil
import types

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import raw_data
from dataset_tools import build
from pipeline.answers import predictions
from pipeline.models import classifier
from pipeline.records import dataset
from pipeline.runs import patterns
from pipeline.training import probe_parts
from raw_data import assert_one_line_mistake, run_command

MODEL = "kecam/EfficientNetV2Tiny"
SIZE = 32
PROBE = f"--stage=name=probe,size={SIZE},train=probe"
FLAGS = (f"--model={MODEL}", "--batch_size=10", "--dropout=0.5")


def make_data(folder, val_seed=0, folds=0):
    """60 train, 12 val and 4 test pictures of just the stage's size, so that nothing is resized, of 3 classes that overlap."""
    raw_data.write_inat2021(folder / "raw", 60, 12, 4)
    for path in (folder / "raw").glob("*/*.jpg"):
        one = int(path.stem)
        rng = np.random.default_rng(one + val_seed * (path.parent.name == "val"))
        pixels = rng.integers(0, 200, (SIZE, SIZE, 3), dtype=np.uint8)
        pixels[..., one % 3] += np.uint8(rng.integers(0, 30))
        path.write_bytes(raw_data.encode(pixels, quality=95))
    build.build("inat2021", str(folder / "raw"), str(folder / "records"), folds=folds)
    return dataset.load(str(folder / "records"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("probe"))


def train(data, model_dir, *flags):
    return run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}", *FLAGS, *flags)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The folder of a probe alone."""
    model_dir = tmp_path_factory.mktemp("model")
    done = train(data, model_dir, PROBE)
    assert done.returncode == 0, done.stderr
    return model_dir


def network(seed=42):
    """From pixels [n, size, size, 3] to features: the network that the run begins with."""
    built = classifier.build(MODEL, SIZE, 3, base_training=False, seed=seed)
    return lambda pixels: built.base(built.model.get_layer("scaling")(pixels)).numpy().mean(axis=(1, 2))


def read(data, split):
    """(ids, features float64, labels) of a split, in file order, decoded by Pillow."""
    records = raw_data.read_records(*data.part(split).paths)
    pixels = np.stack([np.asarray(PIL.Image.open(io.BytesIO(one["image/encoded"]))) for one in records])
    ids, labels = [one["image/source_id"].decode() for one in records], [one["image/object/class/label"][0] for one in records]
    return ids, network()(pixels.astype(np.float32)).astype(np.float64), np.array(labels)


def done_of(folder):
    return json.loads((folder / "DONE").read_text())


def test_predictions_are_scikit_learns(data, trained, tmp_path):
    model_dir = trained
    done = run_command("predict.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}", "--split=val",
                       f"--out={tmp_path / 'val'}")
    assert done.returncode == 0, done.stderr
    found = predictions.Predictions(str(tmp_path / "val"))
    strength = done_of(model_dir / "stage_1_probe")["C"]
    ids, features, labels = read(data, "train")
    val_ids, val_features, val_labels = read(data, "val")
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)).fit(features, labels)
    rows = [found.ids.index(one) for one in val_ids]
    probabilities = np.exp(found.rows(np.arange(len(rows)))[rows])
    np.testing.assert_allclose(probabilities, expected.predict_proba(val_features), atol=1e-3)
    with open(model_dir / "stage_1_probe" / "history.csv", encoding="utf-8") as file:
        (history,) = csv.DictReader(file)
    assert float(history["val_accuracy"]) == pytest.approx(expected.score(val_features, val_labels))
    assert float(history["loss"]) == pytest.approx(
        -np.log(expected.predict_proba(features)[np.arange(60), labels]).mean(), abs=1e-3)


def test_the_regularization_is_the_one_of_least_loss_by_cross_validation(data, trained):
    told = done_of(trained / "stage_1_probe")
    _, features, labels = read(data, "train")
    standard = StandardScaler().fit_transform(features)
    for one in told["cross_validation"]:
        given = np.zeros(60)
        for trained, held_out in StratifiedKFold(3, shuffle=True, random_state=42).split(standard, labels):
            fitted = LogisticRegression(C=one["C"], tol=1e-8, max_iter=10_000).fit(standard[trained], labels[trained])
            given[held_out] = fitted.predict_proba(standard[held_out])[np.arange(len(held_out)), labels[held_out]]
        assert one["log_loss"] == pytest.approx(-np.log(given).mean(), abs=1e-2)
    best = min(told["cross_validation"], key=lambda one: one["log_loss"])
    assert told["C"] == best["C"] and len(told["cross_validation"]) > 3


def test_features_are_computed_once(data, trained, tmp_path):
    """Those that stood when a process was killed stay, and the others come to them."""
    copy = tmp_path / "model"
    shutil.copytree(trained, copy)
    folder = copy / "stage_1_probe"
    (folder / "DONE").unlink()
    whole = {kind: np.load(folder / "features" / f"{kind}-000000000.npy") for kind in ("rows", "features")}
    for kind, values in whole.items():
        np.save(folder / "features" / f"{kind}-000000000.npy", values[:10])
    before = (folder / "features" / "features-000000000.npy").stat().st_mtime_ns
    done = train(data, copy, PROBE, "--optimizer=adamw", "--mixup=0.2")  # which mean nothing to it
    assert done.returncode == 0, done.stderr
    assert (folder / "features" / "features-000000000.npy").stat().st_mtime_ns == before
    np.testing.assert_array_equal(np.load(folder / "features" / "features-000000010.npy"), whole["features"][10:])
    np.testing.assert_array_equal(head_of(folder)[0], head_of(trained / "stage_1_probe")[0])
    (folder / "DONE").unlink()
    done = train(data, copy, PROBE)
    assert "features of 60 pictures stand in" in done.stderr
    assert_one_line_mistake(train(data, copy, PROBE, "--tta=flip"), "probe_tta was 'none', is 'flip'")


def test_what_is_held_out_changes_nothing(trained, tmp_path):
    done = train(make_data(tmp_path, val_seed=1000), tmp_path / "model", PROBE)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(head_of(tmp_path / "model" / "stage_1_probe")[0], head_of(trained / "stage_1_probe")[0])


def head_of(stage_dir, kind="last"):
    """(kernel, bias) of a stage's checkpoint."""
    reader = tf.train.load_checkpoint(patterns.latest(str(stage_dir / kind)))
    return [reader.get_tensor(f"head/{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in ("kernel", "bias")]


def test_mistakes_of_a_probe(data, tmp_path):
    assert_one_line_mistake(train(data, tmp_path / "m", f"{PROBE},lr=0.1"), "lr means nothing with train=probe")
    assert_one_line_mistake(train(data, tmp_path / "m", PROBE, "--place_input"), "train=probe", "--place_input")


@pytest.mark.slow
def test_by_folds_the_next_stage_begins_with_the_probes_head_and_evaluate_tells_it(tmp_path):
    data = make_data(tmp_path, folds=2)
    model_dir = tmp_path / "model"
    done = train(data, model_dir, PROBE, f"--stage=name=head,epochs=1,size={SIZE},lr=0,train=head", "--fold=all", "--tta=flip")
    assert done.returncode == 0, done.stderr
    assert "the probe, out of fold: accuracy" in done.stdout
    for fold in ("fold_0", "fold_1"):
        probe, after = (head_of(model_dir / fold / stage) for stage in ("stage_1_probe", "stage_2_head"))
        for ours, theirs in zip(probe, after):
            np.testing.assert_array_equal(ours, theirs)
        rows = np.concatenate([np.load(one) for one in (model_dir / fold / "stage_1_probe" / "features").glob("rows-*.npy")])
        examples = data.examples("train").set_index("row")
        assert set(examples.loc[rows, "fold"]) == {1 - int(fold[-1])} and len(rows) == (examples["fold"] != int(fold[-1])).sum()
    done = run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={model_dir / 'out_of_fold'}",
                       f"--out={tmp_path / 'scores.json'}")
    scores = json.loads((tmp_path / "scores.json").read_text())
    (probe,) = scores["probe"].values()
    assert probe["top1"] == scores["top1"] and probe["examples"] == 60  # at a rate of 0 nothing has moved
    assert f"the probe has top-1 {probe['top1']:.4f}, top-5 1.0000 ({model_dir}/probe/out_of_fold)" in done.stdout


@pytest.mark.slow
def test_several_labels_one_against_the_rest_on_two_replicas(tiny_multi_label_data, tmp_path):
    data = tiny_multi_label_data
    done = train(data, tmp_path / "model", PROBE, "--fold=0", "--virtual_replicas=2")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "model" / "fold_0" / "stage_1_probe"
    rows, features = (np.load(folder / "features" / f"{kind}-000000000.npy") for kind in ("rows", "features"))
    assert sorted(rows) == sorted(data.without_fold("train", 0).examples()["row"])
    labels = data.examples("train").set_index("row").loc[rows, "labels"]
    targets = np.array([[index in one for index in range(3)] for one in labels])
    expected = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(
        C=done_of(folder)["C"], tol=1e-8, max_iter=10_000))).fit(features.astype(np.float64), targets)
    kernel, bias = head_of(folder)
    found = 1 / (1 + np.exp(-(features @ kernel + bias)))
    np.testing.assert_allclose(found, expected.predict_proba(features), atol=1e-3)
    done = run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={tmp_path / 'model/fold_0/out_of_fold'}")
    assert done.returncode == 0, done.stderr
    assert "the probe has" not in done.stdout  # which is what is scored


def test_groups_and_copies_are_held_out_together():
    """Also where a picture is a copy of one and of a group with another; else every part has its share of each label."""
    count = 60
    examples = pd.DataFrame({
        "id": [f"p{number}" for number in range(count)], "fold": -1, "labels": [[number % 2] for number in range(count)],
        "group": [f"camera {number // 4}" if number < 40 else "" for number in range(count)]})
    manifest = types.SimpleNamespace(duplicates=(("p3", "p50", "p59"),), parted_copies=0)
    parts = probe_parts.divide(examples, manifest, seed=1)
    assert (parts.reshape(-1, 4)[:10] == parts[:40:4, np.newaxis]).all() and parts[0] == parts[50] == parts[59]
    assert np.bincount(parts).min() >= 16
    alone = probe_parts.divide(examples.assign(group=""), types.SimpleNamespace(duplicates=(), parted_copies=0), seed=1)
    assert np.bincount(alone).tolist() == [20] * 3
