"""iMet 2019's two lines by their recipes, through the commands, on a tiny network of their kind."""

import csv
import json
import re

import numpy as np
import pytest

import multi_label_raw
from raw_data import REPOSITORY, run_command

# What of the network begins where, in SE-ResNeXt-101 and in the tiny SENet; and the sizes.
SMALL = {"conv2d_124": "conv2d_18", "conv2d_44": "conv2d_13", "conv2d_31": "conv2d_13", "size=320": "size=32",
         "epochs=11": "epochs=1", "warmup_epochs=3": "warmup_epochs=0.5"}


def small_stages(recipe):
    """The recipe's --stage lines with the tiny network's layers and sizes, and all else as it is."""
    lines = [line for line in recipe.read_text().splitlines() if line.startswith("--stage")]
    for name, small in SMALL.items():
        lines = [re.sub(rf"(?<![a-z_]){name}\b", small, line) for line in lines]
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("name", ["freezing_seresnext101", "master_seresnext101"])
def test_a_line_from_raw_files_to_predictions(name, tmp_path):
    multi_label_raw.write(tmp_path / "raw", test=5)
    recipe = REPOSITORY / "configs" / "imet2019" / f"{name}.flags"
    data, model = f"--data_dir={tmp_path}/records", f"--model_dir={tmp_path}/model"
    for script, *flags in (
        ("create_tfrecords.py", "--competition=imet2019", f"--data_dir={tmp_path}/raw", f"--out_dir={tmp_path}/records",
         "--folds=2", "--random_seed=42"),
        ("multi_stage_train.py", f"--flagfile={recipe}", data, model, "--model=image_classifiers/senet-tiny", "--weights=none",
         "--num_classes=3", "--batch_size=4", "--fold=0", "--eval_resize=crop:36", *small_stages(recipe)),
        ("predict.py", data, model, "--split=test"),
    ):
        done = run_command(script, *flags, timeout=600)
        assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "model" / "run.json").read_text())["same"]
    head, second = (record["stages"][stage] for stage in record["stage_order"])
    for stage in (head, second):
        assert (stage["clip_norm"], stage["augment"], stage["eval_resize"]) == (10, "imet", "crop:36")
        assert stage["lr"] == (2e-3 if stage is head else second["lr"]) and stage["lr_batch"] == 48
    assert (head["mixup"], second["mixup"], second["mixup_draw"]) == (0, 0.2, "picture")
    assert len(second["lower_lrs"]) == second["groups"].count(":") + 1
    history = {stage: list(csv.DictReader((tmp_path / "model/fold_0" / stage / "history.csv").open(encoding="utf-8")))
               for stage in ("stage_1_head", f"stage_2_{second['name']}")}
    assert [len(rows) for rows in history.values()] == [2, 2]  # snapshots: of half an epoch, and of one
    assert all(np.isfinite(float(row["loss"])) for rows in history.values() for row in rows)
    meta = json.loads((tmp_path / "model/predictions/test/fold_0/meta.json").read_text())
    assert (meta["tta"], meta["eval_resize"], meta["examples"]) == ("crops", "crop:36", 5)
    probabilities = np.exp(np.load(tmp_path / "model/predictions/test/fold_0/log_probabilities.npy").astype(float))
    assert probabilities.shape == (5, 3) and 0 <= probabilities.min() and probabilities.max() <= 1
