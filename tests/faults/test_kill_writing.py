"""create_tfrecords.py, killed at any moment and started again: the shards of an undisturbed run, and no manifest before."""

import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from dataset_tools import build, manifest, shard_writer
from pipeline.records import dataset
import raw_data
import tiny_records

SEED = 7


def digests(folder) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())
            if not path.name.startswith(".")}


def write_raw(folder: pathlib.Path, train: int) -> pathlib.Path:
    """Pictures of 150 kB, so that shards of 1 MiB hold seven."""
    raw = tiny_records.write_raw(folder, train=train, val=4, test=2)
    rng = random.Random(SEED)
    for path in raw.glob("train/*.jpg"):
        path.write_bytes(raw_data.encode(raw_data.np.frombuffer(rng.randbytes(330 * 300 * 3), "u1").reshape(330, 300, 3),
                                         quality=92))
    return raw


class Stopped(BaseException):
    """As sudden as a kill, to whoever catches exceptions alone."""


def test_what_stands_is_not_written_again(tmp_path, monkeypatch):
    """The third shard's writing is stopped; the second run writes that and what follows, from the same folds."""
    raw = write_raw(tmp_path / "raw", train=24)
    build.build("inat2021", str(raw), str(tmp_path / "whole"), shard_mib=1, folds=2)
    written = []
    write_shard = shard_writer.write_shard

    def stopped_at_the_third(task):
        if len(written) == 2:
            raise Stopped
        written.append(task.planned.file)
        return write_shard(task)

    with monkeypatch.context() as patched:
        patched.setattr(shard_writer, "write_shard", stopped_at_the_third)
        with pytest.raises(Stopped):
            build.build("inat2021", str(raw), str(tmp_path / "out"), shard_mib=1, folds=2)
    assert not (tmp_path / "out/dataset.json").exists() and (tmp_path / "out/folds.written.json").exists()
    stamps = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in written}
    with monkeypatch.context() as patched:
        patched.setattr("dataset_tools.folds.divide", lambda *_: pytest.fail("the pictures are compared again"))
        build.build("inat2021", str(raw), str(tmp_path / "out"), shard_mib=1, folds=2)
    assert stamps == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in written}
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


@pytest.mark.parametrize("change", ["shard", "note", "flags", "picture"])
def test_what_is_not_of_the_same_run_is_written_again(tmp_path, monkeypatch, change):
    raw = write_raw(tmp_path / "raw", train=14)
    (raw / "train/3.jpg").rename(raw / "3.jpg")
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            build.build("inat2021", str(raw), str(tmp_path / "out"), shard_mib=1)
    shard = tmp_path / "out/val.tfrecord-00000-of-00001"
    if change == "shard":
        shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    elif change == "note":
        note = tmp_path / f"{shard}.written.json"
        note.write_text(json.dumps({**json.loads(note.read_text()), "found": {"shard": [1], "rejected": 3}}))
    elif change == "picture":
        (raw / "3.jpg").rename(raw / "train/3.jpg")
    side = 20 if change == "flags" else 0
    for out in ("out", "whole"):
        build.build("inat2021", str(raw), str(tmp_path / out), shard_mib=1, max_side=side)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_what_was_left_after_the_manifest_goes(tmp_path, monkeypatch):
    raw = tiny_records.write_raw(tmp_path / "raw", train=6, val=2, test=1)
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "_tidy", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            build.build("inat2021", str(raw), str(tmp_path / "out"))
    for out in ("out", "whole"):
        build.build("inat2021", str(raw), str(tmp_path / out))
    assert digests(tmp_path / "out") == digests(tmp_path / "whole") and "unfinished.json" not in digests(tmp_path / "out")


def start(raw, out) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(raw_data.REPOSITORY / "create_tfrecords.py"), "--competition=inat2021",
                             f"--data_dir={raw}", f"--out_dir={out}", "--shard_mib=1", "--workers=2", "--folds=2"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def kill_and_go_on(tmp_path, kills: int, train: int) -> None:
    """Kills so many times, at moments between two shards and within them, then lets it finish."""
    raw = write_raw(tmp_path / "raw", train)
    assert start(raw, tmp_path / "whole").wait(600) == 0
    out, rng = tmp_path / "out", random.Random(SEED)
    shards = len(list((tmp_path / "whole").glob("*.tfrecord-*")))
    for number in range(kills):
        running = start(raw, out)
        wanted = shards * number // (kills + 1)  # so many stand before this one is killed
        while running.poll() is None and len(list(out.glob("*.written.json"))) <= wanted:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.2)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(60)
        if (out / "dataset.json").exists():
            dataset.load(str(out)).part("train").check()
    assert start(raw, out).wait(600) == 0
    assert digests(out) == digests(tmp_path / "whole")


@pytest.mark.slow
def test_killed_twice(tmp_path):
    kill_and_go_on(tmp_path, 2, 60)


@pytest.mark.soak
def test_killed_ten_times(tmp_path):
    kill_and_go_on(tmp_path, 10, 200)
