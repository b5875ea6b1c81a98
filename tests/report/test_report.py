"""The report's tables against counts by hand, and its page."""

import base64
import io
import json
import re
import time
import types

import numpy as np
import pandas as pd
from PIL import Image
import pytest
from sklearn import metrics as sklearn_metrics

from pipeline.answers import fusion, predictions
from pipeline.answers.example_table import ExampleTable
from pipeline.evaluation import evaluate as evaluation
from pipeline.report import classes, curves, looks, outcomes as of_outcomes
from predicted_data import make_dataset

NAMES = ("accuracy", "loss", "val_accuracy", "val_loss")


@pytest.fixture
def predicted(tiny_data, tmp_path):
    """Predictions of val by a model that is right about two thirds of the time."""
    examples = tiny_data.examples("val")
    labels = np.array([one[0] for one in examples["labels"]])
    rng = np.random.default_rng(0)
    answers = np.where(rng.random(len(labels)) < 0.6, labels, rng.integers(0, 3, len(labels)))
    matrix = np.full((len(labels), 3), 0.1)
    matrix[np.arange(len(labels)), answers] = 0.8
    predictions.write(str(tmp_path / "val"), [(list(examples["id"]), np.log(matrix))], {
        "examples": len(labels), "class_ids": tiny_data.class_ids, "split": "val", "model_dir": str(tmp_path),
        "dataset": {"classes": tiny_data.classes_digest()}})
    return labels, answers


def write_run(folder) -> None:
    """A run of two stages and two folds that has a history and nothing else."""
    stages = {"head": {"name": "head", "validate_every": 1.0, "size": 32, "train": "head", "eval_resize": "squash",
                       "keep": "best"}, "all": {"name": "all", "validate_every": 0.5, "size": 32, "train": "all",
                                                "eval_resize": "squash", "keep": "best"}}
    (folder / "run.json").write_text(json.dumps({
        "program": "multi_stage_train.py", "same": {"stage_order": ["head", "all"], "stages": stages, "model": "tiny"},
        "free": {"folds": 2, "stage_dirs": ["stage_1_head", "stage_2_all"], "class_ids": []}, "versions": {"python": "3.x"}}))
    for fold in range(2):
        for stage, epochs in (("stage_1_head", 2), ("stage_2_all", 4)):
            made = folder / f"fold_{fold}" / stage
            made.mkdir(parents=True)
            pd.DataFrame({"epoch": range(epochs), **{name: np.linspace(1, 0.5, epochs) for name in NAMES}}).to_csv(
                made / "history.csv", index=False)


def test_confusions_equal_scikit_learn(predicted, tiny_data, tmp_path):
    labels, answers = predicted
    blended = fusion.Blend(fusion.find([str(tmp_path / "val")]))
    found = of_outcomes.single_label(blended, ExampleTable(tiny_data, "val"))
    np.testing.assert_array_equal(found["label"], labels)
    np.testing.assert_array_equal(found["answer"], answers)
    np.testing.assert_allclose(found["confidence"], 0.8, atol=1e-3)
    np.testing.assert_allclose(found["own"], np.where(labels == answers, 0.8, 0.1), atol=1e-3)
    matrix = sklearn_metrics.confusion_matrix(labels, answers, labels=[0, 1, 2])
    table = classes.by_class(found, tiny_data)
    names = [one.name for one in tiny_data.manifest.classes]
    recall = sklearn_metrics.recall_score(labels, answers, labels=[0, 1, 2], average=None)
    for _, row in table.iterrows():
        assert row["top-1"] == pytest.approx(recall[names.index(row["class"])])
    assert table["top-1"].is_monotonic_increasing
    both = matrix + matrix.T
    assert {(one, other): times for one, other, times in classes.confused(found).itertuples(index=False)} == {
        (i, j): both[i, j] for i in range(3) for j in range(i + 1, 3) if both[i, j]}
    most, share = classes.most_frequent_class(found, tiny_data)
    counts = [one.train_count for one in tiny_data.manifest.classes]
    assert most == names[int(np.argmax(counts))] and share == (labels == np.argmax(counts)).mean()


