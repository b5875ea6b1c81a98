"""What the run scripts score and submit where not all stands: told by a stand-in for the commands that they start."""

import json

import pytest

import raw_data
from stand_in import Scripts
from test_run_script_flags import read_json, write_recipes

BY_FOLDS = {"GEO_PRIOR": "none", "FOLDS": "3"}


@pytest.fixture
def scripts(tmp_path):
    return Scripts(tmp_path)


def meta(scripts):
    return read_json(scripts.run_dir / "submission.meta.json")


def predictions(line):
    """The folders of a command's --predictions, as MODEL/…."""
    return [word.strip().partition("/models/")[2] for word in line.split("--") if word.startswith("predictions=")]


def test_scores_and_submission_are_of_the_same_members_blend_and_priors(scripts, tmp_path):
    done = scripts.run("run_inference.sh", "inat2021", **BY_FOLDS, PRIOR_FLAGS="--prior_correction=1",
                       **write_recipes(tmp_path, a="--fold=all\n--tta=flip\n", b="--fold=all\n--tta=flip\n"))
    (scored,), (submitted,) = scripts.of("evaluate.py"), scripts.of("make_submission.py")
    assert predictions(scored) == ["a/out_of_fold", "b/out_of_fold"]
    assert predictions(submitted) == ["a/predictions/test", "b/predictions/test"]
    for line in (scored, submitted):
        assert "--blend=oof" in line and "--prior_correction=1" in line
    told = meta(scripts)
    assert [(one["name"], one["folds"], one["views"]) for one in told["members"]] == [
        ("a", [0, 1, 2], "flip"), ("b", [0, 1, 2], "flip")]
    assert (told["blend"], told["weights"], told["priors"]) == ("oof", {"a": 0.5, "b": 0.5}, {"prior_correction": "1"})
    assert told["member_temperatures"] == {"a": 0.75, "b": 0.75}
    assert told["missing"] == [] and done.stdout.splitlines()[-1].endswith("/submission.csv")
    # What can't be avoided is said: a picture that was held out has one model, one of test three.
    difference = "a is scored with 1 model a picture and submitted with 3 models a picture"
    assert difference in told["differences"] and difference in read_json(scripts.run_dir / "scores.json")["warnings"]
    assert f"note: {difference}" in done.stdout


def test_models_without_folds_are_averaged_alike(scripts, tmp_path):
    scripts.run("run_inference.sh", "inat2021", GEO_PRIOR="none", **write_recipes(tmp_path, a="", b=""))
    assert all("--blend=equal" in line for line in scripts.of("evaluate.py") + scripts.of("make_submission.py"))
    assert meta(scripts)["differences"] == [] == read_json(scripts.run_dir / "scores.json")["warnings"]


@pytest.mark.parametrize("flags", [{"PREDICT_FLAGS": "--tta=ten"}, {"SUBMISSION_FLAGS": "--prior_correction=1"}])
def test_a_difference_of_views_or_priors_is_said(scripts, tmp_path, flags):
    done = scripts.run("run_inference.sh", "inat2021", **BY_FOLDS, **flags, **write_recipes(tmp_path, a="--fold=all\n"))
    (value,) = flags.values()
    assert [line for line in meta(scripts)["differences"] if value in line]
    assert [line for line in read_json(scripts.run_dir / "scores.json")["warnings"] if value in line]
    assert [line for line in done.stdout.splitlines() if line.startswith("note: ") and value in line]


def test_some_of_the_folds_are_scored_and_submitted(scripts, tmp_path):
    done = scripts.run("run_inference.sh", "inat2021", **BY_FOLDS, **write_recipes(tmp_path, m="--fold=0:2\n"))
    assert predictions(scripts.of("evaluate.py")[0]) == ["m/out_of_fold"]
    assert done.stdout.splitlines()[-1].endswith("submission.csv (of m (folds 0, 2 of 3))")
    assert meta(scripts)["members"][0]["folds"] == [0, 2] and meta(scripts)["missing"] == []


def test_the_last_run_by_folds_on_all_that_has_labels_is_submitted(scripts, tmp_path):
    recipes = write_recipes(tmp_path, m="--train_split=train+val\n--fold=all\n")
    scripts.run("run_inference.sh", "inat2021", **BY_FOLDS, **recipes)
    assert [line.count("--split=val") for line in scripts.of("predict.py")] == [0]  # no fold held it out
    assert predictions(scripts.of("evaluate.py")[0]) == ["m/out_of_fold"]
    assert scripts.of("make_submission.py")


def test_a_fold_that_died_is_missing_and_the_same_command_goes_on(scripts, tmp_path):
    recipes = write_recipes(tmp_path, m="--fold=all\n")
    done = scripts.run("run_inference.sh", "inat2021", **BY_FOLDS, **recipes, FAULTS="1:9", code=3)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("submission: ") and "m (folds 0, 2 of 3)" in last and "without m's fold 1" in last
    assert (meta(scripts)["members"][0]["folds"], meta(scripts)["missing"]) == ([0, 2], ["m's fold 1"])
    assert done.stderr.splitlines()[-1].startswith("run.py: train m: ")
    assert scripts.kinds() == ["create_tfrecords", "multi_stage_train", "predict", "evaluate", "make_submission"]
    done = scripts.run("run_inference.sh", "inat2021", **BY_FOLDS, **recipes)
    assert scripts.kinds() == ["multi_stage_train", "predict", "evaluate", "make_submission"]
    assert meta(scripts)["members"][0]["folds"] == [0, 1, 2] and done.stdout.splitlines()[-1].endswith("/submission.csv")


