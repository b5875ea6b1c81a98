"""Raw files into shards, through the command and in process; shards are read back with plain TensorFlow."""

import csv
import hashlib
import io
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from dataset_tools import files, shard_plan
from dataset_tools.build import build
from dataset_tools.table import Example, make_examples
from pipeline import files as whole_files
from pipeline.errors import UserError
from pipeline.records import schema
from raw_data import assert_one_line_mistake, encode, pixels, read_records, run_command, samples, write, write_inat2021

SCRIPT = "create_tfrecords.py"


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shards_of(folder):
    return sorted(folder.glob("*.tfrecord-*"))


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def test_inat2021_records_manifest_and_tables_agree(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    train = write_inat2021(raw)
    train["images"][0].update(latitude=None, longitude=None)
    train["images"][1].update(file_name="../secret.jpg")
    train["images"][2].update(file_name="train/nowhere.jpg")
    train["images"][3].update(file_name=str(tmp_path / "secret.jpg"))
    write(raw / "train.json", train)
    write(tmp_path / "secret.jpg", encode(pixels(99)))
    write(raw / "train/4.jpg", b"no picture")
    done = run_command(SCRIPT, "--competition=inat2021", f"--data_dir={raw}", f"--out_dir={out}", "--workers=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"15 pictures in 3 shards under {out}; 4 set aside, see {out}/rejected.csv"
    assert {row["id"]: row["reason"] for row in read_csv(out / "rejected.csv")} == {
        "1": "outside the data folder", "2": "missing", "3": "outside the data folder", "4": "not a picture"}

    manifest = schema.Manifest.from_json(json.loads((out / "dataset.json").read_text()))
    assert [(one.source_id, one.name) for one in manifest.classes] == [
        ("10", "Species 0 – çé"), ("20", "Species 1 – çé"), ("30", "Species 2 – çé")]
    kept = [i for i in range(12) if i not in (1, 2, 3, 4)]
    assert [one.train_count for one in manifest.classes] == [sum(i % 3 == c for i in kept) for c in range(3)]
    assert (manifest.rejected, manifest.split_size("train"), manifest.split_size("val")) == (4, 8, 4)
    for shard in manifest.shards:
        content = (out / shard.file).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(content), hashlib.sha256(content).hexdigest())

    records = {int(one["image/source_id"]): one for one in read_records(*shards_of(out))}
    examples = read_csv(out / "examples.csv")
    assert tuple(examples[0]) == schema.EXAMPLE_COLUMNS
    assert [int(row["row"]) for row in examples] == sorted(int(row["row"]) for row in examples)
    rows_by_id = {int(row["id"]): int(row["row"]) for row in examples}
    assert rows_by_id == {i: one["example/row"] for i, one in records.items()}
    assert set(records) == {*kept, *range(12, 19)}
    for i, record in records.items():
        original = encode(pixels(i))
        assert record["image/encoded"] == original
        assert record["image/key/sha256"] == hashlib.sha256(original).hexdigest().encode()
        assert (record["image/height"], record["image/width"], record["image/format"]) == (30, 40, b"jpeg")
        assert record["image/object/class/label"] == ([i % 3] if i < 16 else [])
        assert record["image/object/class/text"] == ([f"Species {i % 3} – çé".encode()] if i < 16 else [])
        place = (0, 0, 0) if i == 0 else (1, 45 / 90, -90 / 180)
        assert (record["image/valid"], record["image/latitude"], record["image/longitude"]) == place
        assert record["image/date"] == 1.0
    zero = next(row for row in examples if row["id"] == "0")
    assert (zero["latitude"], zero["longitude"], zero["date"], zero["labels"], zero["fold"]) == ("", "", "1.0", "0", "")

    again = run_command(SCRIPT, "--competition=inat2021", f"--data_dir={raw}", f"--out_dir={out}")
    assert again.returncode == 0 and "up to date" in again.stderr
    assert again.stdout == done.stdout
    other = run_command(SCRIPT, "--competition=inat2021", f"--data_dir={raw}", f"--out_dir={out}", "--random_seed=7")
    assert_one_line_mistake(other, "random_seed", "42", "7", "--out_dir")


def test_same_bytes_on_any_number_of_workers_and_in_any_order_of_the_json(tmp_path):
    train = write_inat2021(tmp_path / "raw", train=40)
    for n in range(40):  # large enough for several shards of 1 MiB
        rng = np.random.default_rng(n)
        write(tmp_path / f"raw/train/{n}.jpg", encode(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8), quality=98))
    build("inat2021", str(tmp_path / "raw"), str(tmp_path / "one"), shard_mib=1, workers=1)
    train["images"].reverse()
    write(tmp_path / "raw/train.json", train)
    build("inat2021", str(tmp_path / "raw"), str(tmp_path / "two"), shard_mib=1, workers=2)
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert len([name for name in one if name.startswith("train.tfrecord")]) > 1
    del one["dataset.json"], two["dataset.json"]  # the JSON's fingerprint differs
    assert one == two
    build("inat2021", str(tmp_path / "raw"), str(tmp_path / "other"), shard_mib=1, seed=43)
    assert digests(tmp_path / "other")["examples.csv"] != one["examples.csv"]


