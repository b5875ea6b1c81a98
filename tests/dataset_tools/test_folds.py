"""Folds: balanced, what belongs together together, the same every time, through the command."""

import csv
import json
import sys
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest

import raw_data
from dataset_tools import competitions, folds
from dataset_tools.adopt import find_sources
from dataset_tools.build import build
from dataset_tools.table import Table
from pipeline.errors import UserError
from pipeline.records import dataset
from raw_data import assert_one_line_mistake, encode, run_command, write
from test_duplicates import copies_of, drawing

COMMAND = "create_tfrecords.py"


def assign(labels, count=5, seed=1, copies=None, **options):
    """folds.assign, where a warning is a failure."""
    labels = [one if isinstance(one, tuple) else (one,) for one in labels]
    copies = np.arange(len(labels)) if copies is None else np.array(copies)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return folds.assign(labels, copies, count, seed, **options)


def counts(values, found, count=5):
    """[value, fold]: how often."""
    return np.array([np.bincount(found[np.array(values) == value], minlength=count) for value in sorted(set(values))])


def test_every_class_is_spread_evenly_over_folds_of_equal_size():
    labels = np.random.default_rng(0).choice(30, 1000, p=np.arange(1, 31) / 465).tolist()
    found = assign(labels)
    assert np.ptp(np.bincount(found)) <= 1
    table = counts(labels, found)
    assert (table.max(axis=1) - table.min(axis=1) <= 1).all()
    assert not np.array_equal(found, assign(labels, seed=2))
    assert np.array_equal(found, assign(labels))


@pytest.mark.parametrize("labels", [
    [0] * 20 + [1], [0, 0, 1, 2, 3, 4], list(range(7)), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3], [0] * 5, [9] * 4 + [3] * 3])
def test_rare_classes(labels):
    found = assign(labels)
    sizes = np.bincount(found, minlength=5)
    assert np.ptp(sizes) <= 1 and sizes.min() >= 1
    assert (counts(labels, found).max(axis=1) <= np.ceil(np.unique(labels, return_counts=True)[1] / 5)).all()


def test_too_few_pictures():
    with pytest.raises(UserError, match="--folds=5.*only 4 usable pictures"):
        assign([0, 0, 0, 1])
    with pytest.raises(UserError, match="only 2"):
        assign([0] * 6, copies=[0, 0, 0, 1, 1, 1])


def test_copies_stay_together_and_balance_holds():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10, 400).tolist()
    copies = np.arange(400)
    copies[100:140] = copies[:40]
    labels[100:140] = labels[:40]
    copies[140:150] = copies[40]  # eleven of one, some of another class
    found = assign(labels, copies=copies)
    for number in set(copies.tolist()):
        assert len(set(found[copies == number])) == 1
    assert np.ptp(np.bincount(found)) <= 30


@pytest.mark.parametrize("multi_label", [False, True])
def test_groups_stay_together_with_the_copies_of_their_members(multi_label):
    rng = np.random.default_rng(4)
    groups = [f"g{number}" if number < 40 else "" for number in rng.integers(0, 60, 500)]
    labels = [(int(one),) for one in rng.integers(0, 8, 500)]
    copies = np.arange(500)
    copies[1] = copies[0]
    groups[0], groups[1] = "g1", "g2"  # a copy joins two groups
    found = assign(labels, copies=copies, groups=groups, several_labels=multi_label)
    for group in set(groups) - {""}:
        assert len({fold for fold, one in zip(found, groups) if one == group}) == 1
    assert found[0] == found[1]
    assert len({fold for fold, one in zip(found, groups) if one in ("g1", "g2")}) == 1
    if not multi_label:
        table = counts([one for one, in labels], found)
        assert table.min() >= 5  # 12.5 on average
        assert not np.array_equal(found, assign(labels, copies=copies, groups=groups, seed=2))


def test_one_group_for_all_and_groups_of_rare_classes():
    with pytest.raises(UserError, match="only 1"):
        assign([0, 1, 2, 3, 4, 5], groups=["g"] * 6)
    found = assign(list(range(10)), groups=[f"g{number // 2}" for number in range(10)])
    assert sorted(np.bincount(found)) == [2, 2, 2, 2, 2]


