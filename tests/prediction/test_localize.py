"""Coarse → localize → fine on a tiny network: which model makes which box, what is refused, what a fine model sees."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
import tensorflow as tf

from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.models import activation_map
from pipeline.ops import tta
from pipeline.prediction import contact_sheet, loading, localize, map_to_box, predict
from pipeline.records import boxes, input as inputs, masks
from pipeline.runs import checkpoint, record as run_record, run as runs
from pipeline.training import train
import random_boxes
from raw_data import assert_one_line_mistake, run_command
import tiny_records
from training_runs import run

RULE = map_to_box.Rule(cam_threshold=0.3, min_box=0.1, box_padding=0.05)


def request(model_dir, name="coarse", rule=RULE, **changes):
    return localize.Request(model_dir=str(model_dir), name=name, rule=rule, batch_size=8, **changes)


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """(dataset, model directory, boxes) of a coarse model without folds."""
    folder = tmp_path_factory.mktemp("coarse")
    data = tiny_records.make(folder, train=20, val=6, test=5)
    train.run_training(run(data, folder / "coarse"))
    return data, folder / "coarse", localize.run_localization(data.directory, request(folder / "coarse"))


def by_hand(data, model_dir, example, folds=(None,)):
    """The box of one example: its picture resized by Pillow, through the maps of these folds' models."""
    record = run_record.read(str(model_dir))
    models = [activation_map.MapModel(
        loading.load_classifier(record, checkpoint.find(runs.last_stage_dir(str(model_dir), fold)), 64), record["same"]["model"])
        for fold in folds]
    with Image.open(f"{data.directory}/../raw/{_folder(example.split)}/{example.id}.jpg") as picture:
        image = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR))
    grids, classes, scores = activation_map.make_step(models)(
        {"image": tf.constant(image[np.newaxis, np.newaxis]), "place": tf.zeros([1, 3])})
    return map_to_box.box_of(grids[0].numpy(), RULE), data.class_ids[int(classes[0])], float(scores[0])


def _folder(split):
    return {"test": "public_test"}.get(split, split)


def test_every_picture_has_its_box(coarse):
    data, _, made = coarse
    examples = data.examples("train+val+test").set_index("row")
    table = made.table.set_index("row")
    assert sorted(table.index) == sorted(examples.index)
    assert (table["id"] == examples["id"][table.index]).all() and (table["split"] == examples["split"][table.index]).all()
    pd.testing.assert_frame_equal(data.boxes("coarse").table, made.table.round(5), check_dtype=False)
    assert set(made.splits) == {"train", "val", "test"}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_box_is_that_of_the_predicted_classs_map(split, coarse):
    data, model_dir, made = coarse
    example = next(data.examples(split).itertuples())
    box, class_id, score = by_hand(data, model_dir, example)
    row = made.table.set_index("row").loc[example.row]
    # Pillow's pixels are others than TensorFlow's by a level, and the untrained network's map is flat.
    assert row[boxes.SIDES].to_numpy(float) == pytest.approx(box, abs=0.05)
    assert (row["class"], row["score"]) == (class_id, pytest.approx(score, abs=0.01))


def test_what_stands_is_not_made_again(coarse, capsys):
    data, model_dir, _ = coarse
    before = (model_dir.parent / "records" / "boxes" / "coarse.csv").stat().st_mtime_ns
    localize.run_localization(data.directory, request(model_dir, split="val"))
    assert "up to date" in capsys.readouterr().out
    assert (model_dir.parent / "records" / "boxes" / "coarse.csv").stat().st_mtime_ns == before


def test_boxes_made_otherwise_are_kept(coarse):
    data, model_dir, _ = coarse
    other = map_to_box.Rule(cam_threshold=0.4, min_box=0.1, box_padding=0.05)
    with pytest.raises(UserError, match="cam_threshold was 0.3, is 0.4.*coarse.json") as told:
        localize.run_localization(data.directory, request(model_dir, rule=other))
    assert "min_box" not in str(told.value)


def test_one_split_after_the_other(coarse):
    data, model_dir, made = coarse
    first = localize.run_localization(data.directory, request(model_dir, name="bits", split="val"))
    assert set(first.splits) == {"val"} and len(first.table) == 6
    both = localize.run_localization(data.directory, request(model_dir, name="bits", split="val+test"))
    assert set(both.splits) == {"val", "test"}
    wanted = made.table[made.table["split"] != "train"].set_index("row").sort_index()
    got = both.table.set_index("row").sort_index()
    np.testing.assert_allclose(got[boxes.SIDES].astype(float), wanted[boxes.SIDES].astype(float), atol=1e-5)