def test_plan_numbers_rows_over_splits_and_cuts_evenly(tmp_path):
    write(tmp_path / "x.jpg", b"0" * (1 << 19))
    rows = [Example(str(i), "test" if i >= 8 else "train", "x.jpg") for i in range(11)]
    plan = shard_plan.plan(make_examples(rows), str(tmp_path), shard_mib=1, seed=1)
    # 8 and 3 pictures of half a MiB: 4 and 2 shards of 1 MiB.
    assert [(one.file, one.first_row, len(one.examples)) for one in plan] == [
        ("train.tfrecord-00000-of-00004", 0, 2), ("train.tfrecord-00001-of-00004", 2, 2),
        ("train.tfrecord-00002-of-00004", 4, 2), ("train.tfrecord-00003-of-00004", 6, 2),
        ("test.tfrecord-00000-of-00002", 8, 2), ("test.tfrecord-00001-of-00002", 10, 1)]
    ids = [example.id for one in plan for example in one.examples]
    assert sorted(ids) == sorted(str(i) for i in range(11)) and ids[:8] != sorted(ids[:8])


@pytest.mark.parametrize("path, expected", [
    ("a/b.jpg", True), ("a/../b.jpg", True), ("./b.jpg", True), ("..a/b.jpg", True), ("../b.jpg", False),
    ("a/../../b.jpg", False), ("/b.jpg", False), ("..", False)])
def test_inside(path, expected):
    assert files.inside(path) == expected


# Files on which libjpeg remarks something.
REMARKED = {"hopper_bad_exif.jpg", "jpeg_ff00_header.jpg", "junk_jpeg_header.jpg", "photoshop-200dpi-broken.jpg",
            "truncated_app14.jpg"}


def test_decode_torture(tmp_path):
    folder = samples("decode_torture")
    out = tmp_path / "out"
    done = run_command(SCRIPT, "--competition=folder", f"--data_dir={folder}", f"--out_dir={out}", "--workers=2")
    assert done.returncode == 0, done.stderr
    records = {one["image/source_id"].decode(): one for one in read_records(*shards_of(out))}
    rejected = read_csv(out / "rejected.csv")
    assert len(records) >= 53
    assert {*records, *(row["path"] for row in rejected)} == {path.name for path in folder.iterdir()}
    assert all(row["reason"] for row in rejected)
    for name, record in records.items():
        found = tf.io.decode_jpeg(record["image/encoded"], channels=3).numpy().astype(int)
        with Image.open(folder / name) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
            plain = image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(274, 1) == 1
        assert found.shape == expected.shape == (record["image/height"], record["image/width"], 3), name
        # Pillow and TensorFlow differ a little in upsampling the chroma; a wrong rotation or colour is 50 and more.
        assert np.abs(found - expected).mean() < 3.0, name
        if plain:  # byte for byte, unless libjpeg remarks something, which would stand on the terminal in every epoch
            assert (record["image/encoded"] == (folder / name).read_bytes()) == (name not in REMARKED), name


