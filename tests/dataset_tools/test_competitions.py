"""Raw files of every layout into one table, and the CSV back out."""

import csv
import json
import math

import pytest

from dataset_tools import coco_json
from dataset_tools.competitions import COMPETITIONS, find
from dataset_tools.submission import SubmissionFormat, write_submission
from pipeline.errors import UserError
from raw_data import encode, pixels, samples, write, write_inat2021


def rows(table):
    return {row.id: row for row in table.examples.itertuples()}


def year_content(image_ids, annotated=True, **image_fields):
    content = {
        "images": [{"id": i, "file_name": f"train_val/{i}.jpg", "width": 4, "height": 4, **image_fields}
                   for i in image_ids],
        "categories": [{"id": 7, "name": "seven"}, {"id": 100, "name": "hundred"}, {"id": 8, "name": "acht – ß"}],
    }
    if annotated:
        content["annotations"] = [
            {"id": i, "image_id": i, "category_id": (7, 8, 100)[n % 3]} for n, i in enumerate(image_ids)]
    return content


def test_inat2021(tmp_path):
    train = write_inat2021(tmp_path)
    train["images"][0].update(latitude=None, longitude=None)
    train["images"][1].update(date="2019-02-01 08:00:00+00:00", latitude=-33.5, longitude=151.25, user_id=9)
    write(tmp_path / "train.json", train)
    table = find("inat2021").read(str(tmp_path))
    assert table.classes == [("10", "Species 0 – çé"), ("20", "Species 1 – çé"), ("30", "Species 2 – çé")]
    assert table.examples["split"].value_counts().to_dict() == {"train": 12, "val": 4, "test": 3}
    found = rows(table)
    assert found["4"].labels == (4 % 3,) and found["13"].labels == (13 % 3,) and found["16"].labels == ()
    assert math.isnan(found["0"].latitude) and math.isnan(found["0"].longitude) and found["0"].date == 1.0
    assert (found["1"].latitude, found["1"].longitude, found["1"].user) == (-33.5, 151.25, "9")
    assert found["1"].date == pytest.approx(32 / 365)
    assert found["16"].path == "public_test/16.jpg"


def test_inat2021_with_the_mini_train_set_alone(tmp_path):
    write_inat2021(tmp_path)
    (tmp_path / "train.json").rename(tmp_path / "train_mini.json")
    (tmp_path / "val.json").unlink()
    table = find("inat2021").read(str(tmp_path))
    assert set(table.examples["split"]) == {"train_mini", "test"}


@pytest.mark.parametrize("year, answers", [(2017, 5), (2018, 3), (2019, 1)])
def test_years_with_locations(tmp_path, year, answers):
    write(tmp_path / f"train{year}.json", year_content([5, 6, 7]))
    write(tmp_path / f"val{year}.json", year_content([8]))
    write(tmp_path / f"test{year}.json", year_content([9], annotated=False))
    write(tmp_path / f"train{year}_locations.json", [
        {"id": 5, "lat": 10.5, "lon": -20.25, "date_c": 0.25, "user_id": 77},
        {"id": 6, "lat": None, "lon": None, "date_c": None, "user_id": 78},
        {"id": 7, "lat": 1.0, "lon": 2.0, "date_c": 0.5, "user_id": 79, "valid": False},
        {"id": 12345, "lat": 1.0, "lon": 2.0, "date_c": 0.5, "user_id": 80}])
    competition = find(f"inat{year}")
    table = competition.read(str(tmp_path))
    assert table.classes == [("7", "seven"), ("8", "acht – ß"), ("100", "hundred")]  # by number, not as text
    found = rows(table)
    assert [found[one].labels for one in "56789"] == [(0,), (1,), (2,), (0,), ()]
    assert (found["5"].latitude, found["5"].longitude, found["5"].date, found["5"].user) == (10.5, -20.25, 0.25, "77")
    assert math.isnan(found["6"].latitude) and math.isnan(found["6"].date) and found["6"].user == "78"
    assert math.isnan(found["7"].latitude) and found["7"].date == 0.5
    assert math.isnan(found["8"].latitude) and found["8"].user == ""  # no val locations file
    assert competition.submission == SubmissionFormat(("id", "predicted"), answers)


