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


def write_inat2018(scripts, pictures, classes):
    write = lambda name, content: (scripts.folder / "raw" / name).write_text(json.dumps(content))  # noqa: E731
    categories = [{"id": one, "name": f"c{one}", "supercategory": "x"} for one in range(classes)]
    for split, count in (("train", pictures), ("val", 1)):
        write(f"{split}2018.json", {
            "images": [{"id": one, "file_name": f"{split}/{one}.jpg"} for one in range(count)], "categories": categories,
            "annotations": [{"id": one, "image_id": one, "category_id": one % classes} for one in range(count)]})


@pytest.mark.parametrize("classes, environment", [(1001, {}), (1001, {"RECIPES": "auto"}), (1000, {"RECIPES": "auto"}), (1000, {})])
def test_without_recipes_some_are_picked_by_the_pictures_and_it_is_said_why(scripts, classes, environment):
    write_inat2018(scripts, 20_000, classes)
    done = scripts.run("run_training.sh", "inat2018", **environment)
    recipes = [line.split("--flagfile=")[1].split()[0] for line in scripts.of("multi_stage_train.py")]
    few = classes > 1000
    assert recipes == (["configs/probe.flags", "configs/small.flags"] if few else ["configs/base.flags"])
    assert ("--folds=5" in scripts.lines[0]) == few
    assert f"(as {'asked' if environment else 'configs'}" in done.stdout and "20000 pictures to train on, 20 a class" in done.stdout
    write_inat2018(scripts, 20_000, 2001 - classes)
    scripts.run("run_training.sh", "inat2018", "--dry_run", **environment)
    assert ", ".join(recipes) + " (as " in scripts.done.stdout and "auto.json" in scripts.done.stdout


def test_what_was_picked_is_blended_out_of_fold(scripts):
    write_inat2018(scripts, 30, 3)
    scripts.run("run_inference.sh", "inat2018")
    for answers in (*scripts.of("evaluate.py")[:1], *scripts.of("make_submission.py")):
        assert "--blend=oof" in answers and "models/probe/" in answers and "models/small/" in answers


def test_a_dry_run_picks_and_keeps_nothing(scripts):
    write_inat2018(scripts, 30, 3)
    scripts.run("run_training.sh", "inat2018", "--dry_run")
    assert "configs/probe.flags, configs/small.flags" in scripts.done.stdout and not scripts.run_dir.exists()


def test_files_that_cannot_be_counted_are_told_in_one_line(scripts):
    raw_data.assert_one_line_mistake(scripts.run("run_training.sh", "inat2018", code=2), "train2018.json")
    assert scripts.lines == []


def test_none_is_picked_for_a_task_that_it_is_not_for(scripts):
    raw = scripts.folder / "raw"
    (raw / "labels.csv").write_text("attribute_id,attribute_name\n0,tag::a\n1,tag::b\n")
    (raw / "train.csv").write_text("id,attribute_ids\n" + "".join(f"{one},0 1\n" for one in range(20_000)))
    for code in (3, 2):  # once the records tell so, and before anything is done where they stand
        done = scripts.run("run_training.sh", "imet2019", RECIPES="auto", SEVERAL_LABELS="1", code=code)
        assert "multi_label no recipe is picked" in done.stderr.splitlines()[-1] and not scripts.of("multi_stage_train.py")


@pytest.mark.parametrize("flags, word", [
    (["--recipes=nowhere.flags"], "nowhere.flags"), (["--train_flags=--flagfile=nowhere.flags"], "nowhere.flags"),
    (["--train_flags='"], "train_flags"), (["--recipes=configs/base.flags configs/base.flags"], "base"),
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
