"""The nine flagfiles that iNat 2021's sixth place published, flag for flag, and what else its programs take."""

import csv
import functools
import json
import re
import subprocess
import sys

import pytest

from conftest import ROOT
from pipeline.models import zoo
from pipeline.models.scaling import MODES
from pipeline.runs import stages
from pipeline.training import sixth_place, sixth_place_flags
from raw_data import assert_one_line_mistake, run_command, write
import solution_records
from recipe_flags import read

INAT2021 = ROOT / "configs" / "inat2021"

# Shards: how many they say they are, by the set that a file takes.
SHARDS = {"mini": ("train_mini", 455, 91), "mini_multi_stage": ("train_mini", 417, 84), "full": ("train", 2240, 84)}
TRAIN, VAL, TEST = 16, 6, 5  # records that these tests make; published: 500,000 or 2,686,843, and 100,000
EVERY = "--num_classes=10000 --input_scale_mode=uint8 --label_smoothing=0.1 --random_seed=42"
TRAINING = {
    "efficientnet_b0_224x224_inatmini_full": ("mini", "--model_name=efficientnet-b0 --input_size=224 --batch_size=32 "
     "--lr=0.1 --momentum=0.9 --epochs=10 --randaug_num_layers=2 --randaug_magnitude=2"),
    "efficientnet_b2_260x260_inatmini_full": ("mini", "--model_name=efficientnet-b2 --input_size=260 --batch_size=64 "
     "--lr=0.1 --momentum=0.9 --epochs=20 --randaug_num_layers=4 --randaug_magnitude=2"),
    "efficientnet_b3_300x300_inat_full": ("full", "--model_name=efficientnet-b3 --input_size=300 --use_coordinates_inputs "
     "--batch_size=32 --lr=0.1 --momentum=0.9 --epochs=20 --randaug_num_layers=6 --randaug_magnitude=4"),
    "fixefficientnet_b0_224x224_inatmini_full": ("mini", "--model_name=efficientnet-b0 --fix_resolution "
     "--unfreeze_layers=16 --input_size=300 --load_checkpoint={P} --batch_size=32 --lr=0.008 --momentum=0 --epochs=2 "
     "--warmup_epochs=0.1"),
    "fixefficientnet_b2_260x260_inatmini_full": ("mini", "--model_name=efficientnet-b2 --fix_resolution "
     "--unfreeze_layers=18 --input_size=380 --load_checkpoint={P} --batch_size=32 --lr=0.008 --momentum=0 --epochs=5 "
     "--warmup_epochs=0.1"),
    "fixefficientnet_b3_400x400_inat_full": ("full", "--model_name=efficientnet-b3 --fix_resolution --unfreeze_layers=18 "
     "--input_size=400 --use_coordinates_inputs --load_checkpoint={P} --batch_size=16 --lr=0.008 --momentum=0 --epochs=2 "
     "--warmup_epochs=0.1"),
    "efficientnet_b0_224x224_inatmini_full_mltstg": ("mini_multi_stage", "--model_name=efficientnet-b0 --input_size=224 "
     "--input_size_stage3=300 --batch_size=32 --lr_stage1=0.1 --lr_stage2=0.1 --lr_stage3=0.008 --momentum=0.9 "
     "--epochs_stage1=4 --epochs_stage2=10 --epochs_stage3=2 --unfreeze_layers=18 --randaug_num_layers=2 "
     "--randaug_magnitude=2"),
    "efficientnet_b3_final_submission_training": ("full", "--model_name=efficientnet-b3 --input_size=300 "
     "--input_size_stage3=432 --batch_size=32 --lr_stage1=0.1 --lr_stage2=0.1 --lr_stage3=0.008 --momentum=0.9 "
     "--epochs_stage1=0 --epochs_stage2=20 --epochs_stage3=2 --unfreeze_layers=18 --randaug_num_layers=6 "
     "--randaug_magnitude=4"),
}
INFERENCE = ("--test_files={P}/inat_public_test.record-?????-of-00417 --num_classes=10000 --model_name=efficientnet-b3 "
             "--input_size=432 --input_scale_mode=uint8 --batch_size=8 --ckpt_dir={P}/ --geo_prior_ckpt_dir={geo}/ "
             "--submission_file_path={P}/final_submission.csv --use_tta")


