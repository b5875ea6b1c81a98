"""evaluate.py --calibrate, and what make_submission.py and evaluate.py do with its file."""

import csv
import json

import numpy as np
import pytest
from scipy import special

from pipeline.answers.example_table import ExampleTable
from predicted_data import make_dataset, random_logs, write_predictions
from raw_data import assert_one_line_mistake, run_command

COUNT, TEST = 240, 12
COUNTS = (200, 40, 6)  # of train


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """(folder, labels of val): records/, and of the models a and b, which are too sure, val and test."""
    folder = tmp_path_factory.mktemp("calibrate")
    logs = random_logs(COUNT, spread=4)
    labels = [int(np.random.default_rng(index).choice(3, p=special.softmax(row / 2.5))) for index, row in enumerate(logs)]
    data = make_dataset(folder / "records", [*labels, *[None] * TEST], train_counts=COUNTS,
                        splits=["val"] * COUNT + ["test"] * TEST)
    for name, seed in (("a", 0), ("b", 7)):
        of_val = logs if name == "a" else 0.7 * logs + 0.3 * random_logs(COUNT, seed=seed, spread=4)
        meta = {"model": name, "trained": {"seconds": seed}, "seen": {"pictures": 0, "splits": ["train"], "prior_power": 1.0,
                                                                      "class_counts": list(COUNTS)}}
        write_predictions(folder / name / "val", data, special.log_softmax(of_val, axis=1), **meta)
        write_predictions(folder / name / "test", data, random_logs(TEST, seed=seed + 1), "test", **meta)
    return folder, np.array(labels)


def evaluate(folder, *flags, names="ab"):
    return run_command("evaluate.py", f"--data_dir={folder}/records",
                       *(f"--predictions={folder}/{name}/val" for name in names), f"--out={folder}/scores.json", *flags)


@pytest.fixture(scope="module")
def calibrated(case):
    """(what evaluate.py printed, its JSON, calibration.json) of the blend of a and b."""
    folder, _ = case
    done = evaluate(folder, "--calibrate", "--prior_correction=0.5")
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "scores.json").read_text()), json.loads(
        (folder / "a" / "calibration.json").read_text())


def logs_of(folder, name, split):
    return np.load(folder / name / split / "log_probabilities.npy").astype(np.float64)


def blended(folder, split):
    return np.logaddexp(*(special.log_softmax(logs_of(folder, name, split), axis=1) for name in "ab")) - np.log(2)


def test_log_loss_and_error_before_and_after(case, calibrated):
    folder, labels = case
    printed, scores, file = calibrated
    groups = ExampleTable(make_dataset(folder / "again", labels.tolist()), "val").groups([f"p{one}" for one in range(COUNT)])
    temperatures = np.array([file["by_group"][str(group)] for group in groups])
    logs = blended(folder, "val")
    for line, of_line in (("picture", logs), ("+ temperature", special.log_softmax(logs / temperatures[:, None], axis=1))):
        found, expected = scores["calibration"][line], -of_line[np.arange(COUNT), labels]
        assert found["log_loss"] == pytest.approx(expected.mean(), abs=1e-3) == scores["steps"][line]["log_loss"]
        low, high = found["log_loss_interval"]
        assert low < found["log_loss"] < high and high - low == pytest.approx(3.92 * expected.std() / COUNT ** 0.5, rel=0.2)
        confidence, hits = np.exp(of_line.max(axis=1)), of_line.argmax(axis=1) == labels
        order = np.argsort(confidence)
        error = sum(abs(hits[part].mean() - confidence[part].mean()) * len(part) / COUNT for part in np.array_split(order, 15))
        assert found["ece"] == pytest.approx(error, abs=5e-3)
        assert sum(one["count"] for one in found["bins"]) == COUNT and f"{found['ece']:.4f}" in printed
    before, after = (scores["calibration"][one] for one in ("picture", "+ temperature"))
    assert after["log_loss"] < before["log_loss"] and after["log_loss_gain_interval"][1] < 0
    assert after["ece"] < before["ece"] and scores["temperature"] == file["temperature"] > 1.3
    assert scores["steps"]["picture"]["top1"] == scores["steps"]["+ temperature"]["top1"]
    assert list(scores["steps"])[-1] == "+ prior correction" == list(scores["calibration"])[-1]
    assert (file["split"], file["examples"], file["blend"]) == ("val", COUNT, "equal")
    assert [one["directory"] for one in file["members"]] == [f"{folder}/{name}/val" for name in "ab"]
    assert file["scores"]["picture"]["bins"] == before["bins"] and f"temperature {file['temperature']:.3f}" in printed


