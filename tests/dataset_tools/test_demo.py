"""The drawn competition: its layout is iNat 2021's, and place or season tells apart what looks alike."""

import csv
import datetime
import json

import numpy as np
import pytest
from PIL import Image

from dataset_tools import demo
from dataset_tools.competitions import find
from dataset_tools.demo_drawing import draw
from raw_data import samples


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    table = find("demo").read(str(folder))
    return folder, table


def load(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_layout(drawn):
    folder, _ = drawn
    category_keys = {"id", "name", "common_name", "supercategory", "kingdom", "phylum", "class", "order", "family",
                     "genus", "specific_epithet", "image_dir_name"}
    image_keys = {"id", "width", "height", "file_name", "license", "rights_holder", "date", "latitude", "longitude",
                  "location_uncertainty"}
    ids = set()
    for split in ("train", "val", "public_test"):
        content = load(folder, f"{split}.json")
        assert ("annotations" in content) == (split != "public_test")
        assert all(set(one) == category_keys for one in content["categories"]) and len(content["categories"]) == 12
        for image in content["images"]:
            assert set(image) == image_keys
            assert image["file_name"].startswith(f"{split}/")
            datetime.datetime.strptime(image["date"], "%Y-%m-%d %H:%M:%S+00:00")
            with Image.open(folder / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"]) and picture.format == "JPEG"
                short, long = sorted(picture.size)
                assert 90 <= short <= 110 and 1.32 < long / short < 1.79
        ids |= {image["id"] for image in content["images"]}
    assert len(ids) == sum(len(load(folder, f"{s}.json")["images"]) for s in ("train", "val", "public_test"))


def test_layout_is_that_of_the_sample_competition(drawn):
    sample = samples("inat2021_mini")
    for split in ("train", "val", "public_test"):
        ours, theirs = load(drawn[0], f"{split}.json"), load(sample, f"{split}.json")
        assert set(ours) == set(theirs)
        for key in ("images", "categories"):
            assert set(ours[key][0]) == set(theirs[key][0])


def test_table(drawn):
    folder, table = drawn
    assert len(table.classes) == 12
    counts = table.examples["split"].value_counts()
    assert counts["val"] == 120 and counts["test"] == 480 and 45 * 12 <= counts["train"] <= 60 * 12
    nowhere = table.examples["latitude"].isna()
    assert 0.02 < nowhere.mean() < 0.09
    assert (nowhere == table.examples["longitude"].isna()).all()
    with open(folder / demo.ANSWERS_FILE, encoding="utf-8", newline="") as file:
        answers = {row["id"]: int(row["category_id"]) for row in csv.DictReader(file)}
    test = table.examples[table.examples["split"] == "test"]
    assert {row.id: row.labels for row in test.itertuples()} == {one: (label,) for one, label in answers.items()}


def test_place_or_season_tells_pairs_apart(drawn):
    table = drawn[1]
    examples = table.examples[table.examples["split"] == "train"].dropna()
    label = examples["labels"].str[0]
    for one, other, column, least in ((0, 1, "longitude", 0.85), (2, 3, "longitude", 0.85), (4, 5, "date", 0.85)):
        assert demo.SPECIES[one].look == demo.SPECIES[other].look
        a, b = examples.loc[label == one, column], examples.loc[label == other, column]
        middle = (a.median() + b.median()) / 2
        right = ((a < middle).mean() + (b >= middle).mean()) / 2
        right = max(right, 1 - right)
        assert least < right <= 1.0


def test_drawn_once_and_the_same_again(drawn, tmp_path):
    folder, _ = drawn
    before = (folder / "train.json").stat().st_mtime_ns
    fingerprint = find("demo").fingerprint(str(folder))
    assert (folder / "train.json").stat().st_mtime_ns == before
    assert fingerprint == find("demo").fingerprint(str(folder))
    look = demo.SPECIES[0].look
    one, two = (np.asarray(draw(np.random.default_rng(3), look)) for _ in range(2))
    assert (one == two).all()


def test_secret_answers_missing(drawn, tmp_path):
    from pipeline.errors import UserError

    (tmp_path / "train.json").write_bytes((drawn[0] / "train.json").read_bytes())
    with pytest.raises(UserError, match=demo.ANSWERS_FILE):
        find("demo").read(str(tmp_path))


@pytest.mark.parametrize("names", [("train.json", "val.json"), ("train_mini.json",), ("val.json",), ("test2019.json",),
                                   ("train.csv",)])
def test_folder_of_another_competition_is_left_alone(tmp_path, names):
    from pipeline.errors import UserError

    for name in names:
        (tmp_path / name).write_text('{"info": {"year": 2021}, "images": []}')
    for function in (find("demo").fingerprint, find("demo").read):
        with pytest.raises(UserError, match=f"not the demo's folder .its {names[0]}.*another --data_dir"):
            function(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_half_drawn_demo_is_drawn_again(drawn, tmp_path):
    for name in ("val.json", "public_test.json", demo.ANSWERS_FILE):
        (tmp_path / name).write_bytes((drawn[0] / name).read_bytes())
    demo.draw_if_missing(str(tmp_path))
    assert (tmp_path / "train.json").read_bytes() == (drawn[0] / "train.json").read_bytes()
