"""A third kind of task, known to tests/ordinal_task.py alone, through the mains from pictures to the CSV."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

import raw_data

DRIVER = raw_data.REPOSITORY / "tests" / "ordinal_task.py"
COUNTS = {"train": 8, "val": 3, "test": 2}  # of each class
NAMES = ("0-green", "1-turning", "2-ripe", "3-brown")


def run(script, *flags):
    done = subprocess.run([sys.executable, str(DRIVER), script, *flags], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def whole_way(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ordinal")
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for index, name in enumerate(NAMES):
            place = folder / "raw" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(40 + 60 * index, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
                (place / f"{number}.jpg").write_bytes(raw_data.encode(pixels, quality=95))
    run("create_tfrecords.py", "--competition=ripeness", f"--data_dir={folder}/raw", f"--out_dir={folder}/records",
        "--folds=2", "--workers=1")
    data, model = f"--data_dir={folder}/records", f"--model_dir={folder}/model"
    run("multi_stage_train.py", data, model, "--model=kecam/EfficientNetV2Tiny", "--optimizer=adam", "--batch_size=8",
        "--stage=name=all,epochs=1,size=32,lr=0.01,train=all", "--fold=0")
    for split in ("val", "test"):
        run("predict.py", data, model, f"--split={split}")
    printed = run("evaluate.py", data, f"--predictions={folder}/model/predictions/val", f"--out={folder}/scores.json")
    run("make_submission.py", data, f"--predictions={folder}/model/predictions/test", f"--out={folder}/submission.csv")
    return folder, printed


def medians_of(predictions):
    """{id: index of the class at which half of the probability is reached}, by NumPy."""
    matrix = np.exp(np.load(predictions / "log_probabilities.npy").astype(float))
    found = [int(np.searchsorted(np.cumsum(row), row.sum() / 2)) for row in matrix]
    return dict(zip((predictions / "ids.txt").read_text().splitlines(), found))


def test_the_manifest_and_the_run_tell_the_kind(whole_way):
    folder, _ = whole_way
    assert json.loads((folder / "records" / "dataset.json").read_text())["task"] == "ordinal"
    stage = json.loads((folder / "model" / "run.json").read_text())["same"]["stages"]["all"]
    assert (stage["loss"], stage["monitor"]) == ("expectation", "val_near")  # its own, which no flag named
    assert json.loads((folder / "model" / "fold_0" / "stage_1_all" / "DONE").read_text())["monitor"] == "val_near"


def test_its_own_scores_are_told(whole_way):
    folder, printed = whole_way
    answers = medians_of(folder / "model" / "predictions" / "val")
    expected = np.mean([abs(answer - NAMES.index(one.split("/")[1])) for one, answer in answers.items()])
    assert len(answers) == 12
    assert json.loads((folder / "scores.json").read_text())["distance"] == pytest.approx(expected)
    assert f"the competition's own distance: {expected:.4f}" in printed


def test_its_own_answers_are_submitted(whole_way):
    folder, _ = whole_way
    with open(folder / "submission.csv", newline="", encoding="utf-8") as file:
        rows = {row["id"]: row["ripeness"] for row in csv.DictReader(file)}
    assert rows == {one: NAMES[answer] for one, answer in medians_of(folder / "model" / "predictions" / "test").items()}


def test_who_does_not_know_the_kind_says_so(whole_way):
    folder, _ = whole_way
    done = raw_data.run_command("evaluate.py", f"--data_dir={folder}/records",
                                f"--predictions={folder}/model/predictions/val")
    raw_data.assert_one_line_mistake(done, "dataset.json", "'ordinal'", "multi_label, single_label")