def test_inat2019_sample_through_the_command_line_mini(tmp_path):
    folder = samples("inat2019_mini")
    manifest = build("inat2019", str(folder), str(tmp_path), max_side=64, workers=2)
    assert (manifest.split_size("train"), manifest.split_size("val"), manifest.split_size("test")) == (722, 100, 200)
    record = read_records(*shards_of(tmp_path))[0]
    assert max(record["image/width"], record["image/height"]) == 64


def test_short_side_through_the_command_line(tmp_path):
    """Every kind of picture gets it, smaller ones too; Pillow tells the sizes."""
    sizes = {"a.jpg": (90, 60), "b.jpg": (48, 130), "c.png": (33, 32), "d.jpg": (48, 48)}
    for name, (width, height) in sizes.items():
        write(tmp_path / "raw/one" / name, encode(pixels(1, width, height), "PNG" if name == "c.png" else "JPEG"))
    command = ("create_tfrecords.py", "--competition=folder", f"--data_dir={tmp_path}/raw", f"--out_dir={tmp_path}/out",
               "--short_side=48")
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    found = {record["image/filename"].decode(): Image.open(io.BytesIO(record["image/encoded"])).size
             for record in read_records(*shards_of(tmp_path / "out"))}
    assert {name.split("/")[-1]: size for name, size in found.items()} == {
        "a.jpg": (72, 48), "b.jpg": (48, 130), "c.png": (round(33 * 48 / 32), 48), "d.jpg": (48, 48)}
    assert json.loads((tmp_path / "out/dataset.json").read_text())["settings"]["short_side"] == 48
    again = run_command(*command[:-1])
    assert_one_line_mistake(again, "short_side was 48 and is 0 now")


def test_unfinished_run_is_cleaned_up(tmp_path, monkeypatch):
    write_inat2021(tmp_path / "raw")
    out = tmp_path / "out"
    write(out / "my_notes.txt", b"mine")
    write(out / "other.tfrecord-00000-of-00001", b"mine")
    with monkeypatch.context() as patched:  # a crash between the tables and the manifest
        patched.setattr(whole_files, "rename", lambda source, target: 1 / 0 if "dataset.json" in target else
                        files.os.replace(source, target))
        with pytest.raises(ZeroDivisionError):
            build("inat2021", str(tmp_path / "raw"), str(out), seed=1)
    assert (out / "unfinished.json").exists() and not list(out.glob("*.tmp"))
    write(out / "dataset.json.01234abc.tmp", b"half, of a process that was killed")
    write(out / "val.tfrecord-00000-of-00001.tmp", b"half, of an earlier version")
    write(out / "val.tfrecord-00003-of-00004", b"somebody else's, since")
    before = digests(out)
    build("inat2021", str(tmp_path / "raw"), str(out))
    assert {path.name for path in out.iterdir()} == {
        "train.tfrecord-00000-of-00001", "val.tfrecord-00000-of-00001", "test.tfrecord-00000-of-00001", "examples.csv",
        "rejected.csv", "dataset.json", "my_notes.txt", "other.tfrecord-00000-of-00001", "val.tfrecord-00003-of-00004"}
    for name in ("my_notes.txt", "other.tfrecord-00000-of-00001", "val.tfrecord-00003-of-00004"):
        assert digests(out)[name] == before[name]


@pytest.mark.parametrize("name", ["test.tfrecord-00000-of-00001", "examples.csv", "rejected.csv",
                                  "unfinished.json"])
def test_files_of_others_are_neither_removed_nor_overwritten(tmp_path, name):
    write_inat2021(tmp_path / "raw", train=3)
    write(tmp_path / "out" / name, b"{}")
    with pytest.raises(UserError, match=f"out/{name} .*another --out_dir"):
        build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir()] == [(name, b"{}")]


@pytest.mark.parametrize("name", ["train.tfrecord-00000-of-00001", "examples.csv"])
def test_damaged_folder_is_written_again(tmp_path, name):
    write_inat2021(tmp_path / "raw", train=3)
    build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    before = digests(tmp_path / "out")
    content = (tmp_path / "out" / name).read_bytes()
    if name.endswith(".csv"):
        (tmp_path / "out" / name).unlink()
    else:
        (tmp_path / "out" / name).write_bytes(content[:-10])
    build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert digests(tmp_path / "out") == before


