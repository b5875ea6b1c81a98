"""The predictions artefact, its mean over models, and rankings."""

import numpy as np
import pytest

from pipeline.answers import fusion, predictions
from pipeline.errors import UserError

CLASSES = ["10", "7", "3"]


def write(directory, ids, logs, class_ids=CLASSES, split="test"):
    writer = predictions.Writer(str(directory), len(ids), len(class_ids))
    for start in range(0, len(ids), 2):
        writer.append(ids[start:start + 2], logs[start:start + 2])
    writer.finish({"class_ids": class_ids, "split": split})
    return str(directory)


def random_logs(count, seed, classes=3):
    logits = np.random.default_rng(seed).normal(size=(count, classes)) * 3
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_numpy_itself_reads_what_was_written(tmp_path):
    logs = random_logs(5, 0)
    write(tmp_path / "a", list("vwxyz"), logs)
    matrix = np.load(tmp_path / "a" / "log_probabilities.npy")
    assert matrix.dtype == np.float16
    np.testing.assert_allclose(matrix, logs, rtol=1e-3)
    assert (tmp_path / "a" / "ids.txt").read_text().split() == list("vwxyz")


def test_a_probability_of_zero_stays_finite(tmp_path):
    write(tmp_path / "a", ["x"], np.array([[0.0, -np.inf, -1e9]]))
    opened = predictions.Predictions(str(tmp_path / "a"))
    assert np.isfinite(opened.rows(np.array([0]))).all()


def test_rows_in_any_order(tmp_path):
    logs = random_logs(9, 1)
    opened = predictions.Predictions(write(tmp_path / "a", [f"é{i}" for i in range(9)], logs))
    assert opened.ids[3] == "é3"
    for positions in ([0], [8, 0, 1, 2, 5], list(range(9)), [3, 3]):
        np.testing.assert_allclose(opened.rows(np.array(positions)), logs[positions], rtol=1e-3)


def test_ram_file_system_stands_in_for_gs(tmp_path):
    logs = random_logs(4, 2)
    opened = predictions.Predictions(write("ram://predictions/a", list("abcd"), logs))
    np.testing.assert_allclose(opened.rows(np.array([2, 1])), logs[[2, 1]], rtol=1e-3)


def test_unfinished_or_damaged_predictions_are_refused(tmp_path):
    writer = predictions.Writer(str(tmp_path / "a"), 2, 3)
    writer.append(["x"], np.zeros((1, 3)))
    with pytest.raises(UserError, match="no finished predictions"):
        predictions.Predictions(str(tmp_path / "a"))
    with pytest.raises(ValueError, match="1 rows were written, 2 announced"):
        writer.finish({})
    directory = write(tmp_path / "b", ["x", "y"], np.zeros((2, 3)))
    matrix = tmp_path / "b" / "log_probabilities.npy"
    matrix.write_bytes(matrix.read_bytes()[:-2])
    with pytest.raises(UserError, match="damaged"):
        predictions.Predictions(directory)


def test_the_mean_aligns_ids_and_classes_by_name(tmp_path):
    one, two = random_logs(6, 3), random_logs(6, 4)
    ids = list("abcdef")
    id_order, class_order = [3, 0, 5, 1, 2, 4], [2, 0, 1]
    write(tmp_path / "one", ids, one)
    write(tmp_path / "two", [ids[i] for i in id_order], two[id_order][:, class_order],
          [CLASSES[i] for i in class_order])
    mean = fusion.Blend(fusion.find([str(tmp_path / "*")]))
    (chunk_ids, logs), = mean.chunks()
    assert chunk_ids == ids and mean.class_ids == CLASSES
    np.testing.assert_allclose(np.exp(logs), (np.exp(one) + np.exp(two)) / 2, rtol=3e-3)


@pytest.mark.parametrize("ids, class_ids, told", [
    (["a", "c"], CLASSES, "lacks the id b"),
    (["a"], CLASSES, "has 1 id names"),
    (["a", "b"], ["10", "7", "4"], "lacks the class 3"),
])
def test_members_that_do_not_agree_are_named(tmp_path, ids, class_ids, told):
    write(tmp_path / "1", ["a", "b"], random_logs(2, 5))
    write(tmp_path / "2", ids, random_logs(len(ids), 6), class_ids)
    with pytest.raises(UserError, match=told) as caught:
        fusion.Blend(fusion.find([str(tmp_path / "1"), str(tmp_path / "2")]))
    assert str(tmp_path / "2") in str(caught.value)


def test_a_pattern_that_finds_nothing_is_named():
    with pytest.raises(UserError, match="nowhere"):
        fusion.find(["nowhere/*"])
