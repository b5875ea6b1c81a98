"""iMet 2019: several labels a picture, and a CSV whose rows have one answer and more."""

import collections
import csv

import pytest

import raw_data
from dataset_tools import submission
from dataset_tools.build import build
from dataset_tools.competitions import find
from pipeline.errors import UserError
from pipeline.metrics import multi_label
from pipeline.records import dataset
from raw_data import encode, pixels, write

LABELS = "attribute_id,attribute_name\n0,culture::çé\n2,tag::cat\n10,\"tag::dog, small\"\n"
TRAIN = "id,attribute_ids\r\na1,10 0\r\nb2,2\r\nc3,0 2 10\r\n"
SAMPLE = "id,attribute_ids\ne5,0\nd4,0\n"


def write_raw(folder, labels=LABELS, train=TRAIN, sample=SAMPLE):
    for name, text in (("labels.csv", labels), ("train.csv", "\ufeff" + train), ("sample_submission.csv", sample)):
        write(folder / name, text.encode())
    for number, one in enumerate(("train/a1", "train/b2", "train/c3", "test/d4", "test/e5")):
        write(folder / f"{one}.png", encode(pixels(number), "PNG"))
    return folder


def read(folder):
    return find("imet2019").read(str(folder))


def test_every_label_of_a_picture_is_kept(tmp_path):
    table = read(write_raw(tmp_path))
    assert table.classes == [("0", "culture::çé"), ("2", "tag::cat"), ("10", "tag::dog, small")] and table.multi_label
    assert {row.id: (row.split, row.path, row.labels) for row in table.examples.itertuples()} == {
        "a1": ("train", "train/a1.png", (0, 2)), "b2": ("train", "train/b2.png", (1,)),
        "c3": ("train", "train/c3.png", (0, 1, 2)), "d4": ("test", "test/d4.png", ()), "e5": ("test", "test/e5.png", ())}


def test_shards_hold_jpegs_with_all_labels(tmp_path):
    made = build("imet2019", str(write_raw(tmp_path / "raw")), str(tmp_path / "out"))
    assert made.multi_label and made.metric == "f2" and made.rejected == 0
    assert [one.train_count for one in made.classes] == [2, 2, 2]
    records = raw_data.read_records(*(tmp_path / "out").glob("train.tfrecord*"))
    assert {one["image/source_id"]: one["image/object/class/label"] for one in records} == {
        b"a1": [0, 2], b"b2": [1], b"c3": [0, 1, 2]}
    assert all(one["image/encoded"][:2] == b"\xff\xd8" for one in records)
    examples = dataset.load(str(tmp_path / "out")).examples("train")
    assert dict(zip(examples["id"], examples["labels"])) == {"a1": [0, 2], "b2": [1], "c3": [0, 1, 2]}


def test_without_a_sample_the_folder_tells_the_test_pictures(tmp_path):
    (write_raw(tmp_path) / "sample_submission.csv").unlink()
    (tmp_path / "test" / "notes.txt").write_text("no picture")
    before = find("imet2019").fingerprint(str(tmp_path))
    assert list(read(tmp_path).examples["id"]) == ["a1", "b2", "c3", "d4", "e5"]
    (tmp_path / "test" / "e5.png").unlink()
    assert list(read(tmp_path).examples["id"]) == ["a1", "b2", "c3", "d4"]
    assert find("imet2019").fingerprint(str(tmp_path)) != before
    (tmp_path / "test" / "d4.png").unlink()
    assert set(read(tmp_path).examples["split"]) == {"train"}


@pytest.mark.parametrize("name, text, words", [
    ("labels.csv", None, ["does not exist"]),
    ("labels.csv", LABELS + "2,tag::again\n", ["attribute 2", "twice"]),
    ("labels.csv", "attribute_id\n0\n", ["no column attribute_name"]),
    ("train.csv", None, ["does not exist"]),
    ("train.csv", TRAIN + "a1,2\n", ["a1", "twice"]),
    ("train.csv", TRAIN + "d9,2 3\n", ["d9", "attribute 3", "labels.csv"]),
    ("train.csv", "id,attribute_ids\na1,\n", ["row 1", "attribute_ids"]),
    ("train.csv", b"id,attribute_ids\n\xff\xfe,0\n", ["UTF-8"]),
    ("sample_submission.csv", SAMPLE + "e5,2\n", ["e5", "twice"]),
    ("sample_submission.csv", "identity,attribute_ids\ne5,2\n", ["no column id"]),
])
def test_wrong_files_are_named(tmp_path, name, text, words):
    write_raw(tmp_path)
    if text is None:
        (tmp_path / name).unlink()
    else:
        write(tmp_path / name, text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as raised:
        read(tmp_path)
    for word in (name, *words):
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_rows_have_from_one_to_ten_answers(tmp_path):
    target, form = tmp_path / "o.csv", find("imet2019").submission
    assert (form.at_least, form.answers) == (multi_label.LEAST, multi_label.MOST)
    submission.write_submission(str(target), form, ["e5", "d4"], [["10"], ["2", "0"]], 3)
    assert target.read_text() == "id,attribute_ids\nd4,2 0\ne5,10\n"
    for row in ([], ["0", "0"], [str(one) for one in range(11)]):
        with pytest.raises(UserError, match="e5.*distinct answers"):
            submission.write_submission(str(target), form, ["e5"], [row], 1103)


def test_sample():
    folder = raw_data.samples("imet2019_mini")
    table = read(folder)
    assert table.examples["split"].value_counts().to_dict() == {"train": 1053, "test": 243}
    assert len(table.classes) == 101 and table.classes[3] == ("3", "tag::alpro-blueberry-soyghurt")
    with open(folder / "train.csv", newline="", encoding="utf-8") as file:
        expected = collections.Counter(one for row in csv.DictReader(file) for one in row["attribute_ids"].split())
    found = collections.Counter(table.classes[label][0] for labels in table.examples["labels"] for label in labels)
    assert found == expected
