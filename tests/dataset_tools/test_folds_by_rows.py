"""--folds_by=rows: the folds of published solutions, by scikit-learn and pandas from the competition's own tables."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

import raw_data
from dataset_tools import competitions, folds
from dataset_tools.build import build
from pipeline.errors import UserError
from pipeline.records import dataset
from raw_data import assert_one_line_mistake, encode, run_command, write
from test_duplicates import drawing

SEED = 33  # the fifth place's


def published_folds(raw, count=5, seed=SEED):
    """Fold by image id, as the fifth place of Turtle Recall made them."""
    joined = pd.concat([pd.read_csv(raw / "train.csv"), pd.read_csv(raw / "extra_images.csv")], ignore_index=True)
    fold_of = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # turtles with fewer pictures than folds
        splits = StratifiedKFold(count, shuffle=True, random_state=seed).split(joined, joined["turtle_id"])
        for fold, (_, held_out) in enumerate(splits):
            fold_of.update(dict.fromkeys(joined["image_id"][held_out], fold))
    return fold_of


def folds_of(records):
    return {row.id: row.fold for row in dataset.load(str(records)).examples("train").itertuples()}


def write_turtles(folder):
    """64 pictures of 11 turtles in two files, whose ids are in no order; one is missing, one stands twice."""
    rng = np.random.default_rng(1)
    ids = [f"ID_{number:03d}" for number in rng.permutation(64)]
    turtles = [f"t_{number}" for number in rng.choice(11, 64, p=np.arange(1, 12) / 66)]
    train = "".join(f"{one},left,{turtle}\n" for one, turtle in zip(ids[:40], turtles[:40]))
    extra = "".join(f"{one},{turtle}\n" for one, turtle in zip(ids[40:], turtles[40:]))
    write(folder / "train.csv", b"image_id,image_location,turtle_id\n" + train.encode())
    write(folder / "extra_images.csv", b"image_id,turtle_id\n" + extra.encode())
    fold_of = published_folds(folder)
    twice = next(one for one in ids[2:] if fold_of[one] != fold_of[ids[1]])  # a copy that lands in another fold
    for number, one in enumerate(ids[1:]):
        write(folder / "images" / f"{one}.JPG", encode(drawing(number), quality=92))
    (folder / "images" / f"{twice}.JPG").write_bytes((folder / "images" / f"{ids[1]}.JPG").read_bytes())
    return ids[0], sorted((ids[1], twice))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    missing, copies = write_turtles(folder / "raw")
    done = run_command("create_tfrecords.py", "--competition=turtle_recall", f"--data_dir={folder}/raw",
                       f"--out_dir={folder}/records", "--folds=5", "--folds_by=rows", f"--random_seed={SEED}")
    assert done.returncode == 0, done.stderr
    return folder, missing, copies, done


def test_folds_are_scikit_learns_on_the_joined_table(made):
    folder, missing, _, _ = made
    expected = published_folds(folder / "raw")
    assert expected.pop(missing) in range(5)  # it had its place among the rows, and moved nobody else
    assert folds_of(folder / "records") == expected


def test_copies_in_several_folds_are_told(made):
    folder, _, copies, done = made
    manifest = dataset.load(str(folder / "records")).manifest
    assert manifest.duplicates == (tuple(copies),) and (manifest.copies, manifest.parted_copies) == (1, 2)
    assert manifest.settings["folds_by"] == "rows"
    assert f"1 of 1 groups of copies stand in several folds, such as {copies[0]} and {copies[1]}" in done.stderr
    assert "1 picture of train is a copy of another, 2 have one in another fold" in done.stdout


def test_by_copies_they_are_together_and_the_folder_is_another(made, tmp_path):
    folder, _, copies, _ = made
    build("turtle_recall", str(folder / "raw"), str(tmp_path / "out"), folds=5, seed=SEED)
    found = folds_of(tmp_path / "out")
    assert found[copies[0]] == found[copies[1]]
    assert dataset.load(str(tmp_path / "out")).manifest.parted_copies == 0
    with pytest.raises(UserError, match="folds_by was 'copies' and is 'rows' now"):
        build("turtle_recall", str(folder / "raw"), str(tmp_path / "out"), folds=5, seed=SEED, folds_by="rows")


@pytest.mark.parametrize("flags, words", [
    (["--folds_by=rows"], ["--folds_by", "--folds"]), (["--folds=5", "--folds_by=names"], ["folds_by", "copies", "rows"])])
def test_wrong_flags(flags, words, tmp_path):
    done = run_command("create_tfrecords.py", "--competition=turtle_recall", f"--out_dir={tmp_path}/o", *flags)
    assert_one_line_mistake(done, *words)


def test_groups_are_not_parted(tmp_path):
    write_turtles(tmp_path)
    table = competitions.find("turtle_recall").read(str(tmp_path))
    table.examples["group"] = "one"
    with pytest.raises(UserError, match="--folds_by=rows would part the groups"):
        folds.divide(table, str(tmp_path), 5, -1, SEED, 1, folds.ROWS)


def test_sample(tmp_path):
    raw = raw_data.samples("turtle_mini")
    build("turtle_recall", str(raw), str(tmp_path / "out"), folds=5, seed=SEED, folds_by="rows", distance=-1)
    found, expected = folds_of(tmp_path / "out"), published_folds(raw)
    assert found == {one: expected[one] for one in found} and len(found) > 470
    assert json.loads((tmp_path / "out/dataset.json").read_text())["settings"]["folds_by"] == "rows"
