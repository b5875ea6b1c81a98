"""Shards of both foreign kinds, written with plain TensorFlow, are taken where they lie."""

import csv
import hashlib
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from dataset_tools.adopt import adopt, find_sources
from dataset_tools.build import build
from foreign_records import inat_record, write_shard
from pipeline.errors import UserError
from pipeline.records import schema
from raw_data import REPOSITORY, assert_one_line_mistake, encode, heed_interrupts, pixels, run_command, write_inat2021


def turtle_record(i, label=None):
    record = {"image_id": f"ID_{i}".encode(), "image": encode(pixels(i))}
    if label is not None:
        record.update({"label_id": f"t_id_{label}".encode(), "label": label})
    return record


def rows_of(out):
    with open(out / "examples.csv", encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def rejected_of(out):
    with open(out / "rejected.csv", encoding="utf-8", newline="") as file:
        return [(row["id"], row["reason"]) for row in csv.DictReader(file)]


def test_inat_kind_through_the_command(tmp_path):
    shards, out = tmp_path / "shards", tmp_path / "out"
    write_shard(shards / "inat_train.record-00000-of-00002", [
        inat_record(0, 2), inat_record(1, 0, **{"image/encoded": b"broken"}), inat_record(2, 0)])
    write_shard(shards / "inat_train.record-00001-of-00002", [
        inat_record(3, 1, **{"image/valid": 0.0, "image/latitude": 0.0, "image/longitude": 0.0}),
        inat_record(4, 1, **{"image/encoded": encode(pixels(4), "PNG")}), b"\x0f\xffrubbish",
        inat_record(5, 1, **{"image/object/class/label": None}), inat_record(0, 2)])
    write_shard(shards / "inat_val.record-00000-of-00001", [inat_record(10, 2)])
    write_shard(shards / "inat_test.record-00000-of-00001", [
        inat_record(11, 0, **{"image/object/class/label": None, "image/object/class/text": None})])
    before = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    flags = [f"--adopt_records={shards}/inat_train*,{shards}/inat_val*,test={shards}/inat_test*", f"--out_dir={out}"]
    done = run_command("create_tfrecords.py", *flags, "--workers=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"6 pictures in 5 shards under {out}; 4 set aside, see {out}/rejected.csv"
    assert {path.name: path.stat().st_mtime_ns for path in shards.iterdir()} == before

    manifest = schema.Manifest.from_json(json.loads((out / "dataset.json").read_text()))
    assert (manifest.competition, manifest.record_kind, manifest.rejected) == ("inat2021", "inat2021_solution", 4)
    assert [(one.split, one.first_row, one.records, one.set_aside) for one in manifest.shards] == [
        ("train", 0, 3, (1,)), ("train", 3, 5, (4, 5, 6, 7)), ("val", 8, 1, ()), ("test", 9, 1, ()), ("train", 10, 1, ())]
    for shard in manifest.shards:
        content = (out / shard.file).read_bytes()  # the adopted ones' paths are absolute
        assert (shard.bytes, shard.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert [(one.source_id, one.name, one.train_count) for one in manifest.classes] == [
        ("0", "name 0", 1), ("1", "name 1", 2), ("2", "name 2", 1)]
    rows = rows_of(out)
    assert {one: (row["row"], row["split"], row["labels"]) for one, row in rows.items()} == {
        "0": ("0", "train", "2"), "2": ("2", "train", "0"), "3": ("3", "train", "1"), "4": ("10", "train", "1"),
        "10": ("8", "val", "2"), "11": ("9", "test", "")}
    assert (float(rows["0"]["latitude"]), float(rows["0"]["longitude"]), float(rows["0"]["date"])) == (45, -45, 0.75)
    assert (rows["3"]["latitude"], rows["3"]["longitude"], rows["3"]["date"]) == ("", "", "0.75")
    reasons = dict(rejected_of(out))
    assert reasons["1"] == "not a picture" and reasons["5"] == "no label"
    assert "already" in reasons["0"] and reasons["record 2"] == "not a tf.train.Example"

    assert "up to date" in run_command("create_tfrecords.py", *flags).stderr
    assert_one_line_mistake(run_command("create_tfrecords.py", *flags, "--num_classes=10"), "num_classes", "10")


def test_turtle_kind(tmp_path):
    for fold in range(3):
        write_shard(tmp_path / f"fold.{fold}.tfrecord-00000-of-00001",
                    [turtle_record(2 * fold, fold), turtle_record(2 * fold + 1, 4)])
    write_shard(tmp_path / "test.tfrecord-00000-of-00001", [turtle_record(20), turtle_record(21)])
    out = tmp_path / "out"
    manifest = adopt([f"{tmp_path}/*.tfrecord-*"], str(out))
    assert (manifest.competition, manifest.record_kind) == ("turtle_recall", "turtle_recall_solution")
    assert manifest.folds == 3 and [one.fold for one in manifest.shards] == [0, 1, 2, None]
    assert [(one.source_id, one.train_count) for one in manifest.classes] == [
        ("t_id_0", 1), ("t_id_1", 1), ("t_id_2", 1), ("3", 0), ("t_id_4", 3)]
    rows = rows_of(out)
    assert (rows["ID_3"]["row"], rows["ID_3"]["fold"], rows["ID_3"]["labels"]) == ("3", "1", "4")
    assert (rows["ID_20"]["split"], rows["ID_20"]["fold"], rows["ID_20"]["labels"]) == ("test", "", "")
    assert math.isnan(float(rows["ID_0"]["latitude"] or "nan"))
    assert rejected_of(out) == []


def test_ids_that_are_no_single_line_are_set_aside(tmp_path):
    ids = ["a\rb", "a\u2028b", "a b"]
    write_shard(tmp_path / "train.record", [
        inat_record(i, 0, **{"image/source_id": one.encode()}) for i, one in enumerate(ids)])
    adopt([f"{tmp_path}/train*"], str(tmp_path / "out"))
    assert set(rows_of(tmp_path / "out")) == {"a b"}
    reason = "its image/source_id holds control characters"
    assert rejected_of(tmp_path / "out") == [("a\\rb", reason), ("a\\u2028b", reason)]


def test_num_classes(tmp_path):
    write_shard(tmp_path / "train.record", [inat_record(0, 3)])
    assert len(adopt([f"{tmp_path}/train*"], str(tmp_path / "a"), "inat2019", 8).classes) == 8
    with pytest.raises(UserError, match="label 3.*num_classes=3"):
        adopt([f"{tmp_path}/train*"], str(tmp_path / "b"), None, 3)


def test_our_own_shards_keep_their_class_ids(tmp_path):
    write_inat2021(tmp_path / "raw")
    build("inat2021", str(tmp_path / "raw"), str(tmp_path / "own"))
    manifest = adopt([f"{tmp_path}/own/*.tfrecord-*"], str(tmp_path / "out"))
    assert manifest.record_kind == "inat2021_solution"
    assert [(one.source_id, one.train_count) for one in manifest.classes] == [("10", 4), ("20", 4), ("30", 4)]
    assert manifest.split_size("val") == 4 and manifest.split_size("test") == 3


@pytest.mark.parametrize("cut", [20, 3])
def test_truncated_shard_is_named(tmp_path, cut):
    path = tmp_path / "inat_train.record-00000-of-00001"
    write_shard(path, [inat_record(0, 0), inat_record(1, 1)])
    path.write_bytes(path.read_bytes()[:-cut])
    done = run_command("create_tfrecords.py", f"--adopt_records={path}", f"--out_dir={tmp_path / 'out'}")
    assert_one_line_mistake(done, str(path), "truncated")
    assert not (tmp_path / "out/dataset.json").exists()


def test_shard_cut_within_the_length_of_a_record_is_named(tmp_path):
    path = tmp_path / "train.record"
    write_shard(path, [inat_record(0, 0)])
    whole = path.read_bytes()
    for trailing in (1, 8, 11):  # fewer than the 12 bytes before a record
        path.write_bytes(whole + whole[:trailing])
        with pytest.raises(UserError, match="train.record is truncated"):
            adopt([str(path)], str(tmp_path / "out"))


def test_progress_is_in_mib_and_ends_at_its_total(tmp_path, monkeypatch):
    totals, done = [], []

    def run(function, tasks, workers, total, description, unit):
        totals.append((total, unit))
        return [function(task) for task in tasks]

    monkeypatch.setattr("dataset_tools.parallel.run", run)
    monkeypatch.setattr("dataset_tools.parallel.advance", done.append)
    for name, padding in (("train.a", 10), ("train.b", 3 << 20)):
        write_shard(tmp_path / name, [inat_record(i + padding, 0, padding=b"x" * padding) for i in range(2)])
    adopt([f"{tmp_path}/train.*"], str(tmp_path / "out"))
    assert totals == [(1 + 7, "MiB")] and sum(done) == 8


@pytest.mark.parametrize("flag, words", [
    ("--data_dir=x", "--data_dir"), ("--shard_mib=128", "--shard_mib"),
    ("--random_seed=1", "--random_seed"), ("--competition=inat2012", "inat2012")])
def test_flags_that_do_not_go_with_adopted_shards(tmp_path, flag, words):
    write_shard(tmp_path / "train.record", [inat_record(0, 0)])
    done = run_command("create_tfrecords.py", f"--adopt_records={tmp_path}/train*", f"--out_dir={tmp_path}/out", flag)
    assert_one_line_mistake(done, words)
    assert not (tmp_path / "out").exists()


def test_truncated_shard_among_several_ends_in_one_line(tmp_path):
    for i in range(3):
        write_shard(tmp_path / f"train.record-0000{i}-of-00003", [inat_record(10 * i + n, 0) for n in range(3)])
    path = tmp_path / "train.record-00001-of-00003"
    path.write_bytes(path.read_bytes()[:-3])
    done = run_command("create_tfrecords.py", f"--adopt_records={tmp_path}/train*", f"--out_dir={tmp_path}/out",
                       "--workers=2")
    assert_one_line_mistake(done, str(path), "truncated")


@pytest.mark.parametrize("seconds", [0.5, 6.0])  # while workers start, and while they work
def test_interrupt_of_workers_ends_in_one_line(tmp_path, seconds):
    write_shard(tmp_path / "one.record", [inat_record(0, 0)])
    for i in range(2):  # some 20 s of work
        (tmp_path / f"train.record-0000{i}-of-00002").write_bytes((tmp_path / "one.record").read_bytes() * 100_000)
    command = [sys.executable, str(REPOSITORY / "create_tfrecords.py"), f"--adopt_records={tmp_path}/train*",
               f"--out_dir={tmp_path}/out", "--workers=2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True,
                          preexec_fn=heed_interrupts) as running:
        children = pathlib.Path(f"/proc/{running.pid}/task/{running.pid}/children")
        while len(children.read_text().split()) < 2:  # the server of workers and the tracker of semaphores
            time.sleep(0.05)
        time.sleep(seconds)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        interrupted = time.monotonic()
        told = running.communicate(timeout=60)[1]
        print(f"{time.monotonic() - interrupted:.1f} s to end")
    assert running.returncode == 130 and len(told.splitlines()) == 1 and "interrupted" in told, told


def test_corrupt_shard_in_a_worker_is_named(tmp_path):
    for i in range(2):
        write_shard(tmp_path / f"train.record-0000{i}-of-00002", [inat_record(i, 0)])
    content = bytearray((tmp_path / "train.record-00001-of-00002").read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "train.record-00001-of-00002").write_bytes(content)
    with pytest.raises(UserError, match="00001-of-00002 is truncated or corrupt"):
        adopt([f"{tmp_path}/train*"], str(tmp_path / "out"), workers=2)


def test_splits_by_name(tmp_path):
    for name in ("a_train_mini.rec", "b_train.rec", "fold.3.rec", "val.rec", "public_test.rec"):
        write_shard(tmp_path / name, [])
    found = find_sources([f"{tmp_path}/*.rec"])
    assert [(one.path.rsplit("/", 1)[1], one.split, one.fold) for one in found] == [
        ("b_train.rec", "train", None), ("fold.3.rec", "train", 3), ("a_train_mini.rec", "train_mini", None),
        ("val.rec", "val", None), ("public_test.rec", "test", None)]
    told, = find_sources([f"val={tmp_path}/fold.3.rec"])
    assert (told.split, told.fold) == ("val", None)


def test_mistakes(tmp_path):
    write_shard(tmp_path / "shard.rec", [inat_record(0, 0)])
    write_shard(tmp_path / "train_other.rec", [{"x": b"y"}])
    write_shard(tmp_path / "train_turtle.rec", [turtle_record(0, 0)])
    write_shard(tmp_path / "train_empty.rec", [])
    out = str(tmp_path / "out")
    for specs, words in (([f"{tmp_path}/no*"], "no file matches"), ([f"{tmp_path}/shard.rec"], "split=GLOB"),
                         ([f"dev={tmp_path}/shard.rec"], "unknown split 'dev'"),
                         ([f"{tmp_path}/train_other.rec"], "train_other.rec is of no known kind"),
                         ([f"train={tmp_path}/shard.rec", f"{tmp_path}/train_turtle.rec"], "of the kind"),
                         ([f"{tmp_path}/train_empty.rec"], "no records"),
                         ([f"train={tmp_path}/shard.rec", f"val={tmp_path}/sh*"], "twice")):
        with pytest.raises(UserError, match=words):
            adopt(specs, out)


def test_tables_of_others_beside_the_shards_are_left_alone(tmp_path):
    write_shard(tmp_path / "train.record", [inat_record(0, 0)])
    (tmp_path / "examples.csv").write_text("mine")
    with pytest.raises(UserError, match="examples.csv would be overwritten"):
        adopt([f"{tmp_path}/train*"], str(tmp_path))
    assert (tmp_path / "examples.csv").read_text() == "mine"
    (tmp_path / "examples.csv").unlink()
    assert adopt([f"{tmp_path}/train*"], str(tmp_path)).split_size("train") == 1
    assert not (tmp_path / "unfinished.json").exists()
    (tmp_path / "rejected.csv").unlink()  # a damaged folder is written again; the shards are not ours to remove
    assert adopt([f"{tmp_path}/train*"], str(tmp_path)).split_size("train") == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "train.record", "dataset.json", "examples.csv", "rejected.csv"}
