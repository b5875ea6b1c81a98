"""Which commands the run scripts give, told by a stand-in for Python that writes down what it is asked for."""

import json

import pytest

import raw_data
from stand_in import Scripts

RECIPE = "--model=kecam/EfficientNetV2Tiny\n--stage=name=all,epochs=1,size=32,lr=0.01,train=all\n"


@pytest.fixture
def scripts(tmp_path):
    return Scripts(tmp_path)


def write_recipes(folder, **recipes):
    """Flagfiles by name; the text of RECIPES=…."""
    for name, more in recipes.items():
        (folder / f"{name}.flags").write_text(RECIPE + more)
    return {"RECIPES": " ".join(f"{folder}/{name}.flags" for name in recipes)}


def read_json(path):
    return json.loads(path.read_text())


def test_a_geo_prior_is_trained_and_used_where_there_is_a_recipe(scripts, tmp_path):
    (tmp_path / "my.flags").write_text("--epochs=1\n")
    scripts.run("run_inference.sh", "inat2019", GEO_PRIOR=f"{tmp_path}/my.flags",
                PRIOR_FLAGS="--prior_correction=1 --geo_exponent=fit")
    prior = f"{scripts.run_dir}/geo_prior"
    (training,) = scripts.of("train_geo_prior.py")
    assert f"--flagfile={tmp_path}/my.flags --competition=inat2019" in training and f"--model_dir={prior}" in training
    assert scripts.lines.index(training) < scripts.lines.index(scripts.of("multi_stage_train.py")[0])
    for script in ("evaluate.py", "make_submission.py"):  # the same on top, so that the scores are the submission's
        (line,) = scripts.of(script)
        assert f"--geo_prior={prior} --prior_correction=1 --geo_exponent=fit" in line


@pytest.mark.parametrize("competition, environment", [("turtle_recall", {}), ("inat2021", {"GEO_PRIOR": "none"}),
                                                      ("demo", {"GEO_PRIOR": "none"})])
def test_no_geo_prior_without_a_recipe_or_by_request(scripts, competition, environment):
    scripts.run("run_inference.sh", competition, **environment)
    assert scripts.of("make_submission.py")
    assert not [line for line in scripts.lines if line.startswith("train_geo_prior.py") or "--geo_prior" in line]


def test_the_demos_test_pictures_are_scored_by_one_view_too(scripts):
    scripts.run("run_inference.sh", "demo")
    assert [("--tta=none" in line) for line in scripts.of("predict.py")] == [False, False, True]  # val, test, test
    val, test = scripts.of("evaluate.py")
    assert "--without_tta" not in val
    assert f"--without_tta={scripts.run_dir}/models/demo/predictions/test_one_view" in test
    assert "--geo_prior=" in test and "test_scores.json" in test


# What configs/COMPETITION/run.flags says, and what wins over it

@pytest.mark.parametrize("competition, recipes, records", [
    ("imet2019", 1, "--folds=10 --random_seed=42"), ("turtle_recall", 6, "--folds=5 --random_seed=33 --folds_by=rows"),
    ("inat2021", 1, "/records"), ("inat2017", 1, "--short_side=512"), ("inat2019", 2, "/records")])
def test_a_competition_is_made_as_its_recipes_were_published(scripts, competition, recipes, records):
    scripts.run("run_training.sh", competition)
    assert scripts.lines[0].startswith("create_tfrecords.py") and scripts.lines[0].endswith(records)
    assert len(scripts.of("multi_stage_train.py")) == recipes


def test_flags_win_over_the_environment_and_both_over_run_flags(scripts):
    scripts.run("run_training.sh", "imet2019", FOLDS="4", RECORD_FLAGS="--max_side=512")
    assert scripts.lines[0].endswith("--folds=4 --random_seed=42 --max_side=512")
    scripts.run("run_training.sh", "imet2019", "--folds=3", run_dir=f"{scripts.run_dir}2", FOLDS="4",
                RECIPES="configs/imet2019/master_seresnext50.flags")
    assert scripts.lines[0].endswith("--folds=3 --random_seed=42")
    assert len(scripts.of("multi_stage_train.py")) == 1


