"""What the run scripts make anew: counted by the processes that they start, which a stand-in notes down."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT
from stand_in import Scripts
from test_run_script_flags import RECIPE, write_recipes

OF = ("run_inference.sh", "inat2021")


@pytest.fixture
def made(tmp_path):
    """Scripts that have made two models and what comes of them, and the variables that they were called with."""
    scripts = Scripts(tmp_path)
    flags = {"GEO_PRIOR": "none", **write_recipes(tmp_path, a="--tta=flip\n", b="--tta=flip\n")}
    scripts.run(*OF, **flags)
    assert scripts.kinds() == ["create_tfrecords", *["multi_stage_train"] * 2, *["predict"] * 4, "evaluate",
                               "make_submission"]
    return scripts, flags


def test_what_stands_starts_no_process(made, tmp_path):
    scripts, flags = made
    for path in tmp_path.rglob("*"):  # times are no reason
        os.utime(path, (1e9, 1e9))
    write_recipes(tmp_path, a="--tta=six\n--tta=flip\n# a comment\n")  # nor how the same is said
    done = scripts.run(*OF, **flags)
    assert scripts.lines == [] and done.stdout.splitlines()[-1].endswith("/submission.csv")


@pytest.mark.parametrize("changed, kinds", [
    ({"SUBMISSION_FLAGS": "--min_samples=0 --open_set=sum"}, ["evaluate", "make_submission"]),  # the scores tell of it
    ({"SUBMISSION_FLAGS": "--open_set=sum"}, ["make_submission"]),
    ({"PRIOR_FLAGS": "--prior_correction=1"}, ["evaluate", "make_submission"]),
    ({"PREDICT_FLAGS": "--tta=six"}, [*["predict"] * 4, "evaluate", "make_submission"])])
def test_a_changed_flag_makes_anew_what_depends_on_it(made, changed, kinds):
    scripts, flags = made
    scripts.run(*OF, **flags, **changed)
    assert scripts.kinds() == kinds
    scripts.run(*OF, **flags, **changed)
    assert scripts.lines == []


def test_a_changed_flag_of_one_recipe_leaves_the_others_alone(made, tmp_path):
    scripts, flags = made
    write_recipes(tmp_path, b="--tta=six\n")
    done = scripts.run(*OF, **flags)
    assert scripts.kinds() == ["multi_stage_train", "predict", "predict", "evaluate", "make_submission"]
    assert not [line for line in scripts.lines[:3] if "models/a" in line]
    assert "train b         --tta: flip before, six now" in done.stdout


def test_a_model_with_other_training_flags_is_refused_before_anything_is_trained(made, tmp_path):
    scripts, flags = made
    more = write_recipes(tmp_path, new="", b="--lr=0.2\n")["RECIPES"]
    done = scripts.run(*OF, GEO_PRIOR="none", RECIPES=more, code=2)
    assert scripts.kinds() == ["multi_stage_train"] and "models/b" in scripts.lines[0]
    assert "--lr: not given before, 0.2 now" in done.stdout and "another RUN_DIR" in done.stdout
    write_recipes(tmp_path, b="--tta=flip\n")
    scripts.run(*OF, **flags)
    assert scripts.lines == []  # with the old flags it stands as before


@pytest.mark.parametrize("damage, kind", [
    ("submission.csv", "make_submission"), ("submission.meta.json", "make_submission"), ("report.html", "evaluate"),
    ("models/a/predictions/val/ids.txt", "predict"), ("records/val", "create_tfrecords"),
    ("models/b/stage_1_all/best/checkpoint", "multi_stage_train")])
def test_an_output_that_was_edited_or_deleted_is_made_anew(made, damage, kind):
    scripts, flags = made
    path = scripts.run_dir / damage
    whole = path.read_bytes()
    for damaged in (whole + b" more", b"", None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        scripts.run(*OF, **flags)
        # What comes out as it was leaves alone what depends on it.
        assert path.read_bytes() == whole and scripts.kinds() == [kind]


def test_boxes_outlive_their_contact_sheet(tmp_path):
    scripts, flags = Scripts(tmp_path), {"GEO_PRIOR": "none", **write_recipes(tmp_path, coarse="", fine="--boxes=coarse\n")}
    scripts.run(*OF, **flags)
    (scripts.run_dir / "boxes_coarse.png").unlink()
    boxes = scripts.run_dir / "records" / "boxes" / "coarse.json"
    inode = boxes.stat().st_ino
    scripts.run(*OF, **flags)
    assert scripts.kinds() == ["localize"] and boxes.stat().st_ino == inode


def test_other_raw_files_are_noticed(made, tmp_path):
    scripts, flags = made
    (tmp_path / "raw" / "val.json").write_text("[]")
    scripts.run(*OF, **flags)
    assert scripts.kinds() == ["create_tfrecords"]


def test_a_run_folder_of_before_stands(made):
    """It has no stamps: each command looks once by itself."""
    scripts, flags = made
    for path in (scripts.run_dir / "steps").iterdir():
        path.unlink()
    done = scripts.run(*OF, **flags, GEO_PRIOR_="")
    assert len(scripts.lines) == 9 and "it is not told how this was made; the command looks" in done.stdout
    scripts.run(*OF, **flags)
    assert scripts.lines == []


def test_a_dry_run_prints_the_plan_and_stops(made, tmp_path):
    scripts, flags = made
    before = {path: path.stat().st_mtime_ns for path in scripts.run_dir.rglob("*")}
    done = scripts.run(*OF, "--dry_run", **flags, PRIOR_FLAGS="--prior_correction=1")
    assert scripts.lines == [] and before == {path: path.stat().st_mtime_ns for path in scripts.run_dir.rglob("*")}
    lines = {line.split("  ")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("  ")}
    assert lines["train a"].endswith("stands") and "--prior_correction" in lines["scores"] and "before)" in lines["scores"]
    assert done.stdout.splitlines()[-1].startswith("to do: 2 of 9 steps, about 0:00:0")
    nothing = scripts.run(*OF, "--dry_run", run_dir=f"{tmp_path}/new", **flags)
    assert nothing.stdout.splitlines()[-1] == "to do: 9 of 9 steps, never timed here" and not (tmp_path / "new").exists()


def test_what_stands_costs_no_import_of_tensorflow(made):
    scripts, flags = made
    code = ("import runpy, sys; sys.argv[0] = 'run.py'\ntry:\n runpy.run_path('run.py', run_name='__main__')\n"
            "except SystemExit as end:\n assert not end.code\nassert not {'tensorflow', 'scipy'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, "inat2021", f"{scripts.folder}/raw", str(scripts.run_dir),
                           "--until=submission"], cwd=ROOT,
                          capture_output=True, text=True, env={**os.environ, **flags, "PYTHON": "false"}, check=False)
    assert done.returncode == 0 and "submission: up to date" in done.stdout, done.stderr


def test_recipes_are_told_apart_by_name_alone(made, tmp_path):
    """The same recipe from another folder is the same model."""
    scripts, flags = made
    (tmp_path / "copy").mkdir()
    for name in "ab":
        (tmp_path / "copy" / f"{name}.flags").write_text(f"{RECIPE}--tta=flip\n")
    scripts.run(*OF, **{**flags, "RECIPES": f"{tmp_path}/copy/a.flags {tmp_path}/copy/b.flags"})
    assert scripts.lines == []
