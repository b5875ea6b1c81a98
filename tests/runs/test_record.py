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


def test_a_precision_that_there_is_not(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"same": {"precision": "0"}, "free": {}}))
    with pytest.raises(UserError, match="run.json was not written by .*, or was edited: its precision is '0'"):
        record.read(str(tmp_path))
