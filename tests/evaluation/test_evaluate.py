"""evaluate.py and make_submission.py with priors on top, as functions with a stand-in geo prior and as commands."""

import csv
import json

import numpy as np
import pytest

import make_submission
from pipeline.answers import fusion, open_set, predictions, priors
from pipeline.answers.example_table import ExampleTable
from pipeline.errors import UserError
from pipeline.evaluation import ablation, evaluate as evaluation
from predicted_data import StandInPrior, make_dataset, random_logs, random_places, write_predictions
from raw_data import assert_one_line_mistake, run_command

COUNT, TEST_COUNT = 150, 20
COUNTS = (200, 40, 6)  # of train: a class of each group of the long tail
TEST_LOGS = random_logs(TEST_COUNT, seed=3)
EVERYTHING = priors.Request("geo", 1.0, 1.0)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(priors, "_load", lambda directory: StandInPrior(["100", "101", "102"]))


@pytest.fixture
def case(tmp_path):
    """(folder, data, labels of val, log-probabilities of val, places of val); m is the model directory."""
    labels, places = np.arange(COUNT) % 3, random_places(COUNT + TEST_COUNT)
    # About the favourite meridians of the stand-in's classes.
    places[:COUNT, 1] = 100 + 37 * labels + 0.3 * places[:COUNT, 1]
    logs = random_logs(COUNT) + np.log(COUNTS) * 0.5
    logs[np.arange(COUNT), labels] += 0.7
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    data = make_dataset(tmp_path / "records", [*labels.tolist(), *[None] * TEST_COUNT], places, train_counts=COUNTS,
                        splits=["val"] * COUNT + ["test"] * TEST_COUNT)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "run.json").write_text('{"same": {"stage_order": [], "stages": {}}, "free": {"folds": 0, "stage_dirs": []}}')
    write_predictions(tmp_path / "m" / "predictions" / "val", data, logs, model_dir=str(tmp_path / "m"))
    return tmp_path, data, labels, logs, places[:COUNT]


def evaluate(folder, data, **changes):
    """evaluate.py's JSON for the predictions of val."""
    evaluation.run_evaluation(data.directory, evaluation.Request(**{
        "predictions": [str(folder / "m" / "predictions" / "val")], "out": str(folder / "scores.json"), **changes}))
    return json.loads((folder / "scores.json").read_text())


def by_hand(logs, labels, places, geo=0.0, power=0.0):
    """Top-1 hits of the formula in float64."""
    fused = logs - power * np.log(np.array(COUNTS) / sum(COUNTS))
    place = StandInPrior(["100", "101", "102"]).log_probabilities(*np.nan_to_num(places).T)
    fused = fused + np.where(np.isnan(places[:, :1]), 0, geo * place)
    return fused.argmax(axis=1) == labels


def test_each_step_is_scored_with_and_without(case):
    folder, data, labels, logs, places = case
    scores = evaluate(folder, data, priors=EVERYTHING)
    expected = {"picture": by_hand(logs, labels, places), "+ prior correction": by_hand(logs, labels, places, power=1),
                "+ geo": by_hand(logs, labels, places, geo=1), "+ both": by_hand(logs, labels, places, geo=1, power=1)}
    assert list(scores["steps"]) == list(expected)
    for name, hits in expected.items():
        line = scores["steps"][name]
        assert line["top1"] == pytest.approx(hits.mean())
        low, high = line["top1_interval"]
        assert low < line["top1"] < high
        assert scores["long_tail"]["few-shot (< 20)"]["top1"][name] == pytest.approx(hits[labels == 2].mean())
    assert scores["top1"] == scores["steps"]["+ both"]["top1"]  # what a submission with the same flags would have
    assert scores["steps"]["+ both"]["geo_exponent"] == 1.0
    assert scores["long_tail"]["many-shot (> 100)"]["classes"] == 1
    assert list(scores["lines"].values())[0]["top1"] == pytest.approx(expected["picture"].mean())


@pytest.mark.parametrize("request_, names", [
    (priors.Request(), ["picture"]),
    (priors.Request(prior_correction=0.5), ["picture", "+ prior correction"]),
    (priors.Request("geo"), ["picture", "+ geo"]),
])
def test_only_what_was_asked_for_has_a_line(case, request_, names):
    folder, data, *_ = case
    assert list(evaluate(folder, data, priors=request_)["steps"]) == names


