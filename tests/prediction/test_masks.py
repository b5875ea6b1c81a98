"""Masks on disk, a fine model on squares of them, the mean over sixteen; and the whole way to it by the commands."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.ops import mask_square, seeds
from pipeline.prediction import loading, map_to_box, predict
from pipeline.records import boxes, dataset, input as inputs, masks
from pipeline.runs import checkpoint, record as run_record, run as runs
from pipeline.training import train
import random_boxes
from raw_data import assert_one_line_mistake, run_command
import tiny_records
from training_runs import run, stage

RULE = map_to_box.Rule(cam_threshold=0.3, min_box=0.1, box_padding=0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """With boxes and masks named coarse, at random."""
    made = tiny_records.make(tmp_path_factory.mktemp("masks"), train=20, val=6, test=5)
    random_boxes.write(made, "coarse", "train+val+test", with_masks=True)
    return made


def test_text_and_back():
    rng = np.random.default_rng(0)
    some = rng.random((7, masks.CELLS, masks.CELLS)) < 0.3
    texts = [masks.to_text(one) for one in some]
    assert len(texts[0]) == 172 and np.array_equal(masks.from_texts(texts), some)
    assert np.array_equal(masks.counts(texts), np.stack([some.sum(axis=2), some.sum(axis=1)], axis=1))


def test_a_mask_is_the_part_of_the_map_that_the_box_encloses():
    grid = np.zeros((128, 128))
    grid[16:80, 32:64] = 1.0
    grid[100:108, 100:108] = 1.0  # a smaller part
    found = map_to_box.object_of(grid, RULE)
    mask = map_to_box.mask_of(found)
    rows, columns = np.nonzero(mask)
    left, top, right, bottom = map_to_box.box_around(found, map_to_box.Rule(0.3, 0.0, 0.0))
    assert (columns.min(), columns.max() + 1) == pytest.approx((32 * left, 32 * right), abs=1)
    assert (rows.min(), rows.max() + 1) == pytest.approx((32 * top, 32 * bottom), abs=1)
    assert mask.sum() == pytest.approx(found.sum() / 16, rel=0.15)
    assert map_to_box.box_around(found, RULE) == map_to_box.box_of(grid, RULE)
    nothing = map_to_box.object_of(-grid, RULE)
    assert not map_to_box.mask_of(nothing).any() and map_to_box.box_around(nothing, RULE) == (0, 0, 1, 1)


def test_rows_find_their_masks(data):
    assert list(pd.read_csv(f"{data.directory}/boxes/coarse.csv").columns) == [*boxes.COLUMNS, "mask"]
    read = data.boxes("coarse")
    first, counts = read.masks_by_row(data.part("val"))
    for _, one in read.table[read.table["split"] == "val"].iterrows():
        mask = masks.from_texts([one["mask"]])[0]
        assert np.array_equal(counts[one["row"] - first], [mask.sum(axis=1), mask.sum(axis=0)])


@pytest.fixture(scope="module")
def fine(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("fine")
    train.run_training(run(data, out, stage(augment="mask"), boxes="coarse", tta="mask16"))
    return out


def test_prediction_is_the_mean_over_the_sixteen_squares(data, fine, tmp_path):
    predict.run_prediction(data.directory, predict.Request(str(fine), "val", str(tmp_path / "out"), batch_size=4))
    got = predictions.Predictions(str(tmp_path / "out"))
    assert got.meta["tta"] == "mask16"
    record = run_record.read(str(fine))
    model = loading.load_classifier(record, checkpoint.find(runs.last_stage_dir(str(fine), None)), 32).model
    first, counts = data.boxes("coarse").masks_by_row(data.part("val"))
    for example in inputs.examples(data.part("val")):
        row = int(example["row"])
        views = mask_square.sixteen(example["encoded"], tf.constant(counts[row - first]), 32, seeds.example_seed(0, 0, row))
        views = np.concatenate([views[:8], views.numpy()[8:, :, ::-1]])
        expected = tf.nn.softmax(model({"image": views}, training=False)).numpy().mean(axis=0)
        name = data.examples("val").set_index("row").loc[row, "id"]
        np.testing.assert_allclose(np.exp(got.rows(np.array([got.ids.index(name)]))[0]), expected, atol=2e-3)
    predict.run_prediction(data.directory, predict.Request(str(fine), "val", str(tmp_path / "again"), batch_size=6))
    np.testing.assert_allclose(predictions.Predictions(str(tmp_path / "again")).rows(np.arange(6)), got.rows(np.arange(6)),
                               atol=2e-3)  # the same squares at every call


def test_boxes_without_masks_are_told(data, tmp_path):
    random_boxes.write(data, "plain", "train+val+test")
    for changes in ({"tta": "mask16"}, {"oof_tta": "mask16"}):
        with pytest.raises(UserError, match="--tta=mask16: boxes plain .* have no masks: .*localize.py .*--masks"):
            train.run_training(run(data, tmp_path / "m", boxes="plain", **changes))
    with pytest.raises(UserError, match="stage all: augment=mask: boxes plain"):
        train.run_training(run(data, tmp_path / "m", stage(augment="mask"), boxes="plain"))
    with pytest.raises(UserError, match="augment=mask takes squares .*--boxes=NAME"):
        train.run_training(run(data, tmp_path / "m", stage(augment="mask")))
    assert not (tmp_path / "m").exists()


COARSE = """
--model=kecam/EfficientNetV2Tiny
--stage=name=all,epochs=1,size=32,lr=0:0.004:0.04,train=all
--groups=stack_3_block0_sortcut_conv:head
--optimizer=sgd
--nesterov=on
--l2=0.0005
--decay_all=on
--lr_schedule=triangular:epochs
--batch_size=10
--channel_dropout=0.25
--head_init=kaiming
--pixel_mean=115.75:120.83:93.49
--pixel_std=50.46:50.08:49.67
"""


@pytest.mark.slow
def test_the_whole_way_by_the_commands(tmp_path):
    """run.py: records, coarse, masks, fine; the fine model alone is scored and submitted."""
    raw = tiny_records.write_raw(tmp_path / "raw", train=20, val=6, test=5)
    (tmp_path / "coarse.flags").write_text(COARSE + "--augment=crop\n--eval_resize=short:40\n--rotate=15\n--grid_mask=0.1\n")
    (tmp_path / "fine.flags").write_text(COARSE + "--augment=mask\n--boxes=coarse\n--tta=mask16\n")
    (tmp_path / "run.flags").write_text("--members=fine\n--localize_flags=--masks --size=64\n--predict_flags=--checkpoint=last\n"
                                        "--prior_flags=--prior_correction=1\n--geo_prior=none\n")
    done = run_command("run.py", "inat2021", str(raw), str(tmp_path / "out"),
                       f"--recipes={tmp_path}/coarse.flags {tmp_path}/fine.flags", timeout=600)
    assert done.returncode == 0, done.stderr
    assert "scores and submission are of fine alone" in done.stdout
    assert not (tmp_path / "out" / "models" / "coarse" / "predictions").exists()
    meta = pd.read_json(tmp_path / "out" / "submission.meta.json", typ="series")
    assert [(one["name"], one["views"]) for one in meta["members"]] == [("fine", "mask16")]
    assert meta["priors"] == {"prior_correction": "1"} and not meta["missing"]
    assert len(pd.read_csv(tmp_path / "out" / "submission.csv")) == 5
    data = dataset.load(str(tmp_path / "out" / "records"))
    assert data.boxes("coarse").has_masks
    record = run_record.read(str(tmp_path / "out" / "models" / "fine"))
    assert record["free"]["scaling"] == "own:rgb:115.75:120.83:93.49:50.46:50.08:49.67"


MEAN, STD = {"pixel_mean": "1:2:3"}, {"pixel_std": "1:2:3"}


@pytest.mark.parametrize("of_run, of_stage, told", [
    (MEAN, {}, "--pixel_mean and --pixel_std go together"), (STD, {}, "--pixel_mean and --pixel_std go together"),
    ({**STD, "pixel_mean": "1:2"}, {}, "--pixel_mean=1:2: write three numbers"),
    ({**MEAN, "pixel_std": "1:0:3"}, {}, "--pixel_std=1:0:3: .*above 0"),
    ({**MEAN, "pixel_std": "1:nan:3"}, {}, "--pixel_std=1:nan:3: write three"),
    ({}, {"nesterov": True, "optimizer": "adam"}, "nesterov is of optimizer=sgd"),
    ({}, {"nesterov": True, "optimizer": "sgd", "momentum": 0.0}, "with a momentum"),
])
def test_mistakes(of_run, of_stage, told, data, tmp_path):
    with pytest.raises(UserError, match=told):
        train.run_training(run(data, tmp_path / "m", stage(**of_stage), **of_run))


def test_a_mistake_ends_in_one_line(data, tmp_path):
    done = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={tmp_path}/m",
                       "--model=kecam/EfficientNetV2Tiny", "--stage=name=a,epochs=1,size=32,lr=1", "--pixel_mean=1:2:3")
    assert_one_line_mistake(done, "--pixel_mean", "--pixel_std")
