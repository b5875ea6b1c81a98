"""Several labels a picture through the commands: folds, thresholds in meta.json, evaluation, report, submission."""

import csv
import json
import re

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import fbeta_score, log_loss

import multi_label_raw
from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.metrics import multi_label
from pipeline.records import dataset
from pipeline.training import run_checks
from raw_data import assert_one_line_mistake, run_command
from training_runs import run, stage

TRAIN_FLAGS = ("--model=kecam/EfficientNetV2Tiny", "--loss=focal", "--mixup=0.2", "--cutmix=1", "--random_erasing=0.2",
               "--augment=imet", "--dropout=0.25", "--monitor=val_f2", "--optimizer=adam", "--batch_size=8",
               "--stage=name=all,epochs=2,size=32,lr=0.01,train=all", "--fold=all")


@pytest.fixture(scope="module")
def whole_way(tmp_path_factory):
    """Raw files, one test picture of which is broken, through every command; (folder, attributes by id, stdouts)."""
    folder = tmp_path_factory.mktemp("many")
    attributes = multi_label_raw.write(folder / "raw")
    (folder / "raw" / "test" / f"{45:016x}.png").write_bytes(b"no picture")
    printed = {}
    for script, *flags in (
        ("create_tfrecords.py", "--competition=imet2019", f"--data_dir={folder}/raw", f"--out_dir={folder}/records",
         "--folds=2"),
        ("multi_stage_train.py", f"--data_dir={folder}/records", f"--model_dir={folder}/model", *TRAIN_FLAGS),
        ("predict.py", f"--data_dir={folder}/records", f"--model_dir={folder}/model", "--split=test", "--tta=flip"),
        ("evaluate.py", f"--data_dir={folder}/records", f"--predictions={folder}/model/out_of_fold", "--blend=oof",
         f"--out={folder}/scores.json", f"--report={folder}/report.html"),
        ("make_submission.py", f"--data_dir={folder}/records", f"--predictions={folder}/model/predictions/test",
         f"--out={folder}/submission.csv"),
    ):
        done = run_command(script, *flags)
        assert done.returncode == 0, done.stderr
        printed[script] = done.stdout
    return folder, attributes, printed


def read_predictions(folder, attributes):
    """(ids, float64 probabilities, bool truth) of a predictions folder, by NumPy alone."""
    ids = (folder / "ids.txt").read_text().split()
    truth = np.array([[one in attributes[name] for one in multi_label_raw.ATTRIBUTES] for name in ids])
    return ids, np.exp(np.load(folder / "log_probabilities.npy").astype(np.float64)), truth


def answered(probabilities, threshold):
    return (probabilities >= threshold) | (probabilities == probabilities.max(axis=1, keepdims=True))


def f2_at(probabilities, truth, threshold):
    return fbeta_score(truth, answered(probabilities, threshold), beta=2, average="samples")


def test_evaluate_cross_fits_what_scikit_learn_scores(whole_way):
    folder, attributes, printed = whole_way
    scores = json.loads((folder / "scores.json").read_text())
    ids, probabilities, truth = read_predictions(folder / "model" / "out_of_fold", attributes)
    every = np.array([f2_at(probabilities, truth, threshold) for threshold in multi_label.THRESHOLDS])
    assert scores["threshold"] == pytest.approx((every.argmax() + 1) / 100)
    np.testing.assert_allclose(scores["curve"]["f2"], every)
    folds = dataset.load(str(folder / "records")).examples("train").set_index("id")["fold"].loc[ids].to_numpy()
    total = 0.0
    for fold in (0, 1):
        inside = folds == fold
        fitted = np.argmax([f2_at(probabilities[~inside], truth[~inside], one) for one in multi_label.THRESHOLDS])
        total += inside.sum() * f2_at(probabilities[inside], truth[inside], (fitted + 1) / 100)
    assert scores["f2"] == pytest.approx(total / len(ids))
    text = printed["evaluate.py"]
    assert f"f2 (cross-fitted): {scores['f2']:.4f}" in text
    assert f"{scores['threshold']:.2f}: {every.max():.4f}" in text


def test_the_table_of_folds_tells_f2_and_threshold(whole_way):
    folder, _, printed = whole_way
    lines = [line.split() for line in printed["multi_stage_train.py"].splitlines()]
    assert ["fold", "f2", "threshold", "epochs", "minutes"] in lines
    everything, = (line for line in lines if line and line[0] == "all")
    scores = json.loads((folder / "scores.json").read_text())
    assert everything[1:3] == [f"{scores['f2']:.4f}", f"{scores['threshold']:.4f}"]
    done = json.loads((folder / "model" / "fold_0" / "stage_1_all" / "DONE").read_text())
    assert done["monitor"] == "val_f2" and 0 < done["best"] <= 1