def test_many_labels_are_balanced_one_by_one():
    rng = np.random.default_rng(5)
    labels = [tuple(np.flatnonzero(row).tolist()) or (0,) for row in rng.random((600, 20)) < np.linspace(0.02, 0.4, 20)]
    labels[0] += (25,)  # once only
    found = assign(labels, several_labels=True)
    assert np.ptp(np.bincount(found)) <= 12
    for label in range(20):
        spread = np.bincount(found[[label in one for one in labels]], minlength=5)
        # The rarest labels are dealt first; many pictures of the frequent ones have a fold when their turn comes.
        assert np.ptp(spread) <= (1 if label < 10 else 0.5 * spread.mean())
    assert np.array_equal(found, assign(labels, several_labels=True))
    assert set(assign([(0,)] * 10, several_labels=True)) == set(range(5))  # a single class


# -- through build and the command -------------------------------------------------------------------------------------

def write_raw(folder):
    """A class per sub-folder: 12, 9, 4 and 1 pictures, three copies, one broken file, and a val and a test split."""
    for number, (name, count) in enumerate((("a", 12), ("b", 9), ("c", 4), ("d", 1))):
        for index in range(count):
            write(folder / "train" / name / f"{index}.jpg", encode(drawing(100 * number + index), quality=92))
    copies = dict(copies_of((folder / "train/a/0.jpg").read_bytes()))
    for name in ("quality 40", "scale 0.5"):
        write(folder / "train/a" / f"{name}.jpg", copies[name])
    shutil.copy(folder / "train/b/1.jpg", folder / "train/b/again.jpg")
    write(folder / "train/b/broken.jpg", b"no picture")
    shutil.copytree(folder / "train/c", folder / "val/c")
    write(folder / "test/1.jpg", encode(drawing(999)))
    return folder