@pytest.fixture(scope="module")
def fine(coarse):
    data, model_dir, _ = coarse
    out = model_dir.parent / "fine"
    train.run_training(run(data, out, boxes="coarse"))
    return out


def test_a_fine_model_remembers_its_boxes(coarse, fine):
    data, _, made = coarse
    same = run_record.read(str(fine))["same"]
    assert same["boxes"] == {"name": "coarse", "digest": made.digest}
    with pytest.raises(UserError, match="holds another run: boxes"):
        train.run_training(run(data, fine))


def test_prediction_takes_the_models_own_boxes(coarse, fine, tmp_path):
    data, _, made = coarse
    predict.run_prediction(data.directory, predict.Request(str(fine), "val", str(tmp_path / "out"), batch_size=4))
    got = predictions.Predictions(str(tmp_path / "out"))
    record = run_record.read(str(fine))
    model = loading.load_classifier(record, checkpoint.find(runs.last_stage_dir(str(fine), None)), 32).model
    table = data.boxes("coarse").table.set_index("id")
    images = []
    for one in got.ids:
        with Image.open(f"{data.directory}/../raw/val/{one}.jpg") as picture:
            sides = table.loc[one, boxes.SIDES].to_numpy(float) * np.array([40, 30, 40, 30])
            images.append(np.asarray(picture.crop(np.round(sides).astype(int).tolist()).resize((32, 32), Image.Resampling.BILINEAR)))
    logs = tf.nn.log_softmax(model({"image": np.stack(images)}, training=False))
    np.testing.assert_allclose(got.rows(np.arange(len(got.ids))), logs, atol=0.02)
    assert got.meta["boxes"] == "coarse"


def test_prediction_without_the_boxes(coarse, fine, tmp_path):
    data, model_dir, _ = coarse
    other = tiny_records.make(tmp_path, train=20, val=6, test=5)
    asked = predict.Request(str(fine), "val", str(tmp_path / "out"), batch_size=4)
    with pytest.raises(UserError, match="no boxes coarse in .*localize.py"):
        predict.run_prediction(other.directory, asked)
    random_boxes.write(other, "coarse", "val")
    with pytest.raises(UserError, match="not made as those"):
        predict.run_prediction(other.directory, asked)


def test_training_without_the_boxes(coarse, tmp_path):
    data, _, _ = coarse
    with pytest.raises(UserError, match="no boxes none"):
        train.run_training(run(data, tmp_path / "m", boxes="none"))


def test_a_fine_model_does_not_localize(coarse, fine):
    data, _, _ = coarse
    with pytest.raises(UserError, match="knows crops only .--boxes=coarse."):
        localize.run_localization(data.directory, request(fine, name="fine"))


def test_beit_localizes_by_its_tokens(coarse, tmp_path):
    data, _, _ = coarse
    train.run_training(run(data, tmp_path / "beit", model="kecam/BeitTiny"))
    made = localize.run_localization(data.directory, request(tmp_path / "beit", name="beit", split="val"))
    assert len(made.table) == 6 and (made.table["right"] > made.table["left"]).all()


def test_the_contact_sheet_shows_the_boxes(coarse, tmp_path):
    data, _, _ = coarse
    random_boxes.write(data, "some", "train+val")
    made = data.boxes("some")
    contact_sheet.write(str(tmp_path / "new" / "sheet.png"), data.directory, made, None, 4)
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    first = next(iter(data.examples("val").itertuples()))  # of val, as train is known by heart
    box = made.table.set_index("row").loc[first.row]
    colour = (44, 160, 44) if first.labels[0] == 0 else (214, 39, 40)  # every box says class 0
    drawn = np.argwhere((pixels[6:36, 6:46] == colour).all(axis=-1))  # its picture of 40 × 30, in the margin's corner
    (top, left), (bottom, right) = drawn.min(axis=0), drawn.max(axis=0)
    assert (left, top) == pytest.approx((39 * box["left"], 29 * box["top"]), abs=1.1)
    assert (right, bottom) == pytest.approx((39 * box["right"], 29 * box["bottom"]), abs=1.1)


# Folds

@pytest.fixture(scope="module")
def by_folds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("by_folds")
    data = tiny_records.make(folder, train=20, val=3, test=4, folds=2)
    for fold in range(2):
        train.run_training(run(data, folder / "m", fold=fold))
    return data, folder / "m"