def write_flagfile(folder, name, **places):
    """The file as published, the placeholders filled; `folder` is that of the records."""
    shards, own = TRAINING[name]
    split, train_shards, val_shards = SHARDS[shards]
    records = (f"--training_files={folder}/inat_{split}.record-?????-of-{train_shards:05d} --num_training_instances={TRAIN} "
               f"--validation_files={folder}/inat_val.record-?????-of-{val_shards:05d} --num_validation_instances={VAL}")
    path = folder / f"{name}.config"
    write(path, "\n".join(f"{records} {EVERY} {own.format(**places)}".split()).encode())
    return path


def write_records(folder, name):
    split, train_shards, val_shards = SHARDS[TRAINING[name][0]]
    solution_records.write(folder, split, TRAIN, train_shards)
    solution_records.write(folder, "val", VAL, val_shards, first=100)
    return folder


RESOLVE = """
import dataclasses, json, sys
import multi_stage_train as command
rest = command.FLAGS(sys.argv)
assert rest[1:] == [], rest
assert command.sixth_place_flags.is_used()
command.sixth_place.translate_training()
names = ("model", "weights", "num_classes", "place_input", "input_scaling", "init_from", "random_seed")
print(json.dumps({**{name: command.FLAGS[name].value for name in names},
                  "stages": [dataclasses.asdict(stage) for stage in command.resolve_stages()]}))
assert "tensorflow" not in sys.modules
"""