def test_changed_source_files_are_told(tmp_path):
    train = write_inat2021(tmp_path / "raw")
    build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    train["images"].pop()
    train["annotations"].pop()
    write(tmp_path / "raw/train.json", train)
    with pytest.raises(UserError, match="source files have changed"):
        build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))


def test_missing_picture_that_has_come_since_is_taken(tmp_path):
    write_inat2021(tmp_path / "raw")
    content = (tmp_path / "raw/train/3.jpg").read_bytes()
    for number in (3, 5):
        (tmp_path / f"raw/train/{number}.jpg").unlink()
    first = build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert first.rejected == 2
    assert build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out")) == first  # still missing: up to date
    write(tmp_path / "raw/train/3.jpg", content)
    again = build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert (again.rejected, again.split_size("train")) == (1, 11)


def test_train_mini_is_counted_where_there_is_no_train(tmp_path):
    write_inat2021(tmp_path / "raw")
    (tmp_path / "raw/train.json").rename(tmp_path / "raw/train_mini.json")
    manifest = build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert [one.train_count for one in manifest.classes] == [4, 4, 4]


def test_names_of_any_kind(tmp_path):
    bad = ["c/1\n2.jpg", "c/1\r.jpg", "c/\u2028.jpg", "c/\x85.jpg", "c/\t.jpg", "c\x1f/2.jpg"]
    for name in ("山/ß ü.jpg", "山/\udcff.jpg", "a, \"b\"/1\u00a0\u3000.jpg", *bad):
        write(tmp_path / "raw" / name, encode(pixels(1)))
    write(tmp_path / "raw/山/gone.jpg", b"")
    manifest = build("folder", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert [one.name for one in manifest.classes] == ["a, \"b\"", "c", "c\\x1f", "山"]
    assert {row["id"] for row in read_csv(tmp_path / "out/examples.csv")} == {"山/ß ü.jpg", "a, \"b\"/1\u00a0\u3000.jpg"}
    assert {row["id"]: row["reason"] for row in read_csv(tmp_path / "out/rejected.csv")} == {
        "山/\\udcff.jpg": "its name is not UTF-8", "山/gone.jpg": "empty file",
        **{name: "its name holds control characters" for name in (
            "c/1\\n2.jpg", "c/1\\r.jpg", "c/\\u2028.jpg", "c/\\x85.jpg", "c/\\t.jpg", "c\\x1f/2.jpg")}}


def test_tables_hold_no_line_ends_within_a_row(tmp_path):
    train = write_inat2021(tmp_path / "raw", train=4)
    train["images"][0]["id"] = train["annotations"][0]["image_id"] = "0\r1"
    train["images"][1]["user_id"] = "a\rb\u2028"
    write(tmp_path / "raw/train.json", train)
    manifest = build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert manifest.rejected == 1
    for name, lines in (("examples.csv", 1 + 3 + 4 + 3), ("rejected.csv", 1 + 1)):
        assert len((tmp_path / "out" / name).read_text(encoding="utf-8").splitlines()) == lines
    assert {row["user"] for row in read_csv(tmp_path / "out/examples.csv")} == {"", "a\\rb\\u2028"}


def test_remote_folders(tmp_path):
    write_inat2021(tmp_path / "raw", train=3)
    remote = "ram://create/raw"
    for path in (tmp_path / "raw").rglob("*.*"):
        target = f"{remote}/{path.relative_to(tmp_path / 'raw')}"
        tf.io.gfile.makedirs(target.rsplit("/", 1)[0])
        with tf.io.gfile.GFile(target, "wb") as file:
            file.write(path.read_bytes())
    manifest = build("inat2021", remote, "ram://create/out", workers=1)
    assert manifest.split_size("train") == 3 and manifest.rejected == 0
    assert build("inat2021", remote, "ram://create/out/", workers=1) == manifest
    names = [f"ram://create/out/{shard.file}" for shard in manifest.shards]
    assert len(read_records(*names)) == 3 + 4 + 3
    rows = list(csv.DictReader(io.StringIO(files.read_bytes("ram://create/out/examples.csv").decode())))
    assert len(rows) == 10 and not any(math.isnan(float(row["latitude"])) for row in rows)
