"""Where there is no room, or nothing may be written: one line that names the file, what stood before is whole, and with room
the same command completes.

A small disk is a tmpfs of 20 MB where one may be mounted; a bound on the size of a file, and /dev/full, stand in for it
everywhere.
"""

import contextlib
import hashlib
import os
import pathlib
import random
import resource
import subprocess

import numpy as np
import pytest

from dataset_tools import build
from pipeline import command
from pipeline.errors import UserError, WorkError
import predicted_data
import raw_data
import tiny_records

TINY = ("--model=kecam/EfficientNetV2Tiny", "--batch_size=10", "--optimizer=sgd")


def digests(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()}


@pytest.fixture
def small_disk(tmp_path):
    """A folder with 20 MB of room; `mount -o remount` gives it more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(("remount", *options)), str(folder)], check=True)


def fill(folder, leave: int) -> pathlib.Path:
    """A file that leaves so many bytes of room."""
    room = os.statvfs(folder)
    path = pathlib.Path(folder) / "filler"
    path.write_bytes(bytes(room.f_bavail * room.f_frsize - leave))
    return path


@contextlib.contextmanager
def files_of_at_most(size: int):
    """No file becomes larger: what a process writes beyond fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_large_raw(folder, pictures: int) -> pathlib.Path:
    """Pictures of 300 kB and more."""
    raw = tiny_records.write_raw(folder, train=pictures, val=4, test=2)
    rng = random.Random(0)
    for path in raw.glob("train/*.jpg"):
        noise = np.frombuffer(rng.randbytes(450 * 450 * 3), "u1").reshape(450, 450, 3)
        path.write_bytes(raw_data.encode(noise, quality=98))
    return raw


@pytest.mark.slow
def test_records_on_a_small_disk(small_disk, tmp_path):
    raw = write_large_raw(tmp_path / "raw", 90)
    build.build("inat2021", str(raw), str(tmp_path / "whole"), shard_mib=4)
    flags = ("--competition=inat2021", f"--data_dir={raw}", f"--out_dir={small_disk}/out", "--shard_mib=4")
    done = raw_data.run_command("create_tfrecords.py", *flags, "--workers=2")
    raw_data.assert_one_line(done, 3, f"{small_disk}/out/", "No space left")
    there = {path.name for path in (small_disk / "out").iterdir()}
    assert "dataset.json" not in there and not any(name.endswith(".tmp") for name in there)
    stood = {name for name in there if name.endswith(".written.json")}
    assert stood and len(stood) < len(list((tmp_path / "whole").glob("*.tfrecord-*")))
    remount(small_disk, "size=60m")
    done = raw_data.run_command("create_tfrecords.py", *flags, "--workers=1")
    assert done.returncode == 0 and f"{len(stood)} of " in done.stderr, done.stderr
    whole, found = digests(tmp_path / "whole"), digests(small_disk / "out")
    assert found == whole


@pytest.mark.slow
def test_a_model_on_a_small_disk(small_disk, tiny_data):
    train = ("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={small_disk}/m", *TINY,
             "--stage=name=a,epochs=1,size=32,lr=0.01", "--stage=name=b,epochs=1,size=32,lr=0.01")
    filler = fill(small_disk, 1 << 20)  # for a stage's two checkpoints, and not for two stages'
    done = raw_data.run_command(*train)
    raw_data.assert_one_line(done, 3, "")
    assert "space" in done.stderr.splitlines()[-1] or "resource" in done.stderr.splitlines()[-1].lower(), done.stderr
    assert not (small_disk / "m/in_use.json").exists()
    stage = small_disk / "m/stage_1_a"
    assert (stage / "DONE").exists() and not (small_disk / "m/stage_2_b/DONE").exists()
    before = digests(stage)
    filler.unlink()
    done = raw_data.run_command(*train)
    assert done.returncode == 0 and "stage a is finished already" in done.stderr, done.stderr
    assert digests(stage) == before and (small_disk / "m/stage_2_b/DONE").exists()


