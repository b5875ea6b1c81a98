"""Two runs in one folder: the second is told who is there, and one that is gone is told and its place taken."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from pipeline import lock
from pipeline.errors import UserError
import raw_data
import tiny_records


def holder(folder) -> dict:
    return json.loads((folder / "in_use.json").read_text())


def write_lock(folder, age_seconds: float = 0.0, **changes) -> None:
    """A lock of this process, changed."""
    with lock.held(str(folder)):
        told = holder(folder)
    (folder / "in_use.json").write_text(json.dumps({**told, **changes}))
    then = time.time() - age_seconds
    os.utime(folder / "in_use.json", (then, then))


def dead_process() -> int:
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def test_it_is_held_for_the_block_alone(tmp_path):
    with lock.held(str(tmp_path / "a")):
        assert holder(tmp_path / "a")["pid"] == os.getpid()
        assert holder(tmp_path / "a")["host"].startswith(socket.gethostname())
        with pytest.raises(UserError, match=rf"{tmp_path}/a is in use by .* \(process {os.getpid()} on .* since 2"):
            with lock.held(str(tmp_path / "a")):
                pass
    assert not list((tmp_path / "a").iterdir())
    with pytest.raises(ZeroDivisionError), lock.held(str(tmp_path / "a")):
        1 / 0
    assert not list((tmp_path / "a").iterdir())


@pytest.mark.parametrize("changes, age, taken", [
    ({"pid": "dead"}, 0, True),
    ({"began": "another boot 1"}, 0, True),        # the number is another process's by now
    ({"began": ""}, 10_000, False),                # it runs, and the system did not tell since when
    ({"host": "elsewhere x"}, 60, False),
    ({"host": "elsewhere x"}, 700, True),
    ({"pid": "a text"}, 60, False),
    ({"pid": "a text"}, 700, True),
])
def test_what_is_stale(tmp_path, caplog, changes, age, taken):
    changes = {**changes, **({"pid": dead_process()} if changes.get("pid") == "dead" else {})}
    write_lock(tmp_path, age, **changes)
    if taken:
        with lock.held(str(tmp_path)):
            assert holder(tmp_path)["pid"] == os.getpid()
        assert "is gone: taken over" in caplog.text
        return
    with pytest.raises(UserError, match="in use by"), lock.held(str(tmp_path)):
        pass
    assert (tmp_path / "in_use.json").exists()


def test_it_is_touched_and_another_ones_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "TOUCH_SECONDS", 0.01)
    with lock.held(str(tmp_path)):
        os.utime(tmp_path / "in_use.json", (1, 1))
        until = time.monotonic() + 10
        while (tmp_path / "in_use.json").stat().st_mtime < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert (tmp_path / "in_use.json").stat().st_mtime > 2
        (tmp_path / "in_use.json").write_text(json.dumps({**holder(tmp_path), "token": "taken by another"}))
    assert holder(tmp_path)["token"] == "taken by another"


def test_one_on_a_remote_store():
    import tensorflow as tf

    folder = "ram://held/here"
    with lock.held(folder):
        with pytest.raises(UserError, match="in use"), lock.held(folder):
            pass
    with lock.held(folder):
        assert tf.io.gfile.exists(f"{folder}/in_use.json")
    assert not tf.io.gfile.exists(f"{folder}/in_use.json")


def test_of_many_that_find_a_stale_one_one_has_it(tmp_path):
    """Processes of their own, which begin at once."""
    write_lock(tmp_path, pid=dead_process())
    code = ("import sys, time; from pipeline import lock\nfrom pipeline.errors import UserError\n"
            "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
            "try:\n with lock.held(sys.argv[1]):\n  time.sleep(2); print('held')\nexcept UserError: print('refused')")
    at = str(time.time() + 2)
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), at], cwd=raw_data.REPOSITORY, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(6)]
    told = sorted(one.communicate(timeout=60)[0].strip() for one in running)
    assert told == ["held"] + ["refused"] * 5


@pytest.mark.slow
def test_a_second_command_is_refused_and_after_a_kill_the_next_one_goes_on(tiny_data, tmp_path):
    raw = tiny_records.write_raw(tmp_path / "raw", train=6, val=2, test=1)
    (tmp_path / "out").mkdir()
    write_lock(tmp_path / "out")
    done = raw_data.run_command("create_tfrecords.py", "--competition=inat2021", f"--data_dir={raw}",
                                f"--out_dir={tmp_path}/out")
    raw_data.assert_one_line_mistake(done, f"{tmp_path}/out is in use by", f"process {os.getpid()}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["in_use.json"]
    train = [sys.executable, str(raw_data.REPOSITORY / "multi_stage_train.py"), f"--data_dir={tiny_data.directory}",
             f"--model_dir={tmp_path}/m", "--model=kecam/EfficientNetV2Tiny", "--batch_size=10",
             "--stage=name=all,epochs=300,size=32,lr=0.01,train=all"]
    first = subprocess.Popen(train, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (tmp_path / "m" / "in_use.json").exists():
        assert first.poll() is None
        time.sleep(0.1)
    second = subprocess.run(train, capture_output=True, text=True, timeout=200)
    raw_data.assert_one_line_mistake(second, f"{tmp_path}/m is in use by multi_stage_train.py (process {first.pid}")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(60)
    third = subprocess.run([*train, "--max_steps=1", "--stage=name=all,epochs=300,size=32,lr=0.01"], capture_output=True,
                           text=True, timeout=200)
    assert "is gone: taken over" in third.stderr and not (tmp_path / "m/in_use.json").exists()
