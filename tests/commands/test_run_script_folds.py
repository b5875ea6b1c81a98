"""Models by folds through the run scripts, on real if tiny networks: scores of what is there, and a submission always.

Slow: each process imports TensorFlow.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import tiny_records
from raw_data import REPOSITORY, assert_one_line, heed_interrupts

pytestmark = pytest.mark.slow

RECIPE = ("--model=kecam/EfficientNetV2Tiny\n--stage=name=all,epochs=1,size=32,lr=0.01,train=all\n--optimizer=adam\n"
          "--batch_size=10\n")
FLAGS = {"PYTHON": sys.executable, "GEO_PRIOR": "none", "FOLDS": "3"}


def run_script(folder, *recipes, code=0, **environment):
    """run_inference.sh of the recipes (their flags beside RECIPE's) in `folder`/run; stdout."""
    names = []
    for index, flags in enumerate(recipes):
        names.append(f"{folder}/m{index}.flags")
        (folder / f"m{index}.flags").write_text(RECIPE + "".join(f"{flag}\n" for flag in flags))
    done = subprocess.run(
        ["bash", str(REPOSITORY / "run_inference.sh"), "inat2021", str(folder / "raw"), str(folder / "run"),
         "--until=submission"],
        capture_output=True, text=True, timeout=900, check=False,
        env={**os.environ, **FLAGS, "RECIPES": " ".join(names), **environment})
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    tiny_records.write_raw(tmp_path / "raw", train=24, val=6, test=4)
    return tmp_path


def read(folder, name):
    return json.loads((folder / "run" / name).read_text())


def check_submission(folder):
    with open(folder / "run" / "submission.csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 1 + 4


def test_some_folds_beside_a_model_without(folder):
    told = run_script(folder, ["--fold=0:2"])
    assert told.splitlines()[-1].endswith("(of m0 (folds 0, 2 of 3))")
    check_submission(folder)
    held_out = [folder / "run" / "models" / "m0" / f"fold_{fold}" / "out_of_fold" / "ids.txt" for fold in (0, 2)]
    assert read(folder, "scores.json")["examples"] == sum(len(path.read_text().split()) for path in held_out)
    run_script(folder, ["--fold=0:2"], [])
    check_submission(folder)
    scores = read(folder, "scores.json")
    assert scores["examples"] == 6 and len(scores["weights"]) == 2 and scores["warnings"] == []  # on val, both of them
    assert [one["folds"] for one in read(folder, "submission.meta.json")["members"]] == [[0, 2], None]


def test_folds_of_all_that_has_labels(folder):
    run_script(folder, ["--fold=all", "--train_split=train+val", "--tta=flip"], ["--fold=all", "--train_split=train+val"])
    check_submission(folder)
    assert read(folder, "scores.json")["examples"] == 24  # val is in no fold
    told = read(folder, "submission.meta.json")
    assert told["blend"] == "oof" and sum(told["weights"].values()) == pytest.approx(1, abs=1e-3)
    assert [one["views"] for one in told["members"]] == ["flip", "none"]


def test_an_interrupted_run_goes_on(folder):
    """Ctrl-C, then kill, then to the end."""
    (folder / "m0.flags").write_text(RECIPE.replace("epochs=1", "epochs=300") + "--fold=all\n")
    command = ["bash", str(REPOSITORY / "run_inference.sh"), "inat2021", str(folder / "raw"), str(folder / "run"),
               "--until=submission"]
    environment = {**os.environ, **FLAGS, "RECIPES": f"{folder}/m0.flags"}
    last = folder / "run" / "models" / "m0" / "fold_0" / "stage_1_all" / "last"
    for number in (signal.SIGINT, signal.SIGTERM):
        before = set(last.glob("*"))
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
                                   start_new_session=True, preexec_fn=heed_interrupts)
        while not set(last.glob("*.index")) - before:
            assert running.poll() is None
            time.sleep(0.1)
        (os.killpg if number == signal.SIGINT else os.kill)(running.pid, number)  # a terminal's Ctrl-C is to all of them
        _, told = running.communicate(timeout=90)
        assert running.returncode == (75 if number == signal.SIGTERM else 128 + number)
        assert subprocess.run(["pgrep", "-g", str(running.pid)], capture_output=True, check=False).stdout == b""
        if number == signal.SIGINT:
            assert_one_line(subprocess.CompletedProcess([], running.returncode, "", told), 130, "interrupted")
    epochs = max(int(path.stem.split("-")[1]) for path in last.glob("ckpt-*.index"))
    assert epochs > 1
    # With fewer epochs it is another model than the one that was begun.
    run_script(folder, ["--fold=all"], code=2)
    shutil.rmtree(folder / "run" / "models" / "m0")
    run_script(folder, ["--fold=all"])
    check_submission(folder)