def test_places_off_the_earth_are_unknown(tmp_path):
    content = year_content([1], latitude=123.0, longitude=4.0)
    write(tmp_path / "train.json", content)
    found = rows(find("inat2021").read(str(tmp_path)))
    assert math.isnan(found["1"].latitude) and math.isnan(found["1"].longitude)


def test_images_without_one_category_are_set_aside(tmp_path):
    content = year_content([1, 2, 3])
    del content["annotations"][0]
    content["annotations"].append({"id": 9, "image_id": 3, "category_id": 7})
    write(tmp_path / "train2019.json", content)
    table = find("inat2019").read(str(tmp_path))
    assert set(rows(table)) == {"2"}
    assert [(one.id, one.reason) for one in table.rejected] == [
        ("1", "not annotated"), ("3", "annotated with several categories")]


def broken(change):
    content = year_content([1, 2])
    change(content)
    return content


@pytest.mark.parametrize("content, words", [
    (broken(lambda c: c.pop("images")), "'images'"),
    (broken(lambda c: c.pop("annotations")), "'annotations'"),
    (broken(lambda c: c.pop("categories")), "'categories'"),
    (broken(lambda c: c["annotations"][0].update(image_id=99)), "image 99"),
    (broken(lambda c: c["annotations"][0].update(category_id=99)), "category 99"),
    (broken(lambda c: c["annotations"][0].pop("category_id")), "category_id"),
    (broken(lambda c: c["images"].append(c["images"][0])), "twice"),
    (broken(lambda c: c["images"][0].pop("file_name")), "file_name"),
    (broken(lambda c: c["categories"].append(c["categories"][0])), "twice"),
    ([1, 2], "JSON object"), (b'{"images": [', "JSON"), (b"\xff\xfe\x00", "JSON"), (b"", "JSON"),
])
def test_wrong_json_is_named(tmp_path, content, words):
    write(tmp_path / "train.json", content)
    with pytest.raises(UserError) as raised:
        find("inat2021").read(str(tmp_path))
    assert "train.json" in str(raised.value) and words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_category_that_only_val_knows(tmp_path):
    write(tmp_path / "train2019.json", year_content([1, 2]))
    val = year_content([3])
    val["categories"].append({"id": 555, "name": "new"})
    val["annotations"][0]["category_id"] = 555
    write(tmp_path / "val2019.json", val)
    with pytest.raises(UserError, match="val2019.json gives image 3 the category 555, which is not among the "
                                        "categories of train2019.json"):
        find("inat2019").read(str(tmp_path))