def test_the_threshold_goes_from_the_folds_to_the_test_predictions(whole_way):
    folder, attributes, _ = whole_way
    fitted = json.loads((folder / "scores.json").read_text())["threshold"]
    for place in ("out_of_fold", "predictions/test", "predictions/test/fold_0"):
        meta = json.loads((folder / "model" / place / "meta.json").read_text())
        assert (meta["threshold"], meta["kind"]) == (fitted, "sigmoid")
    own, (_, probabilities, truth) = (
        json.loads((folder / "model" / "fold_1" / "out_of_fold" / "meta.json").read_text()),
        read_predictions(folder / "model" / "fold_1" / "out_of_fold", attributes))
    assert own["threshold"] == pytest.approx(
        (np.argmax([f2_at(probabilities, truth, one) for one in multi_label.THRESHOLDS]) + 1) / 100)


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_submission_answers_what_reaches_the_threshold(whole_way):
    folder, attributes, printed = whole_way
    threshold = json.loads((folder / "scores.json").read_text())["threshold"]
    header, *rows = read_csv(folder / "submission.csv")
    assert header == ["id", "attribute_ids"] and [row[0] for row in rows] == [f"{one:016x}" for one in range(43, 49)]
    ids, probabilities, _ = read_predictions(folder / "model" / "predictions" / "test", attributes)
    answers = dict(rows)
    for one, row in zip(ids, answered(probabilities, threshold)):
        assert set(answers[one].split()) == {name for name, chosen in zip(multi_label_raw.ATTRIBUTES, row) if chosen}
    assert set(answers[f"{45:016x}"].split()) == set(multi_label_raw.ATTRIBUTES)  # each is in 4 of 7 train pictures
    assert f"{threshold:.2g}" in printed["make_submission.py"]


def submit(folder, out, *flags):
    done = run_command("make_submission.py", f"--data_dir={folder}/records",
                       f"--predictions={folder}/model/predictions/test", f"--out={out}", *flags)
    return done


def test_a_given_threshold_and_rare_labels(whole_way, tmp_path):
    folder, _, _ = whole_way
    assert submit(folder, tmp_path / "one.csv", "--threshold=1").returncode == 0
    assert all(len(row[1].split()) == 1 for row in read_csv(tmp_path / "one.csv")[1:])
    assert submit(folder, tmp_path / "all.csv", "--threshold=0", "--min_samples=25").returncode == 0
    counts = [one.train_count for one in dataset.load(str(folder / "records")).manifest.classes]
    assert counts == [25, 24, 24]
    assert {row[1] for row in read_csv(tmp_path / "all.csv")[1:]} == {"7"}
    assert_one_line_mistake(submit(folder, tmp_path / "none.csv", "--min_samples=26"), "--min_samples=26", "25")


def test_the_threshold_of_predictions_that_stand_alone(whole_way, tmp_path):
    folder, _, _ = whole_way
    source = predictions.Predictions(str(folder / "model" / "predictions" / "test"))
    for name, threshold in (("a", 0.2), ("b", 0.4), ("none", None)):
        predictions.write(str(tmp_path / name), source.chunks(),
                          {**source.meta, "model_dir": str(tmp_path / "gone"), "threshold": threshold})

    def submitted(*names):
        return run_command("make_submission.py", f"--data_dir={folder}/records", f"--out={tmp_path}/s.csv",
                           *(f"--predictions={tmp_path}/{name}" for name in names))

    assert "from a probability of 0.3\n" in submitted("a", "b").stdout
    assert_one_line_mistake(submitted("a", "none"), "--threshold", f"{tmp_path}/none")


def test_a_temperature_lies_under_the_threshold(whole_way, tmp_path):
    folder, attributes, _ = whole_way
    done = run_command("evaluate.py", f"--data_dir={folder}/records", f"--predictions={folder}/model/out_of_fold",
                       "--calibrate", f"--calibration={tmp_path}/c.json", f"--out={tmp_path}/scores.json")
    assert done.returncode == 0, done.stderr
    fitted, scores = (json.loads((tmp_path / name).read_text()) for name in ("c.json", "scores.json"))
    ids, probabilities, truth = read_predictions(folder / "model" / "out_of_fold", attributes)
    logits, temperature = special.logit(probabilities), fitted["temperature"]
    folds = dataset.load(str(folder / "records")).examples("train").set_index("id")["fold"].loc[ids].to_numpy()
    by_fold = np.array([fitted["by_group"][str(one)] for one in folds])[:, np.newaxis]
    for line, tempered in (("picture", logits), ("+ temperature", logits / by_fold)):
        found = scores["calibration"][line]
        assert found["log_loss"] == pytest.approx(log_loss(truth.ravel(), special.expit(tempered).ravel()), abs=1e-5)
        sure = special.expit(tempered).max(axis=1)
        assert sum(one["count"] * one["confidence"] for one in found["bins"]) == pytest.approx(sure.sum(), rel=1e-4)
    losses = [log_loss(truth.ravel(), special.expit(logits / temperature * by).ravel()) for by in (0.98, 1, 1.02)]
    assert min(losses) == losses[1] and abs(temperature - 1) > 0.02

    done = submit(folder, tmp_path / "s.csv", f"--calibration={tmp_path}/c.json")
    assert done.returncode == 0, done.stderr
    every = [f2_at(special.expit(logits / temperature), truth, one) for one in multi_label.THRESHOLDS]
    assert f"from a probability of {(np.argmax(every) + 1) / 100:.4g}\n" in done.stdout
    assert "there --tta=none, here --tta=flip" in done.stdout and scores["threshold"] == (np.argmax(every) + 1) / 100