def examples_of(folder):
    with open(folder / "examples.csv", newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(raw folder, folder of shards in three folds, what the command said)."""
    folder = tmp_path_factory.mktemp("folds")
    write_raw(folder / "raw")
    done = run_command(COMMAND, "--competition=folder", f"--data_dir={folder}/raw", f"--out_dir={folder}/out",
                       "--folds=3", "--workers=2")
    assert done.returncode == 0, done.stderr
    return folder / "raw", folder / "out", done


def test_shards_and_tables_tell_the_folds(written):
    _, out, done = written
    manifest = dataset.load(str(out)).manifest
    assert manifest.folds == 3 and manifest.rejected == 1
    assert [(one.file, one.split, one.fold) for one in manifest.shards] == [
        *((f"train.fold.{fold}.tfrecord-00000-of-00001", "train", fold) for fold in range(3)),
        ("val.tfrecord-00000-of-00001", "val", None), ("test.tfrecord-00000-of-00001", "test", None)]
    rows = examples_of(out)
    for shard in manifest.shards:
        records = raw_data.read_records(out / shard.file)
        assert len(records) == shard.examples
        for record in records:
            row = rows[record["image/source_id"].decode()]
            assert row["fold"] == ("" if shard.fold is None else str(shard.fold))
            assert int(row["row"]) == record["example/row"]
    assert (manifest.settings["folds"], manifest.settings["duplicate_distance"]) == (3, 24)
    sizes = [shard.examples for shard in manifest.shards[:3]]
    assert sum(sizes) == 29 and max(sizes) - min(sizes) <= 4
    assert "3 folds; 3 pictures of train are copies of another" in done.stdout.splitlines()[-1]
    assert "Warning" not in done.stderr


def test_copies_are_in_one_fold_and_reported(written):
    _, out, _ = written
    manifest, rows = dataset.load(str(out)).manifest, examples_of(out)
    assert manifest.duplicates == (("train/a/0.jpg", "train/a/quality 40.jpg", "train/a/scale 0.5.jpg"),
                                   ("train/b/1.jpg", "train/b/again.jpg"))
    assert manifest.copies == 3
    for group in manifest.duplicates:
        assert len({rows[one]["fold"] for one in group}) == 1


def test_the_same_folds_on_any_number_of_workers_and_settings_are_compared(written, tmp_path):
    raw, out, done = written
    again = build("folder", str(raw), str(tmp_path / "one"), workers=1, folds=3)
    for name in [shard.file for shard in again.shards] + ["examples.csv", "dataset.json"]:
        assert (tmp_path / "one" / name).read_bytes() == (out / name).read_bytes()
    before = (out / "dataset.json").stat().st_mtime_ns
    assert build("folder", str(raw), str(out), folds=3) == again
    assert (out / "dataset.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="folds was 3 and is 0 now"):
        build("folder", str(raw), str(out))
    with pytest.raises(UserError, match="duplicate_distance was 24 and is 4 now"):
        build("folder", str(raw), str(out), folds=3, distance=4)
    other = build("folder", str(raw), str(tmp_path / "other"), folds=3, seed=7, distance=-1)
    assert other.duplicates == (("train/b/1.jpg", "train/b/again.jpg"),)
    assert examples_of(tmp_path / "other") != examples_of(out)


def test_a_folder_from_before_there_were_folds_is_up_to_date(tmp_path):
    raw_data.write_inat2021(tmp_path / "raw")
    made = build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    path = tmp_path / "out/dataset.json"
    content = json.loads(path.read_text())
    for name in ("folds", "duplicate_distance", "folds_by"):
        del content["settings"][name]
    del content["copies"], content["duplicates"]
    path.write_text(json.dumps(content))
    before = path.stat().st_mtime_ns
    assert build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out")).shards == made.shards
    assert path.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="folds was 0 and is 2 now"):
        build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"), folds=2)


def test_leftovers_of_folds_are_removed(tmp_path):
    raw_data.write_inat2021(tmp_path / "raw", train=3)
    write(tmp_path / "out/train.fold.0.tfrecord-00000-of-00009", b"half")
    write(tmp_path / "out/unfinished.json", {"about": "", "shards": ["train.fold.0.tfrecord-00000-of-00009"]})
    build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("train.fold*"))


def test_train_mini_is_divided_where_there_is_no_train(tmp_path):
    raw_data.write_inat2021(tmp_path / "raw")
    (tmp_path / "raw/train.json").rename(tmp_path / "raw/train_mini.json")
    made = build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"), folds=2)
    assert [(one.split, one.fold) for one in made.shards[:3]] == [("train_mini", 0), ("train_mini", 1), ("val", None)]


def test_a_group_column_and_differing_labels_of_copies(tmp_path, monkeypatch, caplog):
    table = competitions.find("folder").read(str(write_raw(tmp_path)))
    examples = table.examples.assign(group=["g" if "/c/" in one else "" for one in table.examples["id"]])
    examples.loc[examples["id"] == "train/b/again.jpg", "labels"] = pd.Series(
        [(0,)], index=examples.index[examples["id"] == "train/b/again.jpg"])
    with caplog.at_level("WARNING"):
        found = folds.divide(Table(examples, table.classes), str(tmp_path), 3, 24, 42, 1)
    assert len({fold for one, fold in found.fold_of.items() if "/c/" in one}) == 1
    assert found.split == "train" and len(found.copies) == 2


def test_adoption_takes_the_folds_from_the_names(written):
    _, out, _ = written
    assert [(one.split, one.fold) for one in find_sources([f"{out}/train.fold.*"])] == [
        ("train", 0), ("train", 1), ("train", 2)]
    assert [(one.split, one.fold) for one in find_sources([f"{out}/val.*"])] == [("val", None)]


@pytest.mark.parametrize("flags, words", [
    (["--folds=1"], ["--folds=1"]), (["--folds=-2"], ["--folds=-2"]),
    (["--folds=2", "--duplicate_distance=-2"], ["--duplicate_distance=-2"]),
    (["--folds=2", "--duplicate_distance=99"], ["--duplicate_distance=99"]),
    (["--duplicate_distance=3"], ["--duplicate_distance", "--folds"]),
    (["--folds=2", "--adopt_records=x"], ["--folds does not go with --adopt_records"]),
])
def test_mistakes_end_in_one_line(written, tmp_path, flags, words):
    done = run_command(COMMAND, "--competition=folder", f"--data_dir={written[0]}", f"--out_dir={tmp_path}/out", *flags)
    assert_one_line_mistake(done, *words)


def test_sample_through_the_command(tmp_path):
    folder = raw_data.samples("turtle_mini")
    done = run_command(COMMAND, "--competition=turtle_recall", f"--data_dir={folder}", f"--out_dir={tmp_path}",
                       "--folds=3", "--max_side=32")
    assert done.returncode == 0, done.stderr
    data = dataset.load(str(tmp_path))
    assert (data.part("train").size, data.part("test").size, data.manifest.folds) == (481, 125, 3)
    train = data.examples("train")
    assert train["fold"].value_counts().max() - train["fold"].value_counts().min() <= 3
    table = counts([labels[0] for labels in train["labels"]], train["fold"].to_numpy(), 3)
    assert (table.max(axis=1) - table.min(axis=1) <= 2).all()
    assert (len(data.class_ids), sum(one.known for one in data.manifest.classes)) == (45, 20)


def test_planning_needs_no_tensorflow():
    done = raw_data.subprocess.run([sys.executable, "-c", "import sys, dataset_tools.build as _; "
                                    "sys.exit('tensorflow' in sys.modules)"], cwd=raw_data.REPOSITORY, timeout=60)
    assert done.returncode == 0  # its import takes seconds, and a mistyped flag should not
