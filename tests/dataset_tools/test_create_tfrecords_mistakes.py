"""create_tfrecords.py ends with one line where its flags, the raw files or the output folder are at fault."""

import uuid

import pytest

from dataset_tools.build import build
from pipeline import files as whole_files
from pipeline.errors import UserError
from raw_data import assert_one_line_mistake, run_command, write, write_inat2021

SCRIPT = "create_tfrecords.py"


def test_broken_manifest_is_told(tmp_path):
    write_inat2021(tmp_path / "raw")
    for content in (b"{", b"[]", b"{}"):
        write(tmp_path / "out/dataset.json", content)
        with pytest.raises(UserError, match="dataset.json is no manifest"):
            build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))


def test_nothing_usable_is_told(tmp_path):
    write_inat2021(tmp_path / "raw")
    for path in (tmp_path / "raw").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no usable picture"):
        build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert not (tmp_path / "out/dataset.json").exists()


@pytest.mark.parametrize("flags, words", [
    (["--competition=inat2022"], ["inat2022", "inat2021", "folder", "demo"]),
    (["--competition=folder"], ["no pictures"]),
    (["--competition=inat2021"], ["train.json"]),
    (["--competition=folder", "--shard_mib=0"], ["--shard_mib"]),
    (["--competition=folder", "--max_side=-1"], ["--max_side"]),
    (["--competition=folder", "--short_side=-1"], ["--short_side"]),
    (["--competition=folder", "--short_side=64", "--max_side=90"], ["--max_side=90", "--short_side=64"]),
    (["--competition=folder", "--workers=-2"], ["--workers"]),
    (["--competition=folder", "--wrong=1"], ["wrong"]),
    ([], ["--competition"]),
])
def test_mistakes_end_in_one_line(tmp_path, flags, words):
    (tmp_path / "raw").mkdir()
    done = run_command(SCRIPT, f"--data_dir={tmp_path / 'raw'}", f"--out_dir={tmp_path / 'out'}", *flags)
    assert_one_line_mistake(done, *words)


def test_json_without_images_ends_in_one_line(tmp_path):
    write(tmp_path / "train2018.json", {"annotations": [], "categories": []})
    done = run_command(SCRIPT, "--competition=inat2018", f"--data_dir={tmp_path}", f"--out_dir={tmp_path / 'out'}")
    assert_one_line_mistake(done, "train2018.json", "categories")
    write(tmp_path / "train2018.json", {"annotations": [], "categories": [{"id": 1, "name": "x"}]})
    done = run_command(SCRIPT, "--competition=inat2018", f"--data_dir={tmp_path}", f"--out_dir={tmp_path / 'out'}")
    assert_one_line_mistake(done, "train2018.json", "'images'")


def test_shard_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    write_inat2021(tmp_path / "raw", train=3)
    monkeypatch.setattr(whole_files.uuid, "uuid4", lambda: uuid.UUID(int=0))
    (tmp_path / "out/val.tfrecord-00000-of-00001.00000000.tmp/x").mkdir(parents=True)  # a folder in the file's place
    with pytest.raises(UserError, match="val.tfrecord"):
        build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert not (tmp_path / "out/dataset.json").exists()


def test_out_dir_that_is_a_file(tmp_path):
    write_inat2021(tmp_path / "raw", train=3)
    write(tmp_path / "out", b"")
    with pytest.raises(UserError, match="can't make the folder"):
        build("inat2021", str(tmp_path / "raw"), str(tmp_path / "out"))
