"""python -m dataset_tools.verify: what was written is clean, and whatever is changed of it is found, a line a kind."""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from dataset_tools import adopt, build, verified_folder
from pipeline.records import frames
import own_table
import raw_data
import tiny_records


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Records in two folds, 12 train, 4 val, 3 test pictures; not to be written to."""
    folder = tmp_path_factory.mktemp("written")
    tiny_records.make(folder, folds=2, train=12, val=4, test=3)
    return folder / "records"


@pytest.fixture
def records(written, tmp_path):
    return pathlib.Path(shutil.copytree(written, tmp_path / "records"))


def lines(folder) -> list[str]:
    return verified_folder.verify(str(folder), 1)[1].lines()


def run_verify(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "dataset_tools.verify", *arguments], cwd=raw_data.REPOSITORY,
                          capture_output=True, text=True, timeout=300)


def rewrite(shard: pathlib.Path, change) -> None:
    """Writes the shard's records anew, each as `change(number, tf.train.Example)` leaves it; checksums of frames are right."""
    found = [tf.train.Example.FromString(one.numpy()) for one in tf.data.TFRecordDataset(str(shard))]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for number, one in enumerate(found):
            change(number, one)
            writer.write(one.SerializeToString(deterministic=True))


def test_checksums_are_those_of_tensorflow(tmp_path):
    """Of records of any length, and RFC 3720's own value."""
    assert frames.crc32c(b"123456789") == 0xE3069283 and frames.crc32c(bytes(32)) == 0x8A9136AA
    rng = np.random.default_rng(0)
    wanted = [rng.bytes(int(size)) for size in (0, 1, 3, 4, 511, 512, 513, 1 << 14, 100_001)]
    for compression in ("", "GZIP", "ZLIB"):
        path = str(tmp_path / f"x{compression}")
        with tf.io.TFRecordWriter(path, compression) as writer:
            for one in wanted:
                writer.write(one)
        with open(path, "rb") as file:
            found = list(frames.frames(frames.unpacked(file, compression)))
        assert [one.record for one in found] == wanted and {one.state for one in found} == {frames.WHOLE}


