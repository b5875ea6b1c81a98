"""Folders as people have them: splits in any spelling, folders around everything, files that are no pictures."""

import csv
import json

import pytest

from dataset_tools import folder_layout
from dataset_tools.build import build
from dataset_tools.competitions import find
from pipeline.errors import UserError
from raw_data import assert_one_line_mistake, encode, pixels, run_command, write, write_inat2021

SCRIPT = "create_tfrecords.py"


def read(tmp_path, *paths):
    for path in paths:
        write(tmp_path / path, encode(pixels(1, 8, 8)))
    return find("folder").read(str(tmp_path))


def places(table):
    return {(row.path, row.split, table.classes[row.labels[0]][0] if row.labels else "")
            for row in table.examples.itertuples()}


@pytest.mark.parametrize("name, split", [
    ("train", "train"), ("Train", "train"), ("TRAINING", "train"), ("training_set", "train"), ("TrainImages", "train"),
    ("train2019", "train"), ("seg_train", "train"), ("trn", "train"), ("val", "val"), ("Valid", "val"),
    ("validation", "val"), ("valset", "val"), ("dev", "val"), ("Test", "test"), ("testing", "test"), ("test-images", "test"),
    ("cats", None),
    ("power train", None), ("train_station", None), ("images", None), ("trainer", None),
    ("validus", None), ("testudo", None), ("train_val", None), ("Devil", None)])
def test_names_of_splits(name, split):
    assert folder_layout.split_of(name) == split


@pytest.mark.parametrize("train, val, test", [
    ("Train", "Val", "Test"), ("training", "validation", "testing"), ("train", "valid", "test"),
    ("train_set", "dev", "test_set"),
    ("TRAIN", "VALID", "TEST"), ("train2019", "val2019", "test2019")])
@pytest.mark.parametrize("around", ["", "data/", "data/data/", "archive/My Flowers/"])
def test_splits_as_people_spell_them(tmp_path, train, val, test, around):
    paths = (f"{train}/x/1.jpg", f"{train}/y/2.jpg", f"{val}/y/3.jpg", f"{test}/4.jpg")
    table = read(tmp_path, *(f"{around}{one}" for one in paths))
    assert places(table) == {(f"{around}{train}/x/1.jpg", "train", "x"), (f"{around}{train}/y/2.jpg", "train", "y"),
                             (f"{around}{val}/y/3.jpg", "val", "y"), (f"{around}{test}/4.jpg", "test", "")}
    assert any("taken for" in note for note in table.notes) == ((train, val, test, around) != ("train", "val", "test", ""))


def test_each_archive_has_its_own_top(tmp_path):
    table = read(tmp_path, "train/train/x/1.jpg", "train/train/y/2.jpg", "valid/images/x/3.jpg", "test/test/4.jpg")
    assert places(table) == {("train/train/x/1.jpg", "train", "x"), ("train/train/y/2.jpg", "train", "y"),
                             ("valid/images/x/3.jpg", "val", "x"), ("test/test/4.jpg", "test", "")}


def test_splits_below_the_classes(tmp_path):
    table = read(tmp_path, "x/train/1.jpg", "x/val/2.jpg", "y/train/3.jpg", "y/Test/4.jpg")
    assert places(table) == {("x/train/1.jpg", "train", "x"), ("x/val/2.jpg", "val", "x"), ("y/train/3.jpg", "train", "y"),
                             ("y/Test/4.jpg", "test", "y")}


def test_one_class_and_classes_that_look_like_splits_are_warned_of(tmp_path):
    one = read(tmp_path / "one", "cat/1.jpg", "cat/2.jpg")
    assert one.classes == [("cat", "cat")] and "one class, 'cat'" in one.notes[0]
    loose = read(tmp_path / "loose", "1.jpg")
    assert loose.classes == [("loose", "loose")] and "one class" in loose.notes[0]
    like = read(tmp_path / "like", "cat/1.jpg", "dog/2.jpg", "test/3.jpg")
    assert [name for name, _ in like.classes] == ["cat", "dog", "test"] and "test looks like a split" in like.notes[0]


@pytest.mark.parametrize("paths, words", [
    (("train/x/1.jpg", "Training/x/2.jpg"), "Training and train both look like train"),
    (("val/x/1.jpg", "test/x/2.jpg"), "no folder train"),
    (("x/1.jpg", "y/2.jpg", "Test/x/3.jpg"), "Test looks like a split beside the class folders x, y"),
    (("top/1.jpg", "top/x/2.jpg", "top/y/3.jpg"), "is it a class"),
    (("train/1.jpg", "val/2.jpg"), "no class folders"),
    (("images/train/1.jpg", "images/val/2.jpg"), "images/train lie in no class folders"),
    (("train/x/1.jpg", "val/X/2.jpg"), "val has the class 'X', which train has not")])
def test_what_is_not_understood_ends_in_one_line(tmp_path, paths, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path, *paths)