def test_the_last_line_is_everything_with_test_time_augmentation(case, capsys):
    folder, data, labels, logs, places = case
    views = random_logs(COUNT, seed=5)
    views[np.arange(COUNT), labels] += 3
    many = write_predictions(folder / "six", data, views, model_dir=str(folder / "m"), tta="six")
    scores = evaluate(folder, data, predictions=[many], without_tta=[str(folder / "m" / "predictions" / "*")],
                      priors=EVERYTHING, report=str(folder / "report.html"))
    assert list(scores["steps"]) == ["picture", "+ prior correction", "+ geo", "+ both", "+ TTA"]
    assert scores["steps"]["+ both"]["top1"] == pytest.approx(by_hand(logs, labels, places, 1, 1).mean())
    assert scores["top1"] == pytest.approx(by_hand(views, labels, places, 1, 1).mean())
    page, printed = (folder / "report.html").read_text(), capsys.readouterr().out
    for text in ("+ TTA", "few-shot", "95 %"):
        assert text.replace("<", "&lt;") in page and text in printed
    placed = int((~np.isnan(places[:, 0])).sum())
    assert f"{placed} of {COUNT} pictures have a place" in printed


@pytest.mark.parametrize("meta, told", [
    ({"tta": "flip"}, "--tta=flip"), ({"model_dir": "another"}, "none is of another"),
    ({"fold": [0]}, "none is of"),
])
def test_predictions_by_one_view_are_of_the_same_models(case, meta, told):
    folder, data, _, logs, _ = case
    one = write_predictions(folder / "one", data, logs, **{"model_dir": str(folder / "m"), **meta})
    many = write_predictions(folder / "six", data, logs, tta="six", model_dir=meta.get("model_dir", "m"))
    if "model_dir" in meta:
        one = str(folder / "m" / "predictions" / "val")
    else:
        many = str(folder / "m" / "predictions" / "val")
    with pytest.raises(UserError, match="--without_tta.*" + told):
        evaluate(folder, data, predictions=[many], without_tta=[one])


def test_a_fitted_exponent_is_scored_by_cross_fitting(case):
    folder, data, labels, logs, places = case
    scores = evaluate(folder, data, priors=priors.Request("geo", priors.FIT))
    told = scores["steps"]["+ geo"]["geo_exponent"]
    fixed = evaluate(folder, data, priors=priors.Request("geo", told))
    assert fixed["log_loss"] < scores["log_loss"] < scores["steps"]["picture"]["log_loss"]
    near = [evaluate(folder, data, priors=priors.Request("geo", told + step))["log_loss"] for step in (-0.02, 0.02)]
    assert fixed["log_loss"] < min(near)


def test_weights_and_exponent_are_both_cross_fitted(case):
    """No example is scored by anything that its own label, or another of its group, had a part in."""
    folder, data, labels, _, places = case
    other = write_predictions(folder / "n" / "predictions" / "val", data, random_logs(COUNT, seed=9))
    members = fusion.find([str(folder / "m" / "predictions" / "val"), other])
    groups = ExampleTable(data, "val").groups(members[0].ids)

    def scored_by(changed_labels):
        changed = make_dataset(folder / "changed", changed_labels.tolist(), places, train_counts=COUNTS)
        view = ablation.View(members, "oof", ExampleTable(changed, "val"))
        line = view.lines(priors.Priors(priors.Request("geo", priors.FIT), changed))["+ geo"]
        return np.concatenate([one for _, one in line.predicted.chunks()])

    before = scored_by(labels)
    mixed = labels.copy()
    mixed[groups == 2] = (mixed[groups == 2] + 1) % 3
    after = scored_by(mixed)
    np.testing.assert_array_equal(before[groups == 2], after[groups == 2])
    assert (before[groups != 2] != after[groups != 2]).any()


def submission(folder, data, request, **meta):
    """make_submission.py's rows for random predictions of test."""
    write_predictions(folder / "test", data, TEST_LOGS, "test", **{"model_dir": str(folder / "m"), **meta})
    make_submission.make_submission(data.directory, [str(folder / "test")], str(folder / "s.csv"), priors_request=request)
    with open(folder / "s.csv", newline="", encoding="utf-8") as file:
        return {row["Id"]: row["Predicted"].split() for row in csv.DictReader(file)}


def test_a_submission_ranks_by_the_corrected_probabilities(case):
    folder, data, *_ = case
    rows = submission(folder, data, EVERYTHING)
    table = ExampleTable(data, "test")
    places = table.places(table.ids)
    place = StandInPrior(data.class_ids).log_probabilities(*np.nan_to_num(places).T)
    fused = TEST_LOGS - np.log(np.array(COUNTS)) + np.where(np.isnan(places[:, :1]), 0, place)
    assert rows == {one: [str(100 + answer) for answer in np.argsort(-row)] for one, row in zip(table.ids, fused)}
    assert rows != submission(folder, data, priors.Request())