def test_missing_train_names_the_folder(tmp_path):
    with pytest.raises(UserError, match="train.json or train_mini.json.*" + tmp_path.name):
        find("inat2021").read(str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        coco_json.load_json(str(tmp_path / "val.json"))


def test_unknown_competition_lists_the_known():
    with pytest.raises(UserError) as raised:
        find("inat2022")
    assert all(name in str(raised.value) for name in COMPETITIONS)


def test_fingerprint_changes_with_the_json(tmp_path):
    train = write_inat2021(tmp_path)
    competition = find("inat2021")
    before = competition.fingerprint(str(tmp_path))
    assert before == competition.fingerprint(str(tmp_path))
    train["images"][0]["latitude"] = 1.0
    write(tmp_path / "train.json", train)
    assert before != competition.fingerprint(str(tmp_path))


def test_sample_competitions_agree_with_their_json():
    for name, train_json, test_count in (("inat2021", "inat2021_mini/train.json", 140),
                                         ("inat2019", "inat2019_mini/train2019.json", 200)):
        folder = samples(train_json.split("/")[0])
        content = json.loads((folder / train_json.split("/")[1]).read_text(encoding="utf-8"))
        table = find(name).read(str(folder))
        found = table.examples[table.examples["split"] == "train"].set_index("id")
        assert len(found) == len(content["images"])
        assert (table.examples["split"] == "test").sum() == test_count
        for annotation in content["annotations"][:50]:
            label, = found.loc[str(annotation["image_id"]), "labels"]
            assert table.classes[label][0] == str(annotation["category_id"])


# -- folder ----------------------------------------------------------------------------------------------------------

def folder_of(tmp_path, *paths):
    for path in paths:
        write(tmp_path / path, encode(pixels(1, 8, 8)))
    return find("folder").read(str(tmp_path))


def test_folder_of_classes(tmp_path):
    table = folder_of(tmp_path, "b ö/1.JPG", "a/deep/er/2.png", "a/3.jpeg", "loose.jpg", ".hidden/4.jpg", "a/none")
    assert table.classes == [("a", "a"), ("b ö", "b ö")]
    assert {row.id: (row.split, row.labels) for row in table.examples.itertuples()} == {
        "b ö/1.JPG": ("train", (1,)), "a/deep/er/2.png": ("train", (0,)), "a/3.jpeg": ("train", (0,)),
        "a/none": ("train", (0,))}
    assert [(one.path, one.reason) for one in table.rejected] == [("loose.jpg", "in no class folder")]


def test_folder_with_splits(tmp_path):
    table = folder_of(tmp_path, "train/x/1.jpg", "train/y/2.jpg", "val/y/3.jpg", "test/4.jpg", "test/x/5.jpg",
                      "train/6.jpg", "other/7.jpg")
    assert table.classes == [("x", "x"), ("y", "y")]
    assert {row.id: (row.split, row.labels) for row in table.examples.itertuples()} == {
        "train/x/1.jpg": ("train", (0,)), "train/y/2.jpg": ("train", (1,)), "val/y/3.jpg": ("val", (1,)),
        "test/4.jpg": ("test", ()), "test/x/5.jpg": ("test", (0,))}
    assert {one.path for one in table.rejected} == {"train/6.jpg", "other/7.jpg"}


def test_folder_of_loose_pictures_is_one_class(tmp_path):
    table = folder_of(tmp_path / "beetles", "1.jpg", "2.jpg")
    assert table.classes == [("beetles", "beetles")]
    assert set(table.examples["labels"]) == {(0,)}


def test_folder_mistakes(tmp_path):
    with pytest.raises(UserError, match="no pictures"):
        find("folder").read(str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        find("folder").read(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="'z'"):
        folder_of(tmp_path, "train/x/1.jpg", "val/z/3.jpg")


def test_folder_follows_links_but_not_in_circles(tmp_path):
    write(tmp_path / "elsewhere" / "1.jpg", encode(pixels(1, 8, 8)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    table = find("folder").read(str(tmp_path / "data"))
    assert "linked/1.jpg" in set(table.examples["id"])


# -- submission ------------------------------------------------------------------------------------------------------

def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_submission_is_sorted_by_number(tmp_path):
    path = tmp_path / "out.csv"
    write_submission(str(path), find("inat2018").submission, ["10", "9", "100"], [["3", "1", "2"], ["1", "2", "3"],
                                                                                 ["2", "1", "3"]])
    assert path.read_bytes() == b"id,predicted\n9,1 2 3\n10,3 1 2\n100,2 1 3\n"
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]


def test_submission_is_sorted_as_text_where_an_id_is_none(tmp_path):
    write_submission(str(tmp_path / "o.csv"), SubmissionFormat(("Id", "Predicted"), 1), ["9", "10", "a,ß"],
                     [["x"], ["y"], ["z"]])
    assert read_csv(tmp_path / "o.csv") == [["Id", "Predicted"], ["10", "y"], ["9", "x"], ["a,ß", "z"]]


def test_submission_of_fewer_classes_than_answers(tmp_path):
    write_submission(str(tmp_path / "o.csv"), find("inat2021").submission, ["1"], [["b", "a"]], num_classes=2)
    assert read_csv(tmp_path / "o.csv") == [["Id", "Predicted"], ["1", "b a"]]


@pytest.mark.parametrize("ids, answers, words", [
    (["1", "1"], [["a", "b"], ["a", "b"]], "twice"), (["1"], [["a"]], "distinct"), (["1"], [["a", "a"]], "distinct"),
    (["1"], [["a", "b", "c"]], "distinct"), (["1", "2"], [["a", "b"]], "2 ids")])
def test_wrong_submission_writes_nothing(tmp_path, ids, answers, words):
    with pytest.raises(UserError, match=words):
        write_submission(str(tmp_path / "o.csv"), SubmissionFormat(("id", "predicted"), 2), ids, answers)
    assert not list(tmp_path.iterdir())
