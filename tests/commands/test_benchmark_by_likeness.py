"""benchmarks/by_likeness.py without its hours of training: what it asks of the commands, what it keeps, what it tells."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from raw_data import REPOSITORY, assert_one_line_mistake

# Its flags are names that other mains define too: it is asked in a process of its own, once. In place of the commands stands what
# writes their results: top-1 is 0.5, 0.1 more with neighbours, 0.01 more with every run; 7 new ones, 5 of them other folds'.
ASKED = """
import json, os
from benchmarks import by_likeness, reduced_sets
by_likeness.FLAGS(["by_likeness", "--seeds=2", "--weights=/w.h5"])
asked = []

def stand_in(script, *given):
    asked.append([script, *given])
    flags = dict(one[2:].split("=", 1) for one in given)
    if script == "multi_stage_train.py":
        for fold in range(2):
            os.makedirs(os.path.join(flags["model_dir"], f"fold_{fold}"))
            with open(os.path.join(flags["model_dir"], f"fold_{fold}", "result.json"), "w") as file:
                json.dump({"minutes": 1.25}, file)
        os.makedirs(os.path.join(flags["model_dir"], "strangers"))
    if script == "evaluate.py":
        places = [one.split("=", 1)[1] for one in given if one.startswith("--predictions=")]
        top1 = 0.5 + 0.1 * (len(places) > 1) + 0.01 * sum(one[0] == "multi_stage_train.py" for one in asked)
        others = os.path.exists(os.path.join(os.path.dirname(flags["out"]), "strangers"))
        of = lambda value: dict.fromkeys(by_likeness.KINDS, value)
        with open(flags["out"], "w") as file:
            rules = {"first": of(0.6), "sum": of(0.0), "fit: threshold:0.4 (cross-fitted)": of(0.7)}
            json.dump({"top1": top1, "examples": 40, "weights": {one: 0.5 for one in places},
                       "open_set": {"fit": {"rule": "threshold:0.4"}, "rules": rules,
                                    "pictures": {"unseen strangers": 7 if others else 2}}}, file)
    return 0

reduced_sets.run = stand_in
for _ in range(2):
    by_likeness.carry_out("records", os.getcwd(), ["recipe", "gem"])
print(json.dumps(asked))
by_likeness.tell(reduced_sets.results("results.csv", by_likeness.COLUMNS))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(what it asked, the lines of its table, its results.csv)"""
    folder = tmp_path_factory.mktemp("by_likeness")
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=folder, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False)
    assert done.returncode == 0, done.stderr
    asked, *lines = done.stdout.splitlines()
    return json.loads(asked), lines, pd.read_csv(folder / "results.csv")


def test_each_is_trained_once_by_folds_that_know_strangers(told):
    asked, _, table = told
    trained = [one for one in asked if one[0] == "multi_stage_train.py"]
    assert [("--pool=gem" in one, "--random_seed=1" in one) for one in trained] == [
        (False, False), (True, False), (False, True), (True, True)]
    assert all({"--fold=all", "--hold_out_classes=0.2", "--weights=/w.h5"} <= set(one) for one in trained)
    blended = [one for one in asked if one[0] == "evaluate.py" and sum(flag.startswith("--predictions=") for flag in one) == 2]
    near = [one for one in asked if one[0] == "predict.py"]
    assert len(blended) == len(near) == 4 and all("--blend=oof" in one for one in blended)
    assert {flag.replace("--out=", "--predictions=") for one in near for flag in one if "out=" in flag} <= set(blended[0])
    assert list(table["candidate"]) == [name + ending for name in ("recipe", "gem")
                                        for ending in ("", ", fewer strangers", " + neighbours")] * 2
    assert list(table["pictures of unseen strangers"]) == [7, 2, 2] * 4
    assert set(table["minutes"]) == {2.5} and set(table["rule"]) == {"threshold:0.4"}
    assert set(table["known"]) == {0.6} and set(table["unseen strangers, fitted"]) == {0.7}


def test_what_is_gained_over_the_recipe_is_told_by_seed(told):
    _, lines, _ = told
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines[2:]}
    assert rows["recipe"][:2] == ["2", "0.520"] and rows["gem"][:3] == ["2", "0.530", "0.600"]  # 0.51, 0.53; 0.52, 0.54
    gain = lines[lines.index(next(line for line in lines if line.startswith("| gem |"))) + 1]
    assert gain.startswith("| gain | 2 | +0.010 ± 0.000 | +0.000 ± 0.000 |")
    assert [line.split(" | ")[2] for line in lines if line.startswith("| gain")] == ["+0.100 ± 0.000", "+0.010 ± 0.000",
                                                                                   "+0.100 ± 0.000"]


@pytest.mark.parametrize("flags, words", [((), ("--data_dir",)), (("--data_dir=x", "--candidates=gam"), ("--candidates", "'gam'"))])
def test_mistakes_take_one_line(flags, words):
    done = subprocess.run([sys.executable, "-m", "benchmarks.by_likeness", *flags], cwd=REPOSITORY, capture_output=True,
                          text=True, timeout=300, check=False)
    assert_one_line_mistake(done, *words)
