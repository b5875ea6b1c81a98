"""The report's tables against counts by hand, and its page."""

import collections
import json
import time
import types

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from pipeline.answers import fusion, predictions
from pipeline.answers.example_table import ExampleTable
from pipeline.evaluation import evaluate as evaluation, report


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


def test_confusions_equal_scikit_learn(predicted, tiny_data, tmp_path):
    labels, answers = predicted
    blended = fusion.Blend(fusion.find([str(tmp_path / "val")]))
    counts = report.confusion_counts(blended, ExampleTable(tiny_data, "val").labels)
    matrix = sklearn_metrics.confusion_matrix(labels, answers, labels=[0, 1, 2])
    assert {pair: count for pair, count in counts.items()} == {
        (i, j): matrix[i, j] for i in range(3) for j in range(3) if matrix[i, j]}
    table = report.class_table(counts, tiny_data)
    names = [one.name for one in tiny_data.manifest.classes]
    recall = sklearn_metrics.recall_score(labels, answers, labels=[0, 1, 2], average=None)
    for _, row in table.iterrows():
        assert row["top-1"] == pytest.approx(recall[names.index(row["class"])])
    assert table["top-1"].is_monotonic_increasing
    pairs = report.confusion_table(counts, tiny_data)
    assert pairs["mistaken"].sum() == matrix.sum() - np.trace(matrix)


def test_the_page_holds_scores_mistakes_and_curves(predicted, tiny_data, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({
        "same": {"stage_order": ["all"], "stages": {"all": {"validate_every": 0.5}}},
        "free": {"folds": 0, "stage_dirs": ["stage_1_all"]}}))
    (tmp_path / "stage_1_all").mkdir()
    (tmp_path / "stage_1_all" / "history.csv").write_text(
        "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,1.5,0.4,1.6\n1,0.6,1.2,0.5,1.3\n")
    evaluation.run_evaluation(tiny_data.directory, evaluation.Request(
        predictions=[str(tmp_path / "val")], report=str(tmp_path / "report.html")))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert list(report.histories(str(tmp_path))["stage_1_all"]["epoch"]) == [0.5, 1.0]
    labels, answers = predicted
    assert f"{(labels == answers).mean():.4f}" in page
    assert "Species 0 – çé" in page and page.count("<svg") == 1 and "stage_1_all" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "https://matplotlib.org", "").replace("http://creativecommons.org", "")  # nothing is fetched from elsewhere


def test_ten_thousand_classes_take_seconds():
    classes, rng = 10_000, np.random.default_rng(0)
    labels, answers = rng.integers(0, classes, 300_000), rng.integers(0, classes, 300_000)
    answers[::2] = labels[::2]
    infos = [types.SimpleNamespace(name=f"species {index:05d}", train_count=index) for index in range(classes)]
    data = types.SimpleNamespace(manifest=types.SimpleNamespace(classes=infos))
    counts = collections.Counter(zip(labels.tolist(), answers.tolist()))
    started = time.monotonic()
    table = report.class_table(counts, data).set_index("class")
    assert time.monotonic() - started < 15  # 0.6 s, and 40 s by a pass over all pairs for each class
    hits = pd.Series(labels == answers).groupby(labels).agg(["mean", "size"])
    expected = hits.set_index("species " + hits.index.astype(str).str.zfill(5)).loc[table.index]
    np.testing.assert_allclose(table["top-1"], expected["mean"])
    np.testing.assert_array_equal(table["examples"], expected["size"])
