"""Which classes a fold leaves out of its training, and what is left of the pictures then."""

import dataclasses

import numpy as np
import pytest

import raw_data
from dataset_tools.build import build
from pipeline.errors import UserError
from pipeline.records import dataset, input as inputs
from pipeline.runs import run as runs, seen, strangers

KNOWN, EXTRA, EACH = ("k_a", "k_b"), [f"x_{number:02}" for number in range(12)], 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two known individuals and twelve others, four pictures each, in four folds."""
    folder = tmp_path_factory.mktemp("strangers")
    train, extra = "image_id,image_location,turtle_id\n", "image_id,turtle_id\n"
    for number in range(EACH * (len(KNOWN) + len(EXTRA))):
        name, whose = f"ID_{number:03}", [*KNOWN, *EXTRA][number // EACH]
        raw_data.write(folder / "raw" / "images" / f"{name}.JPG", raw_data.encode(raw_data.pixels(number)))
        if whose in KNOWN:
            train += f"{name},top,{whose}\n"
        else:
            extra += f"{name},{whose}\n"
    raw_data.write(folder / "raw" / "train.csv", train.encode())
    raw_data.write(folder / "raw" / "extra_images.csv", extra.encode())
    build("turtle_recall", str(folder / "raw"), str(folder / "records"), folds=4)
    return dataset.load(str(folder / "records"))


def run_of(data, fold, share):
    return runs.Run(data.directory, "", "", (), fold=fold, hold_out_classes=share)


def names(data, classes):
    return {data.class_ids[one] for one in classes}


@pytest.mark.parametrize("share, count", [(0.25, 3), (0.3, 4), (0.1, 2), (0.5, 6)])
def test_every_fold_leaves_out_its_share_of_the_extra_ones(data, share, count):
    found = strangers.by_fold(data.manifest, share)
    assert found == strangers.by_fold(dataset.load(data.directory).manifest, share)
    assert list(found) == list(range(4)) and {len(one) for one in found.values()} == {count}
    everyone = [one for classes in found.values() for one in classes]
    assert names(data, everyone) <= set(EXTRA)
    if share * 4 >= 1:
        assert names(data, everyone) == set(EXTRA)
    else:
        assert len(set(everyone)) == len(everyone)
    other = dataclasses.replace(data.manifest, settings={**data.manifest.settings, "random_seed": 7})
    assert strangers.by_fold(other, share) != found


def test_where_extra_ones_are_few_known_ones_play_strangers_too(data):
    classes = tuple(dataclasses.replace(one, known=one.known or one.index > 6) for one in data.manifest.classes)
    few = dataclasses.replace(data.manifest, classes=classes)
    played = {one for left_out in strangers.by_fold(few, 0.25).values() for one in left_out}
    assert played == set(range(len(classes)))


def test_training_has_none_of_them_and_somebody_is_asked_about_each_picture_once(data):
    table = data.examples("train").set_index("id")
    label = table["labels"].str[0]
    asked = []
    for fold in range(4):
        run = run_of(data, fold, 0.3)
        left_out = set(strangers.by_fold(data.manifest, 0.3)[fold])
        training, strange, held_out = (part.identifiers() for part in (
            runs.training_part(run, data), runs.strangers_part(run, data), runs.held_out_part(run, data)))
        expected = table[(table["fold"] != fold) & ~label.isin(left_out)]
        assert set(training["id"]) == set(expected.index) and len(training) == runs.training_part(run, data).size
        assert set(held_out["id"]) == set(table.index[table["fold"] == fold])
        assert not set(label[strange["id"]]) - left_out and not (strange["fold"] == fold).any()
        validated = runs.validation_part(run, data).identifiers()
        assert set(validated["id"]) == {one for one in held_out["id"] if label[one] not in left_out}
        asked += [*strange["id"], *(one for one in held_out["id"] if label[one] in left_out)]
    assert sorted(asked) == sorted(table.index[~label.isin([0, 1])])  # each unseen once, and the known two never


def test_the_input_reads_just_these(data):
    run = run_of(data, 1, 0.25)
    for part in (runs.training_part(run, data), runs.strangers_part(run, data)):
        rows = sorted(part.examples()["row"])
        assert sorted(int(one["row"]) for one in inputs.examples(part)) == rows
        for balance in ("none", "full"):
            epoch = inputs.train_examples(part, 3, class_balance=balance).take(part.size)
            read = [int(one["row"]) for one in epoch]
            assert set(read) <= set(rows) and (balance != "none" or sorted(read) == rows)
    own_rows, labels = runs.training_part(run, data).single_labels()
    assert len(own_rows) == runs.training_part(run, data).size
    assert not set(labels) & set(strangers.by_fold(data.manifest, 0.25)[1])


def test_what_a_fold_has_seen_is_without_them(data):
    left_out = strangers.by_fold(data.manifest, 0.25)
    run = run_of(data, 2, 0.25)
    known = seen._of_data(data, "train", True, 1.0, left_out)
    part = runs.strangers_part(run, data)
    assert part.size and not len(known.among(part, 2)) and len(known.among(part, 3)) > 0
    told = known.of_fold(2, data.class_ids)
    assert set(told["strangers"]) == {"2"} and set(told["strangers"]["2"]) == names(data, left_out[2])
    _, labels = runs.training_part(run, data).single_labels()
    assert told["class_counts"] == np.bincount(labels, minlength=len(data.class_ids)).tolist()


@pytest.mark.parametrize("changes, fold, words", [
    ({"unknown_answer": ""}, 0, ["turtle_recall"]), ({}, None, ["--fold"])])
def test_where_there_is_nothing_to_hold_out_it_is_told(data, changes, fold, words):
    other = dataclasses.replace(data, manifest=dataclasses.replace(data.manifest, **changes))
    with pytest.raises(UserError) as raised:
        strangers.check(other, 0.2, fold)
    for word in ("--hold_out_classes=0.2", *words):
        assert word in str(raised.value)
    strangers.check(other, 0.0, fold)


def test_a_run_without_them_is_the_run_that_it_was(data):
    assert "hold_out_classes" not in run_of(data, 0, 0.0).identity()
    assert run_of(data, 0, 0.2).identity()["hold_out_classes"] == 0.2
