"""The scripts and recipes as the README tells to run them. Slow: each trains networks."""

import csv
import json
import os
import re
import subprocess
import sys

import nbclient
import nbformat
import pytest

import exported
from raw_data import REPOSITORY, run_command
import tiny_records

pytestmark = pytest.mark.slow


def run_script(script, *arguments, **environment):
    return subprocess.run(["bash", str(REPOSITORY / script), *arguments], capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHON": sys.executable, **environment})


def test_the_demo_from_nothing_to_a_scored_submission(tmp_path):
    run_dir = tmp_path / "ein Ordner" / "lauf ü"  # spaces and Unicode, as in a person's home
    arguments = ("demo", str(tmp_path / "roh daten"), str(run_dir))
    done = run_script("run_inference.sh", *arguments)
    assert done.returncode == 0, done.stderr
    with open(run_dir / "submission.csv", newline="", encoding="utf-8") as file:
        predicted = {row["Id"]: row["Predicted"].split() for row in csv.DictReader(file)}
    with open(tmp_path / "roh daten" / "public_test_labels.csv", newline="", encoding="utf-8") as file:
        truth = {row["id"]: row["category_id"] for row in csv.DictReader(file)}
    assert predicted.keys() == truth.keys() and all(len(set(row)) == 5 for row in predicted.values())
    top1 = sum(predicted[one][0] == truth[one] for one in truth) / len(truth)
    assert top1 > 4 / 12  # fourfold chance
    steps = json.loads((run_dir / "test_scores.json").read_text(encoding="utf-8"))["steps"]
    assert list(steps) == ["picture", "+ geo", "+ TTA"]
    assert steps["picture"]["top1"] + 0.1 < steps["+ geo"]["top1"]
    assert steps["+ TTA"]["top1"] > steps["+ geo"]["top1"] - 0.02  # what views bring here is within the spread
    assert steps["+ TTA"]["top1"] == pytest.approx(top1)  # what was scored is what is submitted
    assert str(run_dir / "submission.csv") in done.stdout.splitlines()[-1]
    report = (run_dir / "report.html").read_text(encoding="utf-8")
    assert report.count("<svg") == 5  # steps, reliability, classes, two curves
    assert "class activation maps" in report and "what the geo prior expects" in report
    records = run_dir / "records"
    ids, expected = exported.blended(records, [run_dir / "models" / "demo" / "predictions" / "test"],
                                     geo_prior=str(run_dir / "geo_prior"))
    found = exported.serve(run_dir / "export", *exported.pictures(records, ids))
    assert abs(found["probabilities"] - expected).max() < exported.CLOSE
    _check_notebook(run_dir / "export", next((tmp_path / "roh daten").glob("public_test/*.jpg")), found["names"].astype(str))
    made = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.suffix in (".index", ".npy")
            or "tfrecord" in path.name}
    again = run_script("run_inference.sh", *arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(": up to date") == 10 and again.stderr == ""  # no process was started
    assert made == {path: path.stat().st_mtime_ns for path in made}


def _check_notebook(export, photo, names) -> None:
    """notebooks/identify.ipynb runs, names what the export knows, and shows where it looks."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / "identify.ipynb", as_version=4)
    environment = {"FIELDMARK_EXPORT": str(export), "FIELDMARK_PHOTO": str(photo)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3",
                                resources={"metadata": {"path": str(REPOSITORY / "notebooks")}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(one["text"] for one in outputs if one["output_type"] == "stream" and one["name"] == "stdout")
    answers = re.findall(r"^[01]\.\d{3}  (.+)$", printed, re.MULTILINE)
    assert photo.name in printed and len(answers) == 5 and set(answers) <= set(names.ravel())
    assert any("image/png" in one.get("data", {}) for one in outputs)


def test_scripts_tell_mistakes_in_one_line():
    for arguments in (("demo",), ("a", "b", "c", "d")):
        done = run_script("run_inference.sh", *arguments)
        assert done.returncode == 2 and done.stderr.startswith("usage:")
    done = run_script("run_training.sh", "inat2022", "nowhere")
    assert done.returncode == 2 and "inat2021" in done.stderr.splitlines()[-1]


RECIPE = """
--model=kecam/EfficientNetV2Tiny
--stage=name=all,epochs=1,size=32,lr=0.01,train=all
--optimizer=adam
--batch_size=10
"""


def test_a_recipe_with_boxes_gets_them_from_the_one_before(tmp_path):
    tiny_records.write_raw(tmp_path / "raw", train=12, val=5, test=4)
    (tmp_path / "coarse.flags").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "fine.flags").write_text(f"{RECIPE}--boxes=coarse\n", encoding="utf-8")
    arguments = ("inat2021", str(tmp_path / "raw"), str(tmp_path / "run"))
    alone = run_script("run_training.sh", *arguments, RECIPES=f"{tmp_path}/fine.flags")
    assert alone.returncode == 2 and "models/coarse is no model directory" in alone.stderr.splitlines()[-1]
    both = {"RECIPES": f"{tmp_path}/coarse.flags {tmp_path}/fine.flags", "LOCALIZE_FLAGS": "--cam_threshold=0.4"}
    done = run_script("run_inference.sh", *arguments, **both)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "run" / "records" / "boxes" / "coarse.csv").read_text(encoding="utf-8").splitlines()
    assert len(table) == 1 + 12 + 5 + 4
    assert json.loads((tmp_path / "run" / "records" / "boxes" / "coarse.json").read_text())["how"]["cam_threshold"] == 0.4
    assert json.loads((tmp_path / "run" / "models" / "fine" / "run.json").read_text())["same"]["boxes"]["name"] == "coarse"
    assert (tmp_path / "run" / "boxes_coarse.png").exists()
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert len(scores["weights"]) == 2 and "mean" in scores["lines"]  # coarse, fine and their mean
    assert len((tmp_path / "run" / "submission.csv").read_text().splitlines()) == 1 + 4


def test_fine_tuning_reaches_its_accuracy(sample_data, lite0_weights, tmp_path):
    """As in the README: ten butterflies, two stages at 160 px."""
    for script, *flags in (
        ("create_tfrecords.py", "--competition=inat2021", f"--data_dir={sample_data / 'inat2021_mini'}",
         f"--out_dir={tmp_path}/records"),
        ("multi_stage_train.py", f"--data_dir={tmp_path}/records", f"--model_dir={tmp_path}/model",
         "--model=kecam/EfficientNetV1Lite0", f"--weights={lite0_weights}", "--optimizer=adam",
         "--stage=name=head,epochs=4,size=160,lr=0.003,train=head",
         "--stage=name=last,epochs=5,size=160,lr=0.0003,train=last:60"),
        ("predict.py", f"--data_dir={tmp_path}/records", f"--model_dir={tmp_path}/model", "--split=val", "--tta=six"),
        ("evaluate.py", f"--data_dir={tmp_path}/records", f"--predictions={tmp_path}/model/predictions/val",
         f"--out={tmp_path}/scores.json"),
        ("predict.py", f"--data_dir={tmp_path}/records", f"--model_dir={tmp_path}/model", "--split=test"),
        ("make_submission.py", f"--data_dir={tmp_path}/records", f"--predictions={tmp_path}/model/predictions/test",
         f"--out={tmp_path}/submission.csv"),
    ):
        done = run_command(script, *flags, timeout=900)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["top1"] >= 0.95
    with open(tmp_path / "submission.csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 141
