"""Scores against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pipeline.metrics import single_label as metrics


def test_scores_equal_scikit_learn_over_chunks():
    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.integers(0, 11, 290), np.zeros(10, int)])  # class 11 never occurs
    logits = rng.normal(size=(300, 12))
    logits[np.arange(300), labels] += 1.5
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    scores = metrics.SingleLabelScores(12)
    for start in range(0, 300, 77):
        scores.update(labels[start:start + 77], logs[start:start + 77])
    result = scores.result()
    assert result["examples"] == 300
    assert result["top1"] == pytest.approx(sklearn_metrics.accuracy_score(labels, logs.argmax(axis=1)))
    assert result["top5"] == pytest.approx(
        sklearn_metrics.top_k_accuracy_score(labels, logs, k=5, labels=np.arange(12)))
    assert result["top3"] == pytest.approx(
        sklearn_metrics.top_k_accuracy_score(labels, logs, k=3, labels=np.arange(12)))
    present = np.arange(11)
    assert result["macro_top1"] == pytest.approx(
        sklearn_metrics.recall_score(labels, logs.argmax(axis=1), labels=present, average="macro"))
    assert result["log_loss"] == pytest.approx(
        sklearn_metrics.log_loss(labels, np.exp(logs), labels=np.arange(12)), rel=1e-9)


def test_log_probabilities_that_do_not_sum_to_one_are_normalized():
    scores = metrics.SingleLabelScores(2)
    scores.update(np.array([0]), np.log([[0.3, 0.1]]))
    assert scores.result()["log_loss"] == pytest.approx(-np.log(0.75))


def test_constant_predictions_score_as_argmax_would():
    scores = metrics.SingleLabelScores(8)
    scores.update(np.arange(8), np.zeros((8, 8)))
    assert scores.result()["top1"] == pytest.approx(1 / 8)
    assert scores.result()["top5"] == pytest.approx(5 / 8)