def test_the_page_holds_scores_mistakes_and_curves(predicted, tiny_data, tmp_path):
    write_run(tmp_path)
    evaluation.run_evaluation(tiny_data.directory, evaluation.Request(
        predictions=[str(tmp_path / "val")], report=str(tmp_path / "report.html")))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    history = curves.histories(str(tmp_path))
    first = history[history["fold"] == 0]
    assert list(first["epoch"]) == [1, 2, 2.5, 3, 3.5, 4] and list(first["stage"]) == ["head"] * 2 + ["all"] * 4
    labels, answers = predicted
    assert f"{(labels == answers).mean():.4f}" in page and "fold 1" in page
    names = [one.name for one in tiny_data.manifest.classes]
    assert names[0] == "Species 0 – çé" and names[0] in page
    wrong = np.flatnonzero(labels != answers)
    gallery = page[page.index(">Confident mistakes</h2>"):page.index(">Taken for each other</h2>")]
    ids = tiny_data.examples("val")["id"]
    shown = dict(re.findall(r'src="data:image/jpeg;base64,([^"]+)".*?<span>(\w+)</span>\n</figcaption>', gallery, re.DOTALL))
    assert sorted(shown.values()) == sorted(ids[wrong])
    for content, one in shown.items():  # each by its own picture: the strongest channel is the class
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        assert pixels.mean(axis=(0, 1)).argmax() == labels[list(ids).index(one)]
    links = set(re.findall(r'https?://[^"\s<)]+', page)) - {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not links  # nothing is fetched from elsewhere


def test_without_shards_there_are_no_pictures_and_a_reason(predicted, tiny_data, tmp_path):
    folder = tmp_path / "moved"
    folder.mkdir()
    for name in ("dataset.json", "examples.csv", "rejected.csv"):
        (folder / name).write_bytes((tmp_path.__class__(tiny_data.directory) / name).read_bytes())
    evaluation.run_evaluation(str(folder), evaluation.Request(
        predictions=[str(tmp_path / "val")], report=str(tmp_path / "report.html")))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no pictures are shown: the shard" in page and "<img" not in page


def test_several_labels_are_counted_as_scikit_learn_counts():
    rng = np.random.default_rng(0)
    truth, probabilities = rng.random((40, 5)) < 0.3, rng.random((40, 5))
    truth[:, 0] |= ~truth.any(axis=1)
    ids = [f"p{number}" for number in range(40)]
    predicted = types.SimpleNamespace(ids=ids, class_ids=list("abcde"),
                                      chunks=lambda: iter([(ids[:25], np.log(probabilities[:25])),
                                                           (ids[25:], np.log(probabilities[25:]))]))
    found = of_outcomes.several_labels(predicted, {one: np.flatnonzero(row).tolist() for one, row in zip(ids, truth)},
                                       np.ones(5, bool), dict.fromkeys(ids, 0.4))
    answered = probabilities >= 0.4
    answered[np.arange(40), probabilities.argmax(axis=1)] = True
    f2 = sklearn_metrics.fbeta_score(truth, answered, beta=2, average=None, zero_division=0)
    data = types.SimpleNamespace(manifest=types.SimpleNamespace(classes=[
        types.SimpleNamespace(name=name, train_count=1) for name in "abcde"]))
    table = classes.by_label(found.counts, data).set_index("label").loc[list("abcde")]
    np.testing.assert_allclose(table["F2"], f2)
    np.testing.assert_allclose(found.pictures["f2"].mean(),
                               sklearn_metrics.fbeta_score(truth, answered, beta=2, average="samples", zero_division=0))
    np.testing.assert_allclose(found.pictures["wrong_p"], np.where(truth, 0, probabilities).max(axis=1))
    np.testing.assert_allclose(found.pictures["missed_p"], np.where(truth, probabilities, 2).min(axis=1))


@pytest.mark.parametrize("meta, expected", [
    ({"fold": None}, {None: ["a", "b"]}), ({"fold": 1}, {1: ["a", "b"]}), ({"fold": [0, 1]}, {0: ["a", "b"]}),
    ({"fold": [0, 1], "out_of_fold": True}, {1: ["a"], 0: ["b"]})])
def test_a_picture_is_looked_at_by_a_model_that_predicted_it(tmp_path, meta, expected):
    """Not by fold 0 where fold 1 alone has not seen it."""
    data = make_dataset(tmp_path, [0, 1, 2], splits=["train"] * 3, folds=2)  # p0 and p2 are of fold 0, p1 of fold 1
    names = {"a": "p1", "b": "p2"}
    member = types.SimpleNamespace(meta={"split": "train", **meta})
    assert looks._by_fold(member, list(names.values()), data, [0, 1]) == {
        fold: [names[one] for one in ids] for fold, ids in expected.items()}


def test_ten_thousand_classes_take_seconds():
    count, rng = 10_000, np.random.default_rng(0)
    labels, answers = rng.integers(0, count, 300_000), rng.integers(0, count, 300_000)
    answers[::2] = labels[::2]
    infos = [types.SimpleNamespace(name=f"species {index:05d}", train_count=index) for index in range(count)]
    data = types.SimpleNamespace(manifest=types.SimpleNamespace(classes=infos))
    found = pd.DataFrame({"label": labels, "answer": answers, "hit": labels == answers})
    started = time.monotonic()
    table = classes.by_class(found, data).set_index("class")
    assert time.monotonic() - started < 15  # 0.3 s, and 40 s by a pass over all pairs for each class
    hits = found.groupby("label")["hit"].agg(["mean", "size"])
    expected = hits.set_index("species " + hits.index.astype(str).str.zfill(5)).loc[table.index]
    np.testing.assert_allclose(table["top-1"], expected["mean"])
    np.testing.assert_array_equal(table["pictures"], expected["size"])
