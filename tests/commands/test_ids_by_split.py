"""Ids that begin anew in each split: joined splits are predicted and scored picture by picture, or refused in one line."""

import json

import numpy as np
import pytest

import make_submission
from dataset_tools import build
from pipeline.answers import fusion, predictions
from pipeline.errors import UserError
from pipeline.evaluation import evaluate
from pipeline.records import dataset as datasets
from pipeline.runs import seen
from predicted_data import random_logs
import raw_data
import tiny_records


def make(folder, train=9, val=6, alike=False):
    """Records whose image ids begin at 0 in train, val and test; alike: with the same pictures, as train_mini has."""
    raw = tiny_records.write_raw(folder / "raw", train=train, val=val, test=3)
    for name in ("train", "val") if alike else ("train", "val", "public_test"):
        content = json.loads((raw / f"{name}.json").read_text())
        first = content["images"][0]["id"]
        for one in (*content["images"], *content.get("annotations", ())):
            for key in {"id", "image_id"} & one.keys():
                one[key] -= first
        raw_data.write(raw / f"{name}.json", content)
        if alike and name == "val":
            for number in range(val):
                raw_data.write(raw / f"val/{first + number}.jpg", (raw / f"train/{number}.jpg").read_bytes())
    build.build("inat2021", str(raw), str(folder / "records"))
    return datasets.load(str(folder / "records"))


def predict_right(folder, data, split):
    """Predictions of a split that give every picture's own label the most."""
    examples = data.examples(split)
    logs = random_logs(len(examples))
    for row, labels in enumerate(examples["labels"]):
        if labels:
            logs[row, labels[0]] = 5
    predictions.write(str(folder), [(list(examples["id"]), logs - np.log(np.exp(logs).sum(axis=1, keepdims=True)))], {
        "examples": len(examples), "class_ids": data.class_ids, "split": split, "model_dir": str(folder.parent / "m"),
        "tta": "none", "fold": None, "dataset": {"classes": data.classes_digest()}})
    return str(folder)


def test_joined_splits_are_scored_picture_by_picture(tmp_path, capsys):
    data = make(tmp_path)
    scored = {}
    for split in ("train", "val", "train+val"):
        where = predict_right(tmp_path / split, data, split)
        evaluate.run_evaluation(data.directory, evaluate.Request(predictions=[where], out=str(tmp_path / f"{split}.json")))
        scored[split] = json.loads((tmp_path / f"{split}.json").read_text())
    assert {split: (one["examples"], one["top1"]) for split, one in scored.items()} == {
        "train": (9, 1.0), "val": (6, 1.0), "train+val": (15, 1.0)}
    assert scored["train+val"]["log_loss"] == pytest.approx(
        (9 * scored["train"]["log_loss"] + 6 * scored["val"]["log_loss"]) / 15, abs=0.2)
    assert sorted(data.examples("train+val")["id"])[:2] == ["train/0", "train/1"] and "0" in set(data.examples("val")["id"])
    capsys.readouterr()


def test_what_names_two_pictures_is_refused(tmp_path):
    data = make(tmp_path, train=9, val=6)
    val, joined = (predict_right(tmp_path / split, data, split) for split in ("val", "train+val"))
    with pytest.raises(UserError, match="train\\+val, which share ids, such as 0; .*one by one"):
        make_submission.make_submission(data.directory, [joined], str(tmp_path / "s.csv"))
    six = make(tmp_path / "again", train=6, val=6)
    train = predict_right(tmp_path / "six", six, "train")
    with pytest.raises(UserError, match="is of val, .*six of train"):
        fusion.Blend(fusion.find([train, val]))


@pytest.mark.parametrize("alike", [False, True])
def test_whether_one_id_is_one_picture_is_told_by_the_pictures(tmp_path, alike):
    data = make(tmp_path, train=9, val=9, alike=alike)
    assert data.manifest.ids_by_split is not alike and seen.ids_by_split(data) is not alike