def test_several_members_are_told_apart(whole_way, tmp_path):
    folder, attributes, _ = whole_way
    _, probabilities, truth = read_predictions(folder / "model" / "out_of_fold", attributes)
    source = predictions.Predictions(str(folder / "model" / "out_of_fold"))
    noise = np.random.default_rng(0).uniform(0.1, 0.9, probabilities.shape)
    predictions.write(str(tmp_path / "noise"), [(source.ids, np.log(noise))], source.meta)
    done = run_command("evaluate.py", f"--data_dir={folder}/records", f"--predictions={folder}/model/out_of_fold",
                       f"--predictions={tmp_path}/noise", "--blend=oof", f"--out={tmp_path}/scores.json",
                       f"--report={tmp_path}/report.html")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    good, bad = f"{folder}/model/out_of_fold", f"{tmp_path}/noise"
    assert list(scores["lines"]) == [good, bad, f"mean without {good}", f"mean without {bad}", "mean",
                                     "blend oof (cross-fitted)"]
    assert scores["lines"][f"mean without {good}"] == scores["lines"][bad]
    assert scores["weights"][good] > scores["weights"][bad] and sum(scores["weights"].values()) == pytest.approx(1)


def test_the_report_shows_labels_and_the_curve(whole_way):
    folder, _, _ = whole_way
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "tag::12" in page and ">Labels</h2>" in page and "F2 of the most frequent labels" in page
    assert page.count("<svg") == 4  # F2 over thresholds, reliability, loss and F2 of both folds
    assert "class activation maps" in page and page.count('src="data:image/jpeg') == 24
    assert re.search(r"<td>24</td>", page)


@pytest.mark.parametrize("changes, words", [
    ({"loss": "softmax"}, ["several labels", "--loss=sigmoid"]),
    ({"loss": "focal", "monitor": "val_accuracy"}, ["val_accuracy", "val_f2"]),
])
def test_losses_and_monitors_for_one_label_are_refused(tiny_multi_label_data, changes, words, tmp_path):
    _assert_refused(tiny_multi_label_data, tmp_path, stage(**changes), words)


@pytest.mark.parametrize("changes, of_run, words", [
    ({"loss": "sigmoid"}, {}, ["one", "--loss=softmax"]),
    ({"monitor": "val_f2"}, {}, ["val_f2", "val_accuracy"]),
    ({"augment": "eval", "random_erasing": 0.1}, {}, ["random_erasing", "augment=eval"]),
    ({"augment": "eval", "jitter": 0.4}, {}, ["jitter=0.4", "augment=eval"]),
    ({"augment": "eval", "pca_noise": 0.1}, {}, ["pca_noise=0.1", "augment=eval"]),
    ({"mixup": 0.2, "cutmix": 1.0, "mixup_draw": "picture"}, {}, ["mixup_draw=picture", "cutmix=1"]),
    ({"eval_resize": "crop:0"}, {}, ["eval_resize", "crop:PIXELS"]),
    ({}, {"tta": "crops"}, ["--tta=crops", "eval_resize=crop:N"]),
    ({"mixup": 0.2}, {"place_input": True}, ["mixup", "--place_input"]),
])
def test_what_does_not_go_together_is_refused(tiny_data, changes, of_run, words, tmp_path):
    _assert_refused(tiny_data, tmp_path, stage(**changes), words, **of_run)


def _assert_refused(data, folder, one, words, **of_run):
    asked = run(data, folder / "m", one, **of_run)
    with pytest.raises(UserError) as raised:
        run_checks.check_flags(asked)
        run_checks.check(asked, data)
    for word in words:
        assert word in str(raised.value)


def test_thresholds_for_one_label_a_picture_are_refused(tiny_data, tmp_path):
    predictions.write(str(tmp_path / "p"), [], {"examples": 0, "class_ids": tiny_data.class_ids, "split": "test"})
    done = run_command("make_submission.py", f"--data_dir={tiny_data.directory}", f"--predictions={tmp_path}/p",
                       f"--out={tmp_path}/s.csv", "--threshold=0.2")
    assert_one_line_mistake(done, "--threshold", "one")