def test_a_submissions_exponent_is_fitted_on_the_same_models_labelled_predictions(case, capsys):
    folder, data, *_ = case
    request = priors.Request("geo", priors.FIT, 1.0)
    told = evaluate(folder, data, priors=request)["steps"]["+ both"]["geo_exponent"]
    submission(folder, data, request)
    assert 0.1 < told < 3.9 and f"exponent {told:.3f}" in capsys.readouterr().out.splitlines()[-2]


def test_a_submission_without_anything_to_fit_on_says_so(case):
    folder, data, *_ = case
    with pytest.raises(UserError, match="--geo_exponent=fit: .*nowhere has no out-of-fold predictions"):
        submission(folder, data, priors.Request("geo", priors.FIT), model_dir=str(folder / "nowhere"))


def test_the_sum_of_outsiders_is_taken_of_the_corrected_probabilities():
    logs = np.log([[0.5, 0.3, 0.2]])
    corrected = logs - np.log([0.8, 0.1, 0.1])
    known = np.array([True, False, False])
    assert open_set.rank(logs, known, 1, "sum")[0, 0] == 0
    assert open_set.rank(corrected, known, 1, "sum")[0, 0] == open_set.UNKNOWN


@pytest.mark.parametrize("script, flags, words", [
    ("evaluate.py", ["--geo_exponent=fit"], ["--geo_exponent", "--geo_prior"]),
    ("evaluate.py", ["--geo_prior=g", "--geo_exponent=warm"], ["--geo_exponent=warm", "fit"]),
    ("evaluate.py", ["--geo_prior=g", "--geo_exponent=-1"], ["--geo_exponent=-1"]),
    ("make_submission.py", ["--geo_prior=g", "--geo_exponent=nan", "--out=s.csv"], ["--geo_exponent=nan"]),
    ("make_submission.py", ["--prior_correction=-1", "--out=s.csv"], ["prior_correction"]),
    ("evaluate.py", ["--without_tta=nowhere/*"], ["--without_tta", "nowhere"]),
])
def test_mistakes(case, script, flags, words):
    folder, data, *_ = case
    done = run_command(script, f"--data_dir={data.directory}", f"--predictions={folder}/m/predictions/val", *flags)
    assert_one_line_mistake(done, *words)


def test_prior_correction_through_the_commands(case):
    folder, data, labels, logs, places = case
    done = run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={folder}/m/predictions/val",
                       "--prior_correction=1", f"--out={folder}/scores.json", f"--report={folder}/report.html")
    assert done.returncode == 0, done.stderr
    scores = json.loads((folder / "scores.json").read_text())
    expected = by_hand(logs, labels, places, power=1).mean()
    assert scores["top1"] == pytest.approx(expected) and f"{1 - expected:.4f}" in done.stdout
    assert "few-shot" in (folder / "report.html").read_text()
    write_predictions(folder / "test", data, TEST_LOGS, "test")
    done = run_command("make_submission.py", f"--data_dir={data.directory}", f"--predictions={folder}/test",
                       "--prior_correction=1", f"--out={folder}/s.csv")
    assert done.returncode == 0, done.stderr
    with open(folder / "s.csv", newline="", encoding="utf-8") as file:
        answers = {row["Id"]: row["Predicted"].split()[0] for row in csv.DictReader(file)}
    first = (TEST_LOGS - np.log(COUNTS)).argmax(axis=1)
    assert answers == {f"p{COUNT + index}": str(100 + one) for index, one in enumerate(first)}


def test_the_folds_that_stand_are_scored(tmp_path):
    """Of a run of which a fold had died, they were refused: they lack the pictures of that one."""
    data, logs = make_dataset(tmp_path / "records", [0, 1, 2, 1] * 3, folds=3), random_logs(12)
    stand = [index for index in range(12) if index % 3 != 1]
    predictions.write(str(tmp_path / "m"), [([f"p{index}" for index in stand], logs[stand].astype(np.float32))], {
        "examples": 8, "class_ids": data.class_ids, "split": "val", "model_dir": str(tmp_path), "tta": "none",
        "fold": [0, 2], "out_of_fold": True, "dataset": {"classes": data.classes_digest()}})
    done = run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={tmp_path}/m",
                       f"--out={tmp_path}/s.json")
    assert done.returncode == 0, done.stderr
    assert "8 examples of fold(s) 0, 2 of 3" in done.stdout
    expected = np.mean([logs[index].argmax() == [0, 1, 2, 1][index % 4] for index in stand])
    assert json.loads((tmp_path / "s.json").read_text())["top1"] == pytest.approx(expected)