def test_nothing_is_passed_over_without_a_word(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for path in ("train/cat/1.jpg", "train/dog/2.JFIF", "train/dog/3", "train/dog/4.photo", "val/cat/5.jpg",
                 "test/a.jpg", "test/b"):
        write(raw / path, encode(pixels(1, 8, 8)))
    for kind, ending in (("AVIF", "avif"), ("JPEG2000", "jp2"), ("PPM", "ppm")):
        write(raw / f"test/c.{ending}", encode(pixels(2, 8, 8), kind))
    for path in ("test/d.HEIC", "test/e", "train/cat/notes.txt", "train/cat/film.mp4", "train/cat/odd.xyz", "readme.md",
                 "LICENSE", "train/.DS_Store", "train/cat/Thumbs.db", "__MACOSX/train/cat/._1.jpg", "train/cat/._1.jpg",
                 ".git/config", "extra/6.jpg"):
        write(raw / path, b"\0\1\2 nothing to be decoded")
    (raw / "train/bird").mkdir()
    (raw / "train/fish/empty").mkdir(parents=True)
    done = run_command(SCRIPT, "--competition=folder", f"--data_dir={raw}", f"--out_dir={out}", "--workers=1")
    assert done.returncode == 0, done.stderr
    *notes, last = done.stdout.splitlines()
    assert last == f"10 pictures in 3 shards under {out}; 3 set aside, see {out}/rejected.csv"
    with open(out / "rejected.csv", encoding="utf-8", newline="") as file:
        rejected = {row["path"]: (row["split"], row["reason"]) for row in csv.DictReader(file)}
    others = ("train/cat/notes.txt", "train/cat/film.mp4", "train/cat/odd.xyz", "readme.md", "LICENSE")
    assert rejected == {"test/d.HEIC": ("test", "not a picture"), "test/e": ("test", "not a picture"),
                        "extra/6.jpg": ("train", "in none of train, val, test"),
                        **{path: ("", "not a picture") for path in others}}
    text = "\n".join(notes)
    assert "5 files are no pictures (.md 1, .mp4 1, .txt 1, .xyz 1, without ending 1): LICENSE" in text
    assert "1 hidden file or folder is passed over: .git" in text
    assert "2 folders hold no picture: train/bird, train/fish" in text
    assert "set aside: not a picture 2, in none of train, val, test 1" in text
    assert notes == json.loads((out / "dataset.json").read_text())["notes"]
    again = run_command(SCRIPT, "--competition=folder", f"--data_dir={raw}", f"--out_dir={out}")
    assert again.stdout == done.stdout and "up to date" in again.stderr


def test_folder_without_pictures_says_what_it_holds(tmp_path):
    write(tmp_path / "raw/cat/a.txt", b"x")
    done = run_command(SCRIPT, "--competition=folder", f"--data_dir={tmp_path}/raw", f"--out_dir={tmp_path}/out")
    assert_one_line_mistake(done, "no pictures", "1 other file (.txt 1)")


def test_a_competition_in_a_folder_of_its_own_is_pointed_to(tmp_path):
    write_inat2021(tmp_path / "inat2021/inat2021", train=3)
    done = run_command(SCRIPT, "--competition=inat2021", f"--data_dir={tmp_path}/inat2021", f"--out_dir={tmp_path}/out")
    assert_one_line_mistake(done, "no train.json", f"--data_dir={tmp_path}/inat2021/inat2021")
    with pytest.raises(UserError, match="labels.csv does not exist; there are tables in .*/inat2021/inat2021"):
        build("imet2019", str(tmp_path / "inat2021"), str(tmp_path / "out"))


def test_pictures_that_no_json_names_and_those_elsewhere_are_told(tmp_path):
    raw = tmp_path / "raw"
    write_inat2021(raw, train=6, val=3)
    for name in ("train/new.jpg", "train/new.png", "train/._new.png", "spare/1.JPG"):
        write(raw / name, b"")
    (raw / "val").rename(raw / "elsewhere")
    (raw / "val").mkdir()
    (raw / "elsewhere").rename(raw / "val/val")  # as an archive that was unpacked into a folder of its name
    manifest = build("inat2021", str(raw), str(tmp_path / "out"))
    assert manifest.rejected == 3 and manifest.split_size("val") == 0
    text = "\n".join(manifest.notes)
    assert "set aside: missing 3" in text and f"(it is in {raw}/val: move what is in that folder up)" in text
    assert "6 pictures lie in" in text and "spare/1.JPG, train/new.jpg, train/new.png and 3 more" in text


def test_a_class_without_a_usable_picture_is_named(tmp_path):
    train = write_inat2021(tmp_path, train=3)
    write(tmp_path / train["images"][1]["file_name"], b"no picture")
    notes = build("inat2021", str(tmp_path), str(tmp_path / "out")).notes
    assert "1 class has no usable picture in train: Species 1 – çé" in notes


@pytest.mark.parametrize("competition, tables", [
    ("imet2019", {"labels.csv": "attribute_id,attribute_name\n0,a\n1,b\n", "train.csv": "id,attribute_ids\nx,0\ny,0 1\n"}),
    ("turtle_recall", {"train.csv": "image_id,turtle_id\nx,t\ny,u\n", "extra_images.csv": "image_id,turtle_id\nz,v\n",
                       "test.csv": "image_id\nq\n"})])
def test_pictures_are_found_by_their_ids_whatever_their_ending(tmp_path, competition, tables):
    for name, text in tables.items():
        write(tmp_path / name, text.encode())
    train, test = ("train", "test") if competition == "imet2019" else ("images", "images")
    for path in (f"{train}/x.PNG", f"{train}/y.jfif", f"{train}/z.webp", f"{test}/q.Jpeg"):
        write(tmp_path / path, encode(pixels(1, 8, 8)))
    manifest = build(competition, str(tmp_path), str(tmp_path / "out"))
    assert manifest.rejected == 0 and manifest.split_size("test") == 1
