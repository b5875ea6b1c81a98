"""What computes is traced as it is written: AutoGraph, which takes 0.1 s to read and rewrite a function at every start, reads
none of ours but layers' own calls (Keras wants their signatures) and the geo prior's loop over steps."""

import json

import tiny_places
from raw_data import run_command

TELLS = "sources read: "


def read_by(*command):
    """Names of ours that were read, but for layers'."""
    done = run_command("tests/sources_read.py", *command)
    assert done.returncode == 0, done.stderr[-3000:]
    told, = [line for line in done.stderr.splitlines() if line.startswith(TELLS)]
    names = json.loads(told[len(TELLS):])
    assert any(name.startswith("pipeline.models.") for name in names) or "geo" in command[0]  # or nothing is noted at all
    return [name for name in names if not name.startswith("pipeline.models.")]


def test_from_training_to_an_export(tiny_data, tmp_path):
    data, model = f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/model"
    assert not read_by("multi_stage_train.py", data, model, "--model=kecam/EfficientNetV2Tiny", "--batch_size=10",
                       "--max_steps=4", "--steps_per_execution=2", "--randaugment=2:4", "--mixup=0.2",
                       "--class_balance=sqrt", "--ema=0.9", "--stage=name=all,epochs=1,size=32,lr=0.001")
    assert not read_by("predict.py", data, model, "--split=test", "--tta=six", f"--out={tmp_path}/test")
    assert not read_by("export.py", data, f"--predictions={tmp_path}/test", f"--out={tmp_path}/export")


def test_a_geo_prior(tmp_path):
    raw = tiny_places.write_inat2021(tmp_path / "raw")
    assert read_by("train_geo_prior.py", "--competition=inat2021", f"--data_dir={raw}", f"--model_dir={tmp_path}/geo",
                   "--epochs=1", "--embed_dim=8", "--date_input") == ["pipeline.geo.step.Trainer._run_steps"]
