"""What differs between two starts of a run, in words."""

import json

import pytest

from pipeline.errors import UserError
from pipeline.runs import record


def of(contents, classes="b" * 64, **more):
    return {"dataset": {"train": {"contents": contents, "classes": classes, "competition": "folder"}}, **more}


def test_digests_are_told_as_what_they_are_of():
    told = record.differences(of("a" * 64, lr=0.1), of("c" * 64, lr=0.2))
    assert told == ["pictures of train are others (made anew from other files or with other flags?)", "lr was 0.1, is 0.2"]
    assert record.differences(of("a" * 64), of("a" * 64, "d" * 64)) == [
        "classes are others (made anew from other files or with other flags?)"]
    assert record.differences({"boxes": {"digest": "a" * 64}}, {"boxes": None}) != []
    assert record.differences({"records": "a" * 64}, {}) == ["records are not told now"]
    assert record.differences(of("a" * 64), of("a" * 64)) == []


SEEN = {"competition": "folder", "splits": ["train"], "by_folds": False, "division": "d", "contents": "c", "ancestors": [],
        "prior_power": None, "class_counts": {"-1": [2, 3]}}


@pytest.mark.parametrize("changes, told", [
    ({"same": {"precision": "0"}}, "its precision is '0'"),
    ({"seen": {**SEEN, "ancestors": None}}, "its seen's ancestors is 'None'"),
    ({"seen": {name: value for name, value in SEEN.items() if name != "splits"}}, "its seen's splits is 'None'"),
    ({"seen": "train"}, "its seen's competition is 'None'")])
def test_what_no_run_says(tmp_path, changes, told):
    for found in ({"same": {}, "free": {}, "seen": SEEN}, {"same": {}, "free": {}, **changes}):
        (tmp_path / "run.json").write_text(json.dumps(found))
        if "seen" in found and found["seen"] == SEEN:
            assert record.read(str(tmp_path)) == found
    with pytest.raises(UserError, match=f"run.json was not written by .*, or was edited: {told}"):
        record.read(str(tmp_path))