def test_what_stands_beside_the_named_recipes_is_not_trained(scripts, tmp_path):
    recipes = write_recipes(tmp_path, a="", variant="")
    (tmp_path / "run.flags").write_text("--train_flags=--batch_size=4 --fold=all\n--folds=3\n")
    scripts.run("run_training.sh", "inat2018", RECIPES=recipes["RECIPES"].split()[0])
    assert "--folds=3" in scripts.lines[0]  # recipes from elsewhere bring the run.flags beside them
    (training,) = scripts.of("multi_stage_train.py")
    assert f"--flagfile={tmp_path}/a.flags" in training and training.endswith("--batch_size=4 --fold=all")


@pytest.mark.parametrize("competition, environment", [("inat2018", {}), ("inat2019", {"RECIPES": "auto"})])
@pytest.mark.parametrize("pictures, recipes", [(30, ["probe", "small"]), (100_000, ["base"])])
def test_without_recipes_some_are_picked_by_the_records(scripts, competition, environment, pictures, recipes):
    paths = [f"configs/{one}.flags" for one in recipes]
    environment = {**environment, "PICTURES": str(pictures)}
    scripts.run("run_inference.sh", competition, "--dry_run", **environment)
    assert "recipes are picked when the records stand (as " in scripts.done.stdout and not scripts.run_dir.exists()
    done = scripts.run("run_inference.sh", competition, **environment)
    assert "--folds=5" in scripts.lines[0]
    assert [line.split("--flagfile=")[1].split()[0] for line in scripts.of("multi_stage_train.py")] == paths
    assert f"{', '.join(paths)} (as " in done.stdout and f"{pictures:,} pictures of train" in done.stdout
    (scores,), (submission,) = scripts.of("evaluate.py"), scripts.of("make_submission.py")
    for answers in (scores, submission):
        assert ("--blend=oof" in answers) == (len(recipes) == 2) and all(f"models/{one}/" in answers for one in recipes)
    again = scripts.run("run_inference.sh", competition, **{**environment, "PICTURES": "5"})
    assert not scripts.lines and f"{', '.join(paths)} (as " in again.stdout and "begun in this RUN_DIR" in again.stdout


def test_records_without_folds_are_gone_on_with(scripts):
    scripts.run("run_training.sh", "inat2018", RECIPES="configs/base.flags")
    (scripts.run_dir / "models" / "base" / "run.json").unlink()
    done = scripts.run("run_training.sh", "inat2018")
    assert not scripts.of("create_tfrecords.py") and "few, but in no folds" in done.stdout
    assert "--flagfile=configs/base.flags" in scripts.of("multi_stage_train.py")[0]


def test_none_is_picked_for_a_task_that_it_is_not_for(scripts):
    many = {"RECIPES": "auto", "SEVERAL_LABELS": "1", "PICTURES": "100000"}
    scripts.run("run_training.sh", "imet2019", code=3, **many)  # the records are made, and tell it
    assert "kind multi_label" in scripts.done.stderr.splitlines()[-1] and not scripts.of("multi_stage_train.py")
    done = scripts.run("run_training.sh", "imet2019", code=2, **many)
    raw_data.assert_one_line_mistake(done, "--recipes=auto", "configs/small.flags")
    assert scripts.lines == []
    scripts.run("run_training.sh", "imet2019", **{**many, "RECIPES": "configs/small.flags"})  # as it says
    assert [line.split(".py")[0] for line in scripts.lines] == ["multi_stage_train"]


@pytest.mark.parametrize("flags, word", [
    (["--recipes=nowhere.flags"], "nowhere.flags"), (["--train_flags=--flagfile=nowhere.flags"], "nowhere.flags"),
    (["--train_flags='"], "train_flags"), (["--recipes=configs/base.flags configs/base.flags"], "base"),
    (["--recipes=auto configs/base.flags"], "auto"),
    (["--geo_prior=nowhere.flags"], "nowhere.flags"), (["--foldss=3"], "foldss"), (["--folds=1"], "folds")])