def test_the_submission_and_the_scores_have_it_under_the_prior_correction(case, calibrated):
    folder, labels = case
    file = f"--calibration={folder}/a/calibration.json"
    done = run_command("make_submission.py", f"--data_dir={folder}/records", f"--predictions={folder}/b/test",
                       f"--predictions={folder}/a/test", "--prior_correction=1", f"--out={folder}/s.csv", file)
    assert done.returncode == 0, done.stderr
    temperature = calibrated[2]["temperature"]
    found = blended(folder, "test") / temperature - np.log(COUNTS)
    with open(folder / "s.csv", newline="", encoding="utf-8") as rows:
        answers = {row["Id"]: row["Predicted"].split() for row in csv.DictReader(rows)}
    assert list(answers.values()) == [[str(100 + one) for one in row] for row in np.argsort(-found, axis=1)]

    done = evaluate(folder, file, "--prior_correction=1")
    assert done.returncode == 0, done.stderr
    scores = json.loads((folder / "scores.json").read_text())
    expected = special.log_softmax(blended(folder, "val") / temperature - np.log(COUNTS), axis=1)
    assert scores["log_loss"] == pytest.approx(-expected[np.arange(COUNT), labels].mean(), abs=2e-3)
    assert "was fitted on these pictures" in " ".join(scores["warnings"])


def test_without_it_the_error_is_told(case):
    folder, _ = case
    done = evaluate(folder, names="a")
    assert done.returncode == 0, done.stderr
    scores = json.loads((folder / "scores.json").read_text())
    assert list(scores["calibration"]) == ["picture"] and len(scores["calibration"]["picture"]["bins"]) == 15
    assert scores["temperature"] is None
    assert f"expected calibration error {scores['calibration']['picture']['ece']:.4f} (15 bins" in done.stdout


def test_mistakes(case, calibrated):
    folder, _ = case
    file = f"--calibration={folder}/a/calibration.json"
    assert_one_line_mistake(evaluate(folder, file, names="a"), "--calibration", f"{folder}/b/val too", "missing")
    assert_one_line_mistake(evaluate(folder, file, "--blend=3:1"), "--calibration", "weighs 0.500", "0.750")
    told = json.loads((folder / "a" / "calibration.json").read_text())
    first, second = told["members"]
    assert first.pop("temperature") == second["temperature"] == 1.0  # as in a file of before there were any
    (folder / "edited.json").write_text(json.dumps(told))
    assert evaluate(folder, f"--calibration={folder}/edited.json").returncode == 0
    (folder / "edited.json").write_text(json.dumps({**told, "members": [{**first, "temperature": 2.0}, second]}))
    assert_one_line_mistake(evaluate(folder, f"--calibration={folder}/edited.json"), "--calibration", "temperature of 2.000", "1.000")
    meta = json.loads((folder / "a" / "val" / "meta.json").read_text())
    (folder / "other").mkdir(exist_ok=True)
    for name in ("ids.txt", "log_probabilities.npy"):
        (folder / "other" / name).write_bytes((folder / "a" / "val" / name).read_bytes())
    for changed, flags, words in (({"trained": {"seconds": 5}}, [file], ["--calibration", "models that made", "other"]),
                                  ({"seen": {**meta["seen"], "pictures": 9}}, ["--calibrate"], ["--calibrate", "9 pictures"])):
        (folder / "other" / "meta.json").write_text(json.dumps({**meta, **changed}))
        done = run_command("evaluate.py", f"--data_dir={folder}/records", f"--predictions={folder}/other",
                           f"--predictions={folder}/b/val", *flags)
        assert_one_line_mistake(done, *words)
    assert_one_line_mistake(evaluate(folder, f"--calibration={folder}/none.json"), "none.json does not exist")
