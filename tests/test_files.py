"""Files that are written whole or not at all, also where several processes write the same one."""

import json
import os
import subprocess
import sys

import pytest

from dataset_tools import files as raw_files
from pipeline import files
from raw_data import REPOSITORY

WRITER = """
import sys
from pipeline import files
for number in range(1500):
    files.write_json(sys.argv[1], [number] * 2000)
"""


def test_two_processes_write_the_same_file(tmp_path):
    path = tmp_path / "value.json"
    path.write_text("[]")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
               for _ in range(2)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        content = json.loads(path.read_text())
        assert len(content) in (0, 2000) and len(set(content)) <= 1  # never half a file, or of both
        seen += 1
    told = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], told
    assert seen > 10 and [one.name for one in tmp_path.iterdir()] == ["value.json"]


def test_two_writers_of_a_table_do_not_know_of_each_other(tmp_path):
    path = str(tmp_path / "table.csv")
    with raw_files.replacing(path) as one:
        one.write("one\n")
        with raw_files.replacing(path) as other:
            other.write("other\n")
        assert (tmp_path / "table.csv").read_text() == "other\n"
    assert (tmp_path / "table.csv").read_text() == "one\n" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_begun_goes_again(error, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("before")
    with pytest.raises(error):
        with raw_files.replacing(str(path)) as file:
            file.write("half")
            raise error
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"] and path.read_text() == "before"


def test_names_of_what_was_begun(tmp_path):
    with files.replacing(str(tmp_path / "a.csv")) as temporary:
        assert files.target_of(temporary) == str(tmp_path / "a.csv")
        open(temporary, "w").close()
    assert files.target_of("a.csv.tmp") == "a.csv" and files.target_of("a.csv") is None


def test_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append(os.readlink(f"/proc/self/fd/{number}")), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda source, target: (order.append(target), replace(source, target)))
    files.write_json(str(tmp_path / "run.json"), {"a": 1})
    flushed, named = order
    assert flushed.startswith(f"{tmp_path}/run.json.") and named == f"{tmp_path}/run.json"