def test_models_with_and_without_folds_are_scored_together_on_val(scripts, tmp_path):
    recipes = write_recipes(tmp_path, a="--fold=all\n", b="")
    scripts.run("run_inference.sh", "inat2021", **BY_FOLDS, **recipes)
    (scored,), (submitted,) = scripts.of("evaluate.py"), scripts.of("make_submission.py")
    assert predictions(scored) == ["a/predictions/val", "b/predictions/val"]
    assert "--blend=equal" in scored and "--blend=equal" in submitted
    assert meta(scripts)["differences"] == []


def test_without_val_each_is_scored_on_what_it_held_out(scripts, tmp_path):
    recipes = write_recipes(tmp_path, a="--fold=all\n", b="", c="--fold=0:1\n")
    scripts.run("run_inference.sh", "inat2021", **BY_FOLDS, **recipes, SPLITS="train test")
    assert [predictions(line) for line in scripts.of("evaluate.py")] == [["a/out_of_fold"], ["c/out_of_fold"]]
    assert len(predictions(scripts.of("make_submission.py")[0])) == 3
    warnings = read_json(scripts.run_dir / "scores.json")["warnings"]
    assert "the scores are of a; the submission is of a, b, c" in warnings
    assert (scripts.run_dir / "scores_out_of_fold_0_1.json").exists()


def test_scores_that_can_not_be_made_hold_nothing_up(scripts, tmp_path):
    done = scripts.run("run_inference.sh", "inat2021", GEO_PRIOR="none", FAULTS="evaluate.py:2", code=3,
                       **write_recipes(tmp_path, m=""))
    assert done.stdout.splitlines()[-1].endswith("/submission.csv") and "scores: " in done.stderr.splitlines()[-1]


def test_a_model_that_died_takes_no_other_along(scripts, tmp_path):
    recipes = write_recipes(tmp_path, a="", b="", fine="--boxes=a\n")
    done = scripts.run("run_inference.sh", "inat2021", GEO_PRIOR="none", FAULTS="train /a.flags:3", code=3, **recipes)
    assert predictions(scripts.of("make_submission.py")[0]) == ["b/predictions/test"]
    assert meta(scripts)["missing"] == ["a", "fine"] and scripts.of("localize.py") == []
    assert "of b; without a, fine" in done.stdout.splitlines()[-1]
    done = scripts.run("run_inference.sh", "inat2021", "--recipes", f"{tmp_path}/a.flags", code=3, GEO_PRIOR="none",
                       FAULTS="train /a.flags:3")
    assert done.stdout.splitlines()[-1] == "submission:   none, for want of a model that has finished"


@pytest.mark.parametrize("code", [2, 75, 130])
def test_a_mistake_a_preemption_and_an_interruption_end_it_all(scripts, tmp_path, code):
    done = scripts.run("run_inference.sh", "inat2021", GEO_PRIOR="none", FAULTS=f"train /a.flags:{code}", code=code,
                       **write_recipes(tmp_path, a="", b=""))
    starts = 5 if code == 75 else 1  # a preempted one is started again, unless it ends at once each time
    assert scripts.kinds() == ["create_tfrecords", *["multi_stage_train"] * starts]
    assert done.stderr.splitlines()[-1].startswith("stand_in: ")  # its own line says why


# On a bucket

GFILE = """
import glob as _glob, os, shutil
def _of(path): return str(path).replace("gs://bucket", {folder!r})
class io:
    class gfile:
        exists = staticmethod(lambda path: os.path.exists(_of(path)))
        makedirs = staticmethod(lambda path: os.makedirs(_of(path), exist_ok=True))
        GFile = staticmethod(lambda path, mode="r": open(_of(path), mode))
        rename = staticmethod(lambda source, target, overwrite: os.replace(_of(source), _of(target)))
        remove = staticmethod(lambda path: os.remove(_of(path)))
        glob = staticmethod(lambda path: [one.replace({folder!r}, "gs://bucket") for one in _glob.glob(_of(path))])
        stat = staticmethod(lambda path: type("Stat", (), dict(length=os.path.getsize(_of(path)))))
"""


def test_folds_on_a_bucket_are_scored(scripts, tmp_path):
    (tmp_path / "bucket").mkdir()
    raw_data.write(tmp_path / "gfile" / "tensorflow.py", GFILE.format(folder=str(tmp_path / "bucket")).encode())
    of_bucket = {**BY_FOLDS, "PYTHONPATH": f"{tmp_path}/gfile", "BUCKET": f"{tmp_path}/bucket", "run_dir": "gs://bucket/run",
                 **write_recipes(tmp_path, m="--fold=all\n")}
    done = scripts.run("run_inference.sh", "inat2021", **of_bucket)
    (scored,) = scripts.of("evaluate.py")
    assert "--predictions=gs://bucket/run/models/m/out_of_fold" in scored
    assert done.stdout.splitlines()[-1].endswith("gs://bucket/run/submission.csv")
    assert json.loads((tmp_path / "bucket" / "run" / "submission.meta.json").read_text())["members"][0]["folds"] == [0, 1, 2]
    scripts.run("run_inference.sh", "inat2021", **of_bucket)
    assert scripts.lines == []  # one process has asked for all