def test_mistakes_are_told_in_one_line_before_anything_is_done(scripts, flags, word):
    raw_data.assert_one_line_mistake(scripts.run("run_inference.sh", "inat2021", *flags, code=2), word)
    assert scripts.lines == []


def test_records_of_before_with_other_folds_say_what_to_do(scripts, tmp_path):
    scripts.run("run_training.sh", "turtle_recall", RECORD_FLAGS="--random_seed=42")
    done = scripts.run("run_training.sh", "turtle_recall", code=2)
    raw_data.assert_one_line_mistake(done, "--random_seed=42", "--random_seed=33", "RUN_DIR", "--record_flags")
    assert scripts.lines == []
    scripts.run("run_training.sh", "turtle_recall", '--record_flags=--random_seed=42')


# Members

def test_a_recipe_may_be_there_for_its_boxes_alone(scripts, tmp_path):
    recipes = write_recipes(tmp_path, coarse="", fine="--boxes=coarse\n")
    done = scripts.run("run_inference.sh", "inat2021", GEO_PRIOR="none", MEMBERS="fine", **recipes)
    assert "scores and submission are of fine alone" in done.stdout
    assert len(scripts.of("multi_stage_train.py")) == 2 and len(scripts.of("localize.py")) == 1
    (scores,), (submission,) = scripts.of("evaluate.py"), scripts.of("make_submission.py")
    for line in (*scripts.of("predict.py"), scores, submission):
        assert "models/fine" in line and "models/coarse" not in line  # what is scored is what is submitted


@pytest.mark.parametrize("chosen, answering", [("coarse", ["coarse"]), ("coarse fine", ["fine"]), ("fine other", ["fine"])])
def test_the_members_of_a_run_flags_beside_other_recipes(scripts, tmp_path, chosen, answering):
    write_recipes(tmp_path, coarse="", fine="", other="")
    (tmp_path / "run.flags").write_text("--members=fine\n--geo_prior=none\n")
    scripts.run("run_inference.sh", "inat2021", RECIPES=" ".join(f"{tmp_path}/{name}.flags" for name in chosen.split()))
    assert {line.split("models/")[1].split(" ")[0].split("/")[0] for line in scripts.of("predict.py")} == set(answering)


def test_a_member_that_is_no_recipe(scripts, tmp_path):
    recipes = write_recipes(tmp_path, coarse="", fine="")
    done = scripts.run("run_inference.sh", "inat2021", "--members=finer", GEO_PRIOR="none", code=2, **recipes)
    raw_data.assert_one_line_mistake(done, "--members", "finer", "coarse, fine")
    assert scripts.lines == []


# Devices

@pytest.mark.parametrize("device", ["--tpu=local", "--tpu local --virtual_replicas=2", "--flagfile=DEVICES.flags"])
def test_devices_of_training_reach_every_command_that_runs_a_network(scripts, tmp_path, device):
    (tmp_path / "DEVICES.flags").write_text("--tpu=local\n--batch_size=8\n")
    recipes = write_recipes(tmp_path, coarse="", fine="--boxes=coarse\n")
    scripts.run("run_inference.sh", "inat2021", GEO_PRIOR="none", **recipes,
                TRAIN_FLAGS=device.replace("DEVICES", f"{tmp_path}/DEVICES"))
    ran = scripts.of("predict.py") + scripts.of("localize.py")
    assert len(ran) == 5 and all("--tpu=local" in line for line in ran)
    assert all(("--virtual_replicas=2" in line) == ("replicas" in device) for line in ran)
    assert not [line for line in ran if "batch_size" in line]
    assert not [line for line in scripts.of("evaluate.py") + scripts.of("make_submission.py") if "tpu" in line]


def test_prediction_may_have_devices_of_its_own(scripts, tmp_path):
    scripts.run("run_inference.sh", "inat2021", GEO_PRIOR="none", TRAIN_FLAGS="--tpu=local", PREDICT_FLAGS="--tpu=none",
                **write_recipes(tmp_path, m=""))
    assert all(line.endswith("--tpu=local --tpu=none") for line in scripts.of("predict.py"))
