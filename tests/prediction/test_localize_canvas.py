"""Pictures padded onto large plain canvases: localize.py's boxes, by its defaults, find where the pictures are."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raw_data import run_command

pytestmark = pytest.mark.slow

CANVAS = 2  # times the picture's width and height


def write_canvases(sample, raw):
    """inat2019_mini with its val pictures on canvases of any colour, at any place; returns id → their place in fractions."""
    raw.mkdir()
    for folder in ("train_val2019", "test2019"):
        (raw / folder).symlink_to(sample / folder)
    (raw / "train2019.json").symlink_to(sample / "train2019.json")
    for split, name in (("val", "val2019.json"), ("test", "test2019.json")):
        content = json.loads((sample / name).read_text(encoding="utf-8"))
        if split == "test":
            content["images"] = content["images"][:2]
        else:
            truth = {str(one["id"]): _pad(sample, raw, one) for one in content["images"]}
        (raw / name).write_text(json.dumps(content), encoding="utf-8")
    return truth


def _pad(sample, raw, image):
    rng = np.random.default_rng(image["id"])
    with Image.open(sample / image["file_name"]) as picture:
        width, height = CANVAS * picture.width, CANVAS * picture.height
        canvas = Image.new("RGB", (width, height), tuple(rng.integers(0, 256, 3).tolist()))
        left, top = rng.integers(0, width - picture.width + 1), rng.integers(0, height - picture.height + 1)
        canvas.paste(picture, (left, top))
        right, bottom = left + picture.width, top + picture.height
    image.update(file_name=f"canvases/{image['id']}.jpg", width=width, height=height)
    (raw / "canvases").mkdir(exist_ok=True)
    canvas.save(raw / image["file_name"], quality=95)
    return np.array([left / width, top / height, right / width, bottom / height])


def intersection_over_union(one, other):
    """Of two boxes: left, top, right, bottom."""
    sides = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0)
    areas = [np.prod(box[2:] - box[:2]) for box in (one, other)]
    return sides.prod() / (sum(areas) - sides.prod())


def test_the_box_finds_the_object(sample_data, lite0_weights, tmp_path):
    truth = write_canvases(sample_data / "inat2019_mini", tmp_path / "raw")
    for script, *flags in (
        ("create_tfrecords.py", "--competition=inat2019", f"--data_dir={tmp_path}/raw", f"--out_dir={tmp_path}/records"),
        ("multi_stage_train.py", f"--data_dir={tmp_path}/records", f"--model_dir={tmp_path}/coarse",
         "--model=kecam/EfficientNetV1Lite0", f"--weights={lite0_weights}", "--optimizer=adam",
         "--stage=name=head,epochs=3,size=192,lr=0.003,train=head"),
        ("localize.py", f"--data_dir={tmp_path}/records", f"--model_dir={tmp_path}/coarse", "--split=val",
         f"--contact_sheet={tmp_path}/sheet.png"),
    ):
        done = run_command(script, *flags, timeout=900)
        assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "records" / "boxes" / "coarse.csv", dtype={"id": str}).set_index("id")
    found = [intersection_over_union(table.loc[one, ["left", "top", "right", "bottom"]].to_numpy(float), place)
             for one, place in truth.items()]
    print(f"mean IoU {np.mean(found):.3f} over {len(found)} pictures")
    assert len(found) == 100 and np.mean(found) >= 0.5