def test_what_was_trained_on_is_localized_by_the_fold_that_did_not_see_it(by_folds):
    data, model_dir = by_folds
    table = localize.run_localization(data.directory, request(model_dir)).table.set_index("row")
    examples = data.examples("train")
    for fold in range(2):
        example = next(examples[examples["fold"] == fold].itertuples())
        _, class_id, score = by_hand(data, model_dir, example, [fold])
        assert (table.loc[example.row, "class"], table.loc[example.row, "score"]) == (class_id, pytest.approx(score, abs=0.01))
    for split in ("val", "test"):
        example = next(data.examples(split).itertuples())
        box, _, score = by_hand(data, model_dir, example, [0, 1])
        assert table.loc[example.row, "score"] == pytest.approx(score, abs=0.01)
        assert table.loc[example.row, boxes.SIDES].to_numpy(float) == pytest.approx(box, abs=0.05)


def test_masks_are_of_the_same_fold(by_folds):
    data, model_dir = by_folds
    made = localize.run_localization(data.directory, request(model_dir, name="masks", masks=True))
    assert made.how["mask_cells"] == masks.CELLS and data.boxes("masks").has_masks
    table, examples = data.boxes("masks").table.set_index("row"), data.examples("train")
    record = run_record.read(str(model_dir))
    for fold in range(2):
        path = checkpoint.find(runs.last_stage_dir(str(model_dir), fold))
        model = activation_map.MapModel(loading.load_classifier(record, path, 64), record["same"]["model"])
        batch, = inputs.predict_batches(data.held_out("train", fold), 64, tta.parse("none"), "squash", 12)
        grids = dict(zip(batch["row"].numpy(), activation_map.make_step([model])(batch)[0].numpy()))
        rows = examples["row"][examples["fold"] == fold]
        wanted = np.stack([map_to_box.mask_of(map_to_box.object_of(grids[row], RULE)) for row in rows])
        assert (masks.from_texts(table.loc[rows, "mask"]) == wanted).mean() > 0.99  # other batches sum up in another order
    with pytest.raises(UserError, match="mask_cells was 32, is None"):
        localize.run_localization(data.directory, request(model_dir, name="masks"))


def test_a_fine_models_fold_predicts_what_it_held_out_within_the_boxes(by_folds, tmp_path):
    data, model_dir = by_folds
    localize.run_localization(data.directory, request(model_dir, name="for_fine"))
    fine_run = run(data, tmp_path / "fine", fold=1, boxes="for_fine")
    train.run_training(fine_run)
    predict.predict_held_out(fine_run, str(tmp_path / "out"))
    got = predictions.Predictions(str(tmp_path / "out"))
    examples = data.examples("train")
    assert got.meta["boxes"] == "for_fine" and sorted(got.ids) == sorted(examples["id"][examples["fold"] == 1])


def test_a_fold_that_is_missing(by_folds, tmp_path):
    data, _ = by_folds
    train.run_training(run(data, tmp_path / "m", fold=1))
    with pytest.raises(UserError, match="fold 0 has not finished"):
        localize.run_localization(data.directory, request(tmp_path / "m", name="one"))
    made = localize.run_localization(data.directory, request(tmp_path / "m", name="one", split="test"))
    assert set(made.splits) == {"test"}


# The command

@pytest.mark.parametrize("flags, words", [
    ([], ["--data_dir"]), (["--data_dir=x"], ["--model_dir"]), (["--cam_threshold=1.5"], ["cam_threshold"]),
    (["--data_dir=nowhere", "--model_dir=m"], ["nowhere", "dataset.json"]), (["--min_box=-1"], ["min_box"]),
])
def test_mistakes_end_in_one_line(flags, words, tmp_path):
    assert_one_line_mistake(run_command("localize.py", *flags, cwd=tmp_path), *words)


def test_the_command_names_boxes_after_the_model(coarse, tmp_path):
    data, model_dir, _ = coarse
    done = run_command("localize.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}/", "--split=val",
                       "--batch_size=8", f"--contact_sheet={tmp_path}/sheet.png", "--contact_sheet_pictures=3")
    assert done.returncode == 0, done.stderr
    assert "up to date" in done.stdout  # by the same defaults as RULE
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
    missing = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={tmp_path}/m",
                          "--model=kecam/EfficientNetV2Tiny", "--stage=name=a,epochs=1,size=32,lr=1", "--boxes=other")
    assert missing.returncode == 2 and "localize.py" in missing.stderr.strip().splitlines()[-1]
