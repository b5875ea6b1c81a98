"""Boxes on disk, and pictures read within them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dataset_tools.adopt import adopt
from foreign_records import inat_record, write_shard
from pipeline.errors import UserError
from pipeline.ops import tta
from pipeline.records import boxes, dataset, input as inputs
import random_boxes
import tiny_records


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = tiny_records.make(tmp_path_factory.mktemp("boxes"), train=12, val=5, test=4)
    random_boxes.write(made, "some", "train+val")
    return made


def test_boxes_come_back_as_they_were_written(data):
    table = pd.read_csv(f"{data.directory}/boxes/some.csv")
    assert list(table.columns) == ["row", "id", "split", "left", "top", "right", "bottom", "class", "score"]
    read = data.boxes("some")
    assert sorted(read.table["row"]) == sorted(data.examples("train+val")["row"])
    np.testing.assert_array_equal(read.table[boxes.SIDES], table[["left", "top", "right", "bottom"]])
    assert list(read.table["id"]) == [str(one) for one in table["id"]] and read.how == {"size": 1}
    assert read.covers(data.part("train+val")) and not read.covers(data.part("test"))


def test_ids_stay_text(data):
    table = data.boxes("some").table.assign(id="007")
    boxes.write(data.directory, boxes.Boxes("zeros", table, {}, {}), "coarse")
    assert set(data.boxes("zeros").table["id"]) == {"007"}


def test_in_a_bucket(data):
    some = data.boxes("some")
    boxes.write("ram://bucket/records", some, "coarse")
    pd.testing.assert_frame_equal(boxes.load("ram://bucket/records", "some").table, some.table)


def test_rows_find_their_boxes(data):
    first, sides = data.boxes("some").by_row(data.part("val"))
    table = data.boxes("some").table.set_index("row")
    assert sides.dtype == np.float32 and len(sides) == 5
    for row in data.examples("val")["row"]:
        np.testing.assert_allclose(sides[row - first], table.loc[row, boxes.SIDES].to_numpy(float), rtol=1e-6)


@pytest.mark.parametrize("name, words", [("none", "no boxes none .*localize.py --data_dir=.* --name=none"),
                                         ("a/b", "letters, digits")])
def test_boxes_that_are_not_there(name, words, data):
    with pytest.raises(UserError, match=words):
        data.part("val").within(name).check()


def test_a_split_without_boxes(data):
    data.part("val").within("some").check()
    with pytest.raises(UserError, match="boxes some .* not of the pictures of test: .*--split=test"):
        data.part("test").within("some").check()


def test_boxes_of_other_pictures(data, tmp_path):
    other = tiny_records.make(tmp_path, train=13, val=5, test=4)
    boxes.write(other.directory, data.boxes("some"), "coarse")
    with pytest.raises(UserError, match="not of the pictures of train"):
        other.part("train").within("some").check()


@pytest.mark.parametrize("damage", [lambda path: path.write_text(path.read_text()[:-9]), lambda path: path.unlink()])
def test_a_damaged_table(damage, tmp_path):
    made = tiny_records.make(tmp_path, train=3, val=2, test=1)
    random_boxes.write(made, "some", "val")
    damage(tmp_path / "records" / "boxes" / "some.csv")
    with pytest.raises(UserError, match="some.csv is not what was written: .*localize.py"):
        made.boxes("some")


def test_boxes_made_in_the_same_way_have_the_same_digest(data):
    first, same, other = (boxes.Boxes(name, data.boxes("some").table, how, {})
                          for name, how in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1}), ("c", {"x": 1, "y": 3})))
    assert first.digest == same.digest != other.digest


# Pictures

def crop_of(path, sides):
    """Pillow's crop: uint8 [32, 32, 3]."""
    with Image.open(path) as picture:
        left, top, right, bottom = np.round(sides * np.array([picture.width, picture.height] * 2)).astype(int)
        return np.asarray(picture.crop((left, top, right, bottom)).resize((32, 32), Image.Resampling.BILINEAR), int)


def test_prediction_reads_what_lies_in_the_box(data):
    table = data.boxes("some").table.set_index("row")
    part = data.part("val").within("some")
    batch, = inputs.predict_batches(part, 32, tta.parse("none"), "squash", 8)
    assert batch["mask"].numpy().sum() == 5
    for row, image in zip(batch["row"].numpy()[:5], batch["image"].numpy()[:5, 0]):
        path = f"{data.directory}/../raw/val/{table.loc[row, 'id']}.jpg"
        expected = crop_of(path, table.loc[row, boxes.SIDES].to_numpy(float))
        inner = slice(3, -3)  # chroma at half the resolution: the outermost columns lack a neighbour
        assert np.abs(expected - image)[:, inner].max() <= 3


def test_training_and_validation_read_what_lies_in_the_box(data):
    part = data.part("val").within("some")
    predicted, = inputs.predict_batches(part, 32, tta.parse("none"), "squash", 5)
    wanted = {image.tobytes() for image in predicted["image"].numpy()[:, 0]}
    whole, = inputs.predict_batches(data.part("val"), 32, tta.parse("none"), "squash", 5)
    assert wanted.isdisjoint(image.tobytes() for image in whole["image"].numpy()[:, 0])
    (validated, _, _), = inputs.validation_batches(part, 32, "squash", 5)
    (trained, _), = inputs.train_batches(part, inputs.TrainPictures(32, "eval", "", "squash"), 5, seed=1).take(1)
    for features in (validated, trained):
        assert {image.tobytes() for image in features["image"].numpy()} == wanted


def test_adopted_records_whose_rows_go_by_position(tmp_path):
    for shard in range(2):
        write_shard(tmp_path / "shards" / f"inat_val.record-{shard:05d}-of-00002",
                    [inat_record(3 * shard + i, i) for i in range(3)])
    out = tmp_path / "out"
    adopt([f"val={tmp_path}/shards/inat_val.record-*"], str(out), "inat2021", 3, workers=1)
    data = dataset.load(str(out))
    table = random_boxes.write(data, "some", "val").table.set_index("row")
    parsed = {int(one["row"]): one["encoded"].numpy() for one in inputs.examples(data.part("val"))}
    batch, = inputs.predict_batches(data.part("val").within("some"), 32, tta.parse("none"), "squash", 6)
    for row, image in zip(batch["row"].numpy(), batch["image"].numpy()[:, 0]):
        path = tmp_path / "picture.jpg"
        path.write_bytes(parsed[row])
        expected = crop_of(path, table.loc[row, boxes.SIDES].to_numpy(float))
        assert np.abs(expected - image)[:, 3:-3].max() <= 3