def resolve(*flags):
    done = subprocess.run([sys.executable, "-c", RESOLVE, *map(str, flags)], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    resolved = json.loads(done.stdout.splitlines()[-1])
    return {**resolved, "stages": tuple(stages.Stage(**stage) for stage in resolved["stages"])}


@pytest.fixture(scope="module")
def resolved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flagfiles")
    return functools.cache(lambda name: resolve(f"--flagfile={write_flagfile(folder, name, P='EARLIER/')}"))


@pytest.mark.parametrize("recipe, names", [
    ("efficientnet_b3", ["efficientnet_b3_final_submission_training"]),
    ("efficientnet_b0_mini", ["efficientnet_b0_224x224_inatmini_full_mltstg"]),
    ("efficientnet_b2_mini", ["efficientnet_b2_260x260_inatmini_full", "fixefficientnet_b2_260x260_inatmini_full"]),
    ("efficientnet_b3_places", ["efficientnet_b3_300x300_inat_full", "fixefficientnet_b3_400x400_inat_full"]),
])
def test_our_recipes_are_the_published_files(recipe, names, resolved):
    """A file a stage of main.py, or all of its multi_stage_train.py, is one flagfile of ours: every setting of it."""
    ours, theirs = read(INAT2021 / f"{recipe}.flags"), [resolved(name) for name in names]
    told = sum((one["stages"] for one in theirs), ())
    if not ours["place_input"]:  # which then says nothing
        assert not any(stage.freeze_place for stage in told)
    assert ours["stages"] == told
    for name in ("model", "weights", "num_classes", "place_input", "input_scaling", "random_seed"):
        assert {one[name] for one in theirs} == {ours[name]}, name
    assert [one["init_from"] for one in theirs] == [None, "EARLIER/"][:len(names)]
    assert ours["tta"] == "six"


def test_the_small_ones_two_files(resolved):
    first, fixed = (resolved(f"{name}_224x224_inatmini_full") for name in ("efficientnet_b0", "fixefficientnet_b0"))
    assert (first["model"], first["init_from"], fixed["init_from"]) == ("keras/efficientnet-b0", None, "EARLIER/")
    one, = first["stages"]
    assert (one.size, one.epochs, one.train, one.peak_lr) == (224, 10, "all", 0.1 * 32 / 256)
    assert (one.randaugment, one.augment, one.momentum, one.warmup_epochs) == ("2:2:same:tf_contrast", "inception", 0.9, 0.3)
    two, = fixed["stages"]
    assert (two.size, two.epochs, two.train, two.peak_lr) == (300, 2, "last:16", 0.008 * 32 / 256)
    assert (two.randaugment, two.augment, two.momentum, two.warmup_epochs) == ("", "eval", 0.0, 0.1)
    for stage in (one, two):
        assert (stage.min_crop, stage.crop_law, stage.antialias, stage.keep) == (0.5, "height", False, "last")
        assert (stage.lr_schedule, stage.label_smoothing, stage.optimizer) == ("cosine:whole", 0.1, "sgd")


def test_main_pys_defaults_and_the_place():
    told = resolve("--epochs=7", "--use_coordinates_inputs", "--num_readers=3", "--suffle_buffer_size=7",
                   "--loc_encode=encode_cos_sin", "--date_encode=encode_cos_sin", "--nouse_date_feats", "--model_dir=m")
    stage, = told["stages"]
    assert (told["model"], told["weights"], told["place_input"]) == ("keras/efficientnet-b0", "imagenet", True)
    assert (stage.name, stage.train, stage.epochs, stage.size, stage.lr) == ("all", "all", 7, 224, 0.01)
    assert (stage.momentum, stage.warmup_epochs, stage.batch_size, stage.label_smoothing) == (0.0, 0.3, 32, 0.1)
    assert stage.scale_lr and (stage.augment, stage.randaugment) == ("inception", "")
    assert (stage.place_drop, stage.freeze_place) == (0.0, False)


def test_what_else_its_programs_offer():
    told = resolve("--lr=0.5", "--use_simple_augment", "--nouse_scaled_lr", "--nouse_cosine_decay", "--unfreeze_layers=0",
                   "--use_coordinates_inputs", "--use_coordinates_augment", "--model_dir=m")
    stage, = told["stages"]
    assert (stage.augment, stage.peak_lr, stage.lr_schedule, stage.train) == ("simple", 0.5, "constant", "head")
    assert (stage.place_drop, stage.freeze_place, stage.epochs) == (0.5, True, 10)
    ignored, = resolve("--lr=0.5", "--use_simple_augment", "--randaug_num_layers=1", "--randaug_magnitude=3")["stages"]
    assert (ignored.augment, ignored.randaugment) == ("inception", "1:3:same:tf_contrast")
    ours, = resolve("--lr=0.5", "--min_crop=0.08", "--keep=best", "--antialias=on", "--crop_law=area")["stages"]  # ours win
    assert (ours.min_crop, ours.keep, ours.antialias, ours.crop_law) == (0.08, "best", True, "area")


def test_the_place_is_frozen_in_its_first_and_third_stage():
    told = resolve("--model_name=efficientnet-b0", "--use_coordinates_inputs", "--unfreeze_layers=18")
    assert [(stage.name, stage.train, stage.freeze_place) for stage in told["stages"]] == [
        ("head", "head", True), ("all", "all", False), ("fixres", "last:18", True)]
    everything = resolve("--model_name=efficientnet-b0", "--use_coordinates_inputs", "--unfreeze_layers=-1")["stages"][2]
    assert (everything.train, everything.freeze_place, everything.augment) == ("all", False, "eval")


@pytest.mark.parametrize("model, mode, scaling", [
    ("efficientnet-b0", "uint8", None), ("efficientnet-b0", "tf_mode", "tf"), ("efficientnet-b0", "torch_mode", "torch"),
    ("mobilenetv2", "float32", "01"), ("mobilenetv2_a0.5", "uint8", "raw"),
])
def test_scales(model, mode, scaling):
    told = resolve(f"--model_name={model}", f"--input_scale_mode={mode}", "--epochs=1")
    assert told["input_scaling"] == scaling and zoo.find(told["model"]).weights["imagenet"] in ("torch", "tf")


def test_names_are_known_to_the_zoo():
    assert set(sixth_place._MODELS.values()) <= set(zoo.TABLE)
    assert {zoo.find(f"keras/efficientnet-b{n}").scaling for n in range(8)} == {sixth_place._EFFICIENTNETS_OWN}
    assert set(sixth_place._SCALINGS) | {"uint8"} == set(sixth_place_flags.SCALE_MODES)
    assert set(sixth_place._SCALINGS.values()) <= set(MODES)


@pytest.mark.parametrize("script, flags, words", [
    ("multi_stage_train.py", ["--lr=0.1", "--epochs_stage2=3"], ["--lr is of", "--epochs_stage2", "one of them"]),
    ("multi_stage_train.py", ["--fix_resolution", "--stage=name=a,epochs=1,size=32,lr=1"], ["--fix_resolution", "--stage"]),
    ("multi_stage_train.py", ["--epochs=2", "--randaug_num_layers=2"], ["--randaug_magnitude"]),
    ("multi_stage_train.py", ["--epochs=2", "--model_name=mobilenetv3"], ["mobilenetv3", "mobilenetv2_a0.5"]),
    ("multi_stage_train.py", ["--loc_encode=encode_none"], ["loc_encode", "encode_cos_sin"]),
    ("predict.py", ["--ckpt_dir=nowhere", "--date_encode=encode_none"], ["date_encode", "encode_cos_sin"]),
])
def test_what_makes_no_sense_ends_in_a_line(script, flags, words, tmp_path):
    assert_one_line_mistake(run_command(script, f"--model_dir={tmp_path}/m", *flags), *words)


def test_the_geo_prior_without_dates_must_be_asked_for(tmp_path):
    (tmp_path / "geo").mkdir()
    (tmp_path / "geo" / "run.json").write_text(json.dumps({"same": {"date_input": True, "embed_dim": 256}, "free": {}}))
    done = run_command("predict.py", f"--ckpt_dir={tmp_path}/m", f"--geo_prior_ckpt_dir={tmp_path}/geo",
                       "--nouse_date_feats", "--submission_file_path=s.csv")
    assert_one_line_mistake(done, "--use_date_feats=False", "trained with True")


def test_flags_that_change_nothing_say_so():
    for script, names in (("multi_stage_train.py", ("num_readers", "suffle_buffer_size", "use_date_feats")),
                          ("predict.py", ("num_readers", "suffle_buffer_size", "random_seed"))):
        lines = run_command(script, "--help").stdout.splitlines()
        for name in names:
            at, = (number for number, line in enumerate(lines) if line.lstrip(" -").replace("[no]", "").startswith(
                (f"{name}=", f"{name} ")) and line.startswith("  --"))
            assert "changes nothing" in " ".join(lines[at + 1:at + 3]), name


# Steps: small networks by flags behind the files, B0 as published.

FEW = ("--base_model_weights=none", "--max_steps=1", "--batch_size=4")


def test_a_file_of_main_py_trains_a_stage(tmp_path):
    """On the smallest network of the zoo; predict.py then wants the same scale."""
    name = "efficientnet_b3_300x300_inat_full"
    records, model = write_records(tmp_path / "records", name), tmp_path / "model"
    done = run_command("multi_stage_train.py", f"--flagfile={write_flagfile(records, name)}", f"--model_dir={model}", *FEW,
                       "--model=keras/efficientnet-tiny", "--input_size=32")
    assert done.returncode == 0, done.stderr[-2000:]
    run = json.loads((model / "run.json").read_text())
    stage = run["same"]["stages"]["all"]
    assert (stage["train"], stage["freeze_place"], stage["place_drop"], stage["keep"]) == ("all", False, 0.0, "last")
    assert run["same"]["place_input"] and run["free"]["scaling"] == "torch" and len(run["free"]["class_ids"]) == 10000
    assert json.loads((model / "stage_1_all" / "DONE").read_text())["steps"] == 1
    mistaken = run_command("predict.py", f"--test_files={records}/nothing", f"--ckpt_dir={model}",
                           "--input_scale_mode=float32")
    assert_one_line_mistake(mistaken, "--input_scale_mode=float32", "torch")


@pytest.mark.slow
def test_b0s_files_take_real_steps(tmp_path):
    """main.py's first, and the FixRes file from it, which predict.py then reads by its own flags."""
    name, fix = (f"{kind}_b0_224x224_inatmini_full" for kind in ("efficientnet", "fixefficientnet"))
    records, first, fixed = write_records(tmp_path / "records", name), tmp_path / "first", tmp_path / "fixed"
    for model_dir, path in ((first, write_flagfile(records, name)), (fixed, write_flagfile(records, fix, P=first))):
        done = run_command("multi_stage_train.py", f"--flagfile={path}", f"--model_dir={model_dir}", *FEW, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((fixed / "stage_1_fixres" / "DONE").read_text())["steps"] == 1
    assert json.loads((fixed / "run.json").read_text())["same"]["init_from"] == str(first)
    solution_records.write(records, "public_test", TEST, 417)
    done = run_command("predict.py", f"--test_files={records}/inat_public_test.record-?????-of-00417", "--num_classes=10000",
                       f"--ckpt_dir={fixed}", "--random_seed=3", "--num_readers=2", "--input_scale_mode=uint8",
                       f"--submission_file_path={tmp_path}/s.csv", "--use_tta", "--batch_size=5", timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len((tmp_path / "s.csv").read_text().splitlines()) == TEST + 1


@pytest.mark.slow
def test_the_final_submissions_files(tmp_path):
    """Training, at its own sizes, and inference with a geo prior of its classes."""
    name = "efficientnet_b3_final_submission_training"
    records, model = write_records(tmp_path / "records", name), tmp_path / "model"
    done = run_command("multi_stage_train.py", f"--flagfile={write_flagfile(records, name)}", f"--model_dir={model}", *FEW,
                       "--batch_size=2", timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    for folder in ("stage_1_all", "stage_2_fixres"):
        assert json.loads((model / folder / "DONE").read_text())["steps"] == 1
    done = run_command("train_geo_prior.py", "--competition=inat2021", f"--data_dir={write_places(tmp_path / 'raw')}",
                       f"--model_dir={tmp_path}/geo", "--epochs=1", "--batch_size=16")
    assert done.returncode == 0, done.stderr[-2000:]
    solution_records.write(model, "public_test", TEST, 417)
    path = tmp_path / "inference.config"
    write(path, "\n".join(INFERENCE.format(P=model, geo=tmp_path / "geo").split()).encode())
    done = run_command("predict.py", f"--flagfile={path}", timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    with open(model / "final_submission.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["Id", "Predicted"] and [row[0] for row in rows] == [str(number) for number in range(TEST)]
    meta = json.loads((model / "predictions" / "test" / "meta.json").read_text())
    assert (meta["tta"], meta["size"]) == ("six", 432) and meta["checkpoint"].endswith("stage_2_fixres/last/ckpt-1")


@pytest.mark.slow
@pytest.mark.parametrize("name, told", [
    ("efficientnet_b0_224x224_inatmini_full_mltstg", [r"\bhead +head +224 .* 4 +\d", r" last:18 +300 .* 2 +\d"]),
    ("efficientnet_b2_260x260_inatmini_full", [r" 260 +64 +inception \+ 4:2:same\S* .* 20 +\d.* 0\.025 "]),
])
def test_other_files_are_planned(name, told, tmp_path):
    path = write_flagfile(write_records(tmp_path / "records", name), name)
    done = run_command("multi_stage_train.py", f"--flagfile={path}", f"--model_dir={tmp_path}/m", "--dry_run",
                       "--base_model_weights=none")
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(re.search(row, done.stdout) for row in told), done.stdout


def write_places(folder):
    """Raw files of 10,000 classes, which the adopted records' class ids are, and 40 places."""
    images = [{"id": number, "width": 40, "height": 30, "file_name": f"nowhere/{number}.jpg", "latitude": 10.0 + number,
               "longitude": 20.0 - number, "date": "2021-05-03 12:00:00+00:00"} for number in range(40)]
    content = {"images": images, "categories": [{"id": number, "name": f"species {number}"} for number in range(10000)],
               "annotations": [{"id": number, "image_id": number, "category_id": number % 3} for number in range(40)]}
    write(folder / "train.json", content)
    write(folder / "val.json", content)
    write(folder / "public_test.json", {"images": []})
    return folder