def test_folders_that_may_not_be_written_to(small_disk, tmp_path, monkeypatch):
    """Root may write anywhere but on a disk that is mounted for reading."""
    raw = tiny_records.write_raw(tmp_path / "raw", train=6, val=2, test=1)
    build.build("inat2021", str(raw), str(small_disk / "out"))
    data = predicted_data.make_dataset(tmp_path / "records", [0, 1, 2])
    predicted_data.write_predictions(small_disk / "p", data, predicted_data.random_logs(3))
    before = digests(small_disk)
    remount(small_disk, "ro")
    assert build.build("inat2021", str(raw), str(small_disk / "out")).rejected == 0  # nothing is to be written
    for work, path in ((lambda: build.build("inat2021", str(raw), str(small_disk / "new")), f"{small_disk}/new"),
                       (lambda: predicted_data.write_predictions(small_disk / "p", data, predicted_data.random_logs(3)),
                        f"{small_disk}/p/")):
        monkeypatch.setattr(command, "_work_has_begun", False)
        with pytest.raises((OSError, UserError)) as raised:
            work()
        code, line = command.outcome(raised.value)
        assert (code, path in line, "Read-only" in line) == (2, True, True), line
    remount(small_disk, "rw")
    assert digests(small_disk) == before


def test_a_bound_on_the_size_of_files(tmp_path):
    """Of records, and of predictions: those of before stay, what was begun goes, and without the bound all is written."""
    raw = write_large_raw(tmp_path / "raw", 8)
    build.build("inat2021", str(raw), str(tmp_path / "whole"))
    with files_of_at_most(1 << 20), pytest.raises(UserError) as raised:
        build.build("inat2021", str(raw), str(tmp_path / "out"))
    assert command.outcome(raised.value)[1].startswith(f"can't write {tmp_path}/out/train.tfrecord-00000-of-00001")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"unfinished.json"}
    build.build("inat2021", str(raw), str(tmp_path / "out"))
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")

    data = predicted_data.make_dataset(tmp_path / "records", [0, 1, 2] * 3000)
    predicted_data.write_predictions(tmp_path / "p", data, predicted_data.random_logs(9000))
    before = digests(tmp_path / "p")
    with files_of_at_most(1 << 14), pytest.raises(OSError) as raised:
        predicted_data.write_predictions(tmp_path / "p", data, predicted_data.random_logs(9000, seed=1))
    code, line = command.outcome(raised.value)
    assert code == 3 and f"{tmp_path}/p/log_probabilities.npy" in line
    assert digests(tmp_path / "p") == before


@pytest.mark.parametrize("what", ["data", "picture"])
def test_input_that_vanishes(tmp_path, monkeypatch, what):
    """Between the table's reading and the pictures': a picture is set aside; where the folder is gone that is told, and
    the run goes on when it has come back."""
    from dataset_tools import shard_writer

    raw = tiny_records.write_raw(tmp_path / "raw", train=6, val=2, test=1)
    make_tasks = shard_writer.make_tasks

    def vanishing(*args):
        (raw.rename(tmp_path / "gone") if what == "data" else (raw / "train/1.jpg").unlink())
        return make_tasks(*args)

    monkeypatch.setattr(shard_writer, "make_tasks", vanishing)
    if what == "picture":
        assert build.build("inat2021", str(raw), str(tmp_path / "out")).rejected == 1
        return
    with pytest.raises(WorkError, match=f"data folder {raw} was changed while it was read, or is gone"):
        build.build("inat2021", str(raw), str(tmp_path / "out"))
    assert not (tmp_path / "out/dataset.json").exists()
    monkeypatch.undo()
    (tmp_path / "gone").rename(raw)
    for out in ("out", "whole"):
        assert build.build("inat2021", str(raw), str(tmp_path / out)).rejected == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
