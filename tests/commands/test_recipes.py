"""Every flagfile under configs/: parsed by its command's flags and checked on data."""

import dataclasses
import json
import pathlib

import pytest

from conftest import ROOT
from pipeline.experiment import plan
from pipeline.geo import runs as geo_runs
from pipeline.training import plan_table, train
import random_boxes
import raw_data
from recipe_flags import CONFIGS, GEO_PRIOR, GPU, READ_GEO_PRIOR, RECIPES, RUN_FLAGS, TPU, python, read, settings_of
import tiny_records


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_parses_and_passes_the_checks(name, request, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_table, "text", lambda run, *_: run.model)  # builds the whole network, to count its parameters
    recipe = read(CONFIGS / name)
    many = recipe["stages"][0].loss not in (None, "softmax")  # None: the task's own
    data = request.getfixturevalue("tiny_multi_label_data" if many else "tiny_data")
    # All that is checked before training, on a competition that is not its own, which max_steps allows.
    of_run = ("model", "stages", "weights", "num_classes", "precision", "tta", "dropout", "place_input", "input_scaling",
              "channel_dropout", "head_init", "pixel_mean", "pixel_std")
    split = recipe["train_split"].replace("train_mini", "train")  # which the small competition has not
    boxes = recipe["boxes"] if recipe["tta"] == "mask16" else None
    if boxes:
        data = tiny_records.make(tmp_path, train=4, val=2, test=2)
        random_boxes.write(data, boxes, "train+val", with_masks=True)
    train.run_training(train.Run(data_dir=data.directory, model_dir=str(tmp_path / "m"), dry_run=True, max_steps=1, boxes=boxes,
                                 train_split=split, fold=0 if data.manifest.folds else None,
                                 **{key: recipe[key] for key in of_run}))
    assert (CONFIGS / name).read_text().count(f"--flagfile=configs/{name}") >= 1  # the header's own command


@pytest.mark.parametrize("path", GEO_PRIOR, ids=lambda path: path.stem)
def test_every_geo_prior_recipe_parses(path):
    recipe = json.loads(python(READ_GEO_PRIOR, f"--flagfile={path}"))
    geo_runs.GeoRun(**recipe)
    assert recipe["competition"] in (None, path.stem) and recipe["model_dir"] is None
    assert path.read_text().count(f"--flagfile=configs/geo_prior/{path.name}") >= 1  # the header's own command


def test_a_geo_prior_recipe_with_an_unknown_flag_is_refused(tmp_path):
    (tmp_path / "wrong.flags").write_text("--lr=0.1\n--stage=name=all\n")
    refused = raw_data.run_command("train_geo_prior.py", f"--flagfile={tmp_path}/wrong.flags")
    raw_data.assert_one_line_mistake(refused, "stage")


@pytest.mark.parametrize("path", RUN_FLAGS, ids=lambda path: path.parent.name)
def test_every_run_flags_names_recipes_that_go_together(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    read_by_run = settings_of(path)
    assert path.samefile(read_by_run.run_flags)
    names = [recipe.name for recipe in read_by_run.recipes]
    for recipe in read_by_run.recipes:
        assert (ROOT / recipe.path).relative_to(CONFIGS).as_posix() in RECIPES
        # The words are as multi_stage_train.py reads them, and what makes boxes stands before what trains on them.
        parsed = read(ROOT / recipe.path)
        assert all(recipe.value(name) == parsed[name] for name in ("fold", "boxes", "model"))
        assert not parsed["boxes"] or parsed["boxes"] in names[:names.index(recipe.name)] or path.parent.name == "lite0"
    assert not read_by_run.geo_prior or ROOT / read_by_run.geo_prior in GEO_PRIOR


def test_every_competition_with_recipes_has_a_run_flags():
    assert {path.parent.name for path in RUN_FLAGS} >= {"demo", *(path.stem for path in TPU)}


def test_records_are_made_as_the_recipes_headers_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    for competition, told in (("imet2019", "--folds=10 --random_seed=42"), ("turtle_recall", "--folds=5 --random_seed=33 --folds_by=rows")):
        read_by_run = settings_of(CONFIGS / competition / "run.flags")
        assert " ".join(plan.record_flags(read_by_run)) == told
        assert all(told in pathlib.Path(recipe.path).read_text() for recipe in read_by_run.recipes)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_on_boxes_is_the_coarse_one_on_crops(name):
    recipe = read(CONFIGS / name)
    if recipe["boxes"]:
        coarse = (CONFIGS / name).with_name(f"{recipe['boxes']}.flags")
        own = {"boxes": None, "random_seed": 0, "tta": None}
        crops = {"augment": "", "eval_resize": "", "rotate": 0.0, "grid_mask": 0.0, "resize_engine": ""}
        alike = [{**one, **own, "stages": [dataclasses.replace(stage, **crops) for stage in one["stages"]]}
                 for one in (recipe, read(coarse))]
        assert alike[0] == alike[1]  # what they see alone differs


@pytest.mark.parametrize("name", RECIPES)
def test_the_override_for_one_gpu_follows_any_recipe(name):
    recipe, on_gpu = read(CONFIGS / name), read(CONFIGS / name, GPU)
    assert (on_gpu["precision"], on_gpu["tpu"]) == ("mixed_float16", "none")
    of_lines = [line for line in (CONFIGS / name).read_text().splitlines() if line.startswith("--stage=")]
    for line, before, after in zip(of_lines, recipe["stages"], on_gpu["stages"]):
        batch = before.batch_size if ",batch_size=" in line else 8  # a line that names its own keeps it
        assert (after.batch_size, after.lr) == (batch, before.lr)
        if before.scale_lr:
            assert after.peak_lr == pytest.approx(before.peak_lr * batch / before.batch_size)


@pytest.mark.parametrize("path", TPU, ids=lambda path: path.stem)
def test_a_solutions_override_for_a_tpu(path):
    for recipe_path in sorted(set((CONFIGS / path.stem).glob("*.flags")) - set(RUN_FLAGS)):
        recipe, on_tpu = read(recipe_path), read(recipe_path, path)
        assert on_tpu["tpu"] == "local" and on_tpu["precision"] in ("float32", "mixed_bfloat16")
        for before, after in zip(recipe["stages"], on_tpu["stages"]):
            assert after.batch_size % 8 == 0
            assert after.batch_size == before.batch_size or before.scale_lr
            assert f"{before.batch_size}" in path.read_text() or after.batch_size == before.batch_size
    assert f"--flagfile=configs/overrides/tpu/{path.name}" in path.read_text()


def test_every_solution_has_an_override_for_a_tpu():
    assert {path.stem for path in TPU} == {"inat2017", "inat2019", "inat2021", "imet2019", "turtle_recall"}
