"""A table of one's own through the commands: shards and folds by groups, the plan, submissions of one label and several."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

import make_submission
from pipeline.answers import predictions
from pipeline.records import dataset as datasets
import own_table
import raw_data
from raw_data import REPOSITORY

_RECIPE = ("--model=kecam/EfficientNetV2Tiny\n--weights=none\n--stage=name=all,epochs=2,size=32,lr=0.01,train=all\n"
           "--optimizer=adam\n--batch_size=20\n")
_GEO = "--competition=table\n--embed_dim=16\n--batch_size=32\n--epochs=5\n"


def records(raw, out, *flags):
    return raw_data.run_command("create_tfrecords.py", "--competition=table", f"--data_dir={raw}", f"--out_dir={out}",
                                "--workers=1", *flags)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_groups_stand_in_one_split_and_one_fold_and_classes_have_their_taxonomy(tmp_path):
    rows = own_table.make(tmp_path / "raw", count=96, test=4)
    (tmp_path / "raw" / "taxonomy.csv").write_text("label,class,genus\nApus apus,Aves,Apus\n")
    (tmp_path / "raw" / rows[0]["path"]).unlink()
    done = records(tmp_path / "raw", tmp_path / "records", "--folds=3", "--duplicate_distance=-1", "--val_share=0.25")
    assert done.returncode == 0, done.stderr
    sides, group_of = {}, {one["path"]: one["group"] for one in rows}
    for one in read_csv(tmp_path / "records" / "examples.csv"):
        if one["labels"]:
            sides.setdefault(group_of[one["id"]], set()).add((one["split"], one["fold"]))
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {("val", ""), ("train", "0"), ("train", "1"), ("train", "2")}
    manifest = json.loads((tmp_path / "records" / "dataset.json").read_text())
    assert [one["taxonomy"] for one in manifest["classes"]] == [{"class": "Aves", "genus": "Apus"}, {}, {}]
    assert [(one["id"], one["reason"]) for one in read_csv(tmp_path / "records" / "rejected.csv")] == [
        (rows[0]["path"], "missing")]
    done = records(tmp_path / "raw", tmp_path / "records", "--folds=3", "--duplicate_distance=-1", "--val_share=0.3")
    raw_data.assert_one_line_mistake(done, "val_share was 0.25 and is 0.3 now")


def test_several_labels_become_a_multi_label_competition(tmp_path):
    found = own_table.make(tmp_path, count=24, test=3)
    for number, one in enumerate(found):
        one["tags"] = f"{one['label']}|{'odd' if number % 2 else 'even'}" if one["label"] else ""
    own_table.write_csv(tmp_path / "mine.tsv", found, ["path", "tags"], delimiter="\t")
    done = raw_data.run_command("create_tfrecords.py", "--competition=table", f"--table={tmp_path}/mine.tsv",
                                "--columns=labels:tags,id:path", f"--out_dir={tmp_path}/records", "--workers=1")
    assert done.returncode == 0, done.stderr
    data = datasets.load(str(tmp_path / "records"))
    assert data.manifest.kind == "multi_label" and data.manifest.metric == "f2" and len(data.class_ids) == 5
    logs = np.log(np.full((3, 5), 0.01))
    logs[:, [0, 4]] = np.log([0.9, 0.8])
    predictions.write(str(tmp_path / "p"), [(list(data.examples("test")["id"]), logs)], {
        "examples": 3, "class_ids": data.class_ids, "split": "test", "model_dir": str(tmp_path / "m"), "tta": "none",
        "fold": None, "threshold": None, "dataset": {"classes": data.classes_digest()}})
    make_submission.make_submission(data.directory, [str(tmp_path / "p")], str(tmp_path / "s.csv"), threshold=0.5)
    assert read_csv(tmp_path / "s.csv")[0] == {"id": "pictures/24.jpg", "labels": "Apus apus|odd"}


def plan_of(tmp_path, *flags):
    (tmp_path / "r.flags").write_text(_RECIPE)
    done = subprocess.run([sys.executable, str(REPOSITORY / "run.py"), "table", "raw", "out", "--recipes=r.flags", "--dry_run",
                           *flags], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_geo_prior_is_planned_where_the_table_has_places(tmp_path):
    found = own_table.rows(count=12, test=2)
    own_table.write_csv(tmp_path / "raw" / "table.csv", found)
    assert "\n  geo_prior " in plan_of(tmp_path) and "\n  geo_prior " not in plan_of(tmp_path, "--geo_prior=none")
    own_table.write_csv(tmp_path / "raw" / "table.csv", found, ["path", "label", "group"])
    assert "\n  geo_prior " not in plan_of(tmp_path)
    own_table.write_csv(tmp_path / "other.csv", found)
    assert "\n  geo_prior " in plan_of(tmp_path, "--table=other.csv", "--columns=id:path")


@pytest.mark.slow
def test_from_a_csv_to_a_submission_and_a_geo_prior(tmp_path):
    rows = own_table.make(tmp_path / "raw", count=96, test=6)
    for name, content in (("tiny.flags", _RECIPE), ("geo.flags", _GEO)):
        (tmp_path / name).write_text(content)
    done = subprocess.run(["bash", str(REPOSITORY / "run_inference.sh"), "table", "raw", "out", "--until=submission"],
                          cwd=tmp_path, timeout=600,
                          capture_output=True, text=True, env={**raw_data.os.environ, "PYTHON": sys.executable,
                                                               "RECIPES": "tiny.flags", "GEO_PRIOR": "geo.flags"})
    assert done.returncode == 0, done.stderr
    answers = read_csv(tmp_path / "out" / "submission.csv")
    assert sorted(one["id"] for one in answers) == sorted(one["path"] for one in rows[96:])
    assert {one["label"] for one in answers} <= set(own_table.LABELS)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["steps"]["+ geo"]["geo_exponent"] == 1.0 and (tmp_path / "out" / "geo_prior" / "DONE").exists()


def test_a_prior_of_a_table_without_dates_does_without(tmp_path):
    own_table.write_csv(tmp_path / "table.csv", own_table.rows(count=30), ["path", "label", "latitude", "longitude"])
    done = raw_data.run_command("train_geo_prior.py", "--competition=table", f"--table={tmp_path}/table.csv", "--epochs=1",
                                "--embed_dim=8", "--batch_size=16", f"--model_dir={tmp_path}/geo")
    assert done.returncode == 0, done.stderr
    assert "trained on places alone" in done.stderr
    assert json.loads((tmp_path / "geo" / "run.json").read_text())["same"]["date_input"] is False