def test_what_was_written_is_clean_and_a_flipped_bit_is_not(written, records):
    done = run_verify(str(written), "--workers=1")
    assert done.returncode == 0 and "19 examples in 4 shards" in done.stdout and not raw_data.stderr_lines(done), done
    shard = next(records.glob("train.fold.0*"))
    content = bytearray(shard.read_bytes())
    with open(shard, "rb") as file:
        third = list(frames.frames(file))[2]
    content[(third.offset + third.end) // 2] ^= 4
    shard.write_bytes(bytes(content))
    done = run_verify(str(records), "--workers=1")
    raw_data.assert_one_line_mistake(done, "3 faults of 3 kinds")
    told = done.stdout.splitlines()
    assert len(told) == 3
    assert any(f"damaged records: 1, such as {shard} at byte {third.offset:,}: its checksum" in one for one in told)
    assert any("SHA-256" in one for one in told) and any("whose record is damaged" in one for one in told)


@pytest.mark.parametrize("damage, kinds", [
    (lambda content: content[:-5], ["another size", "SHA-256", "damaged records", "whose record is damaged"]),
    (lambda content: content[:len(content) // 2] + content[len(content) // 2 + 1:],
     ["another size", "SHA-256", "damaged records"]),
    (lambda content: b"", ["empty shards"]),
    (lambda content: None, ["missing shards"]),
    (lambda content: struct.pack("<QI", 1 << 60, frames.masked_crc(struct.pack("<Q", 1 << 60))) + content[12:],
     ["SHA-256", "damaged records", "another number of records", "whose record is damaged"]),
])
def test_cut_empty_and_missing_shards(records, damage, kinds):
    shard = next(records.glob("val*"))
    content = damage(shard.read_bytes())
    shard.unlink()
    if content is not None:
        shard.write_bytes(content)
    told = lines(records)
    assert all(any(kind in line for line in told) for kind in kinds), told
    assert str(shard) in told[0] and len(told) <= len(kinds) + 2


def test_records_that_are_others_than_the_tables_tell(records):
    """Frames are whole: only what stands in them is wrong. Many faults of one kind are one line."""
    shard = next(records.glob("val*"))

    def change(number, example):
        features = example.features.feature
        if number == 0:
            features["image/object/class/label"].int64_list.value[:] = [77]
        elif number == 1:
            features["image/encoded"].bytes_list.value[:] = [b"\xff\xd8 no picture"]
        elif number == 2:
            features["example/row"].int64_list.value[:] = [10_000]
        else:
            features["image/latitude"].float_list.value[:] = [float("nan")]
            del features["image/key/sha256"].bytes_list.value[:]

    rewrite(shard, change)
    told = lines(records)
    for kind in ("labels beyond the classes: 1", "another labels", "can't be decoded: 1", "in another shard, or not at all: 1",
                 "places that are none: 1", "not those that were written (SHA-256): 1", "record is damaged or not there: 1"):
        assert any(kind in line for line in told), (kind, told)
    rewrite(shard, lambda number, example: example.features.feature.pop("image/encoded", None))
    found, = (line for line in lines(records) if "records that can't be read" in line)
    assert ": 4, such as" in found and found.count("has no image/encoded") == 3


def test_tables_that_were_edited(records):
    examples = (records / "examples.csv").read_text().splitlines()
    header, first, *rest = examples
    (records / "examples.csv").write_text("\n".join([header, first, first, *rest[3:], "x,1,train,,0,,,,"]) + "\n")
    manifest = json.loads((records / "dataset.json").read_text())
    manifest["rejected"] = 5
    (records / "dataset.json").write_text(json.dumps(manifest))
    told = lines(records)
    for kind in ("can't be read: 1", "stand in examples.csv twice: 1", "ids that stand in a split twice: 1", "set aside than",
                 "with another number of train pictures"):
        assert any(kind in line for line in told), (kind, told)


def test_a_picture_in_two_folds_and_one_in_two_splits(tmp_path):
    raw = tiny_records.write_raw(tmp_path / "raw", train=12, val=4, test=3)
    build.build("inat2021", str(raw), str(tmp_path / "r"), folds=2)
    first, second = sorted((tmp_path / "r").glob("train.fold.*"))
    copied = tf.train.Example.FromString(next(iter(tf.data.TFRecordDataset(str(first)))).numpy()).features.feature

    def change(number, example):
        if number == 0:
            for key in ("image/encoded", "image/key/sha256"):
                example.features.feature[key].CopyFrom(copied[key])

    rewrite(second, change)
    rewrite(next((tmp_path / "r").glob("test*")), change)
    _, faults, remarks = verified_folder.verify(str(tmp_path / "r"), 1)
    assert any("stand in several folds: 1" in line for line in faults.lines())
    assert remarks == ["1 picture of test stands in train too, with the same bytes"]


def test_groups_of_a_table_stand_in_one_fold_and_split(tmp_path):
    own_table.make(tmp_path / "own", count=24)
    made = raw_data.run_command("create_tfrecords.py", "--competition=table", f"--data_dir={tmp_path}/own",
                                f"--out_dir={tmp_path}/r", "--folds=2")
    assert made.returncode == 0, made.stderr[-2000:]
    assert not lines(tmp_path / "r")
    examples = pd.read_csv(tmp_path / "r/examples.csv", dtype=str, keep_default_na=False)
    assert list(examples.columns)[-1] == "group"
    told = {one["path"]: one["group"] for one in own_table.rows(24)}
    assert dict(zip(examples["id"], examples["group"])) == {name: told[name] for name in examples["id"]}
    trained = examples[examples["split"] == "train"]
    moved = trained[trained["fold"] == "0"]["group"].iloc[0]
    other = trained[trained["fold"] == "1"].index[0]
    examples.loc[other, "group"] = moved
    examples.to_csv(tmp_path / "r/examples.csv", index=False)
    line, = lines(tmp_path / "r")
    assert "groups that stand in several splits or folds: 1" in line and f"{moved} in train, fold 0 and train, fold 1" in line


def test_adopted_shards_are_verified_where_they_lie(written, tmp_path):
    adopt.adopt([f"{written}/*.tfrecord-*"], str(tmp_path / "adopted"), "inat2021")
    assert lines(tmp_path / "adopted") == []


@pytest.mark.parametrize("content", [None, "{", "[]", "[" * 200_000, '{"classes": [], "shards": 3}'])
def test_a_folder_that_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(verified_folder.UserError, match="dataset.json"):
        verified_folder.verify(str(tmp_path), 1)
    assert os.listdir(tmp_path) == ([] if content is None else ["dataset.json"])
