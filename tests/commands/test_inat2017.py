"""iNat 2017 by its recipe, through the commands, at reduced size: raw files to a CSV with five ids a row."""

import csv
import json

import numpy as np
import pytest

import raw_data
from raw_data import REPOSITORY, assert_one_line_mistake, run_command, write

CLASSES, TRAIN, VAL, TEST = 7, 14, 5, 4


def write_raw(folder):
    """Category ids 3, 5, 7, …; a picture's class is its id modulo their number."""
    categories = [{"id": 2 * index + 3, "name": f"Species {index}", "supercategory": "Plantae"} for index in range(CLASSES)]
    first_id = 0
    for split, count in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        ids = range(first_id, first_id + count)
        first_id += count
        names = {one: f"{'test' if split == 'test' else 'train_val'}2017/{one}.jpg" for one in ids}
        for one, name in names.items():
            write(folder / name, raw_data.encode(raw_data.pixels(one, 90, 70)))
        content = {"images": [{"id": one, "file_name": names[one], "width": 90, "height": 70} for one in ids],
                   "categories": categories}
        if split != "test":
            content["annotations"] = [{"id": one, "image_id": one, "category_id": 2 * (one % CLASSES) + 3} for one in ids]
        write(folder / f"{split}2017.json", content)


@pytest.mark.parametrize("network", ["kecam/EfficientNetV2Tiny", pytest.param("keras/resnet152", marks=pytest.mark.slow)])
def test_the_recipe_from_raw_files_to_five_ids_a_row(network, tmp_path):
    write_raw(tmp_path / "raw")
    recipe = REPOSITORY / "configs" / "inat2017" / "resnet152.flags"
    data, model = f"--data_dir={tmp_path}/records", f"--model_dir={tmp_path}/model"
    for script, *flags in (
        ("create_tfrecords.py", "--competition=inat2017", f"--data_dir={tmp_path}/raw", f"--out_dir={tmp_path}/records",
         "--short_side=64"),
        ("multi_stage_train.py", f"--flagfile={recipe}", data, model, f"--model={network}", "--weights=none",
         f"--num_classes={CLASSES}", "--batch_size=7", "--keep_epochs=1:2",
         "--stage=name=all,epochs=2,size=48,lr=0.01,train=all,eval_resize=short:54:cubic"),
        ("predict.py", data, model, "--split=test", "--checkpoint=1:2", "--average=weights", "--tta=ten",
         f"--out={tmp_path}/test"),
        ("make_submission.py", data, f"--predictions={tmp_path}/test", f"--out={tmp_path}/submission.csv"),
    ):
        done = run_command(script, *flags, timeout=1200)
        assert done.returncode == 0, done.stderr
    with open(tmp_path / "submission.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "predicted"]
    assert [row[0] for row in rows] == [str(one) for one in range(TRAIN + VAL, TRAIN + VAL + TEST)]
    known = {str(2 * index + 3) for index in range(CLASSES)}
    assert all(len(row[1].split()) == 5 and len(set(row[1].split()) & known) == 5 for row in rows)
    meta = json.loads((tmp_path / "test" / "meta.json").read_text())
    assert (meta["average"], meta["tta"], len(meta["checkpoint"])) == ("weights", "ten", 2)
    assert meta["eval_resize"] == "short:54:cubic"
    stage = json.loads((tmp_path / "model" / "run.json").read_text())["same"]["stages"]["all"]
    assert (stage["augment"], stage["jitter"], stage["pca_noise"]) == ("inception", 0.4, 0.1)
    assert np.load(tmp_path / "test" / "log_probabilities.npy").shape == (TEST, CLASSES)
    wrong = run_command("predict.py", data, model, "--split=test", "--checkpoint=1:9")
    assert_one_line_mistake(wrong, "--checkpoint=1:9", "has not kept epoch 9", "kept: 1, 2")
