"""benchmarks/auto.py without its hours of training: what it asks of run.py, what it keeps, what it tells."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import scipy.stats

from raw_data import REPOSITORY, assert_one_line_mistake

# Its flags are names that other mains define too: it is asked in a process of its own, once. In place of run.py stands what
# writes a run's scores.
ASKED = """
import json, os, sys
from benchmarks import auto, reduced_sets
auto.FLAGS(["auto", "--sizes=5", "--model=kecam/BeitTiny", "--folds=2", "--seeds=3"])
asked, scores = [], json.load(sys.stdin)

def stand_in(script, *given):
    asked.append([script, *given])
    seed = len(asked) - 1
    if scores[seed] is None:
        return 1
    run_dir = given[2]
    probe, small = (os.path.join(run_dir, "models", name, "out_of_fold") for name in ("probe", "small"))
    first = os.path.join(run_dir, "models", "small", "probe", "out_of_fold")
    os.makedirs(run_dir)
    with open(os.path.join(run_dir, "scores.json"), "w") as file:
        blend, alone, tuned, flipped = scores[seed]
        json.dump({"top1": blend, "examples": 50, "weights": {probe: 0.25, small: 0.75}, "probe": {first: {"top1": flipped}},
                   "lines": {probe: {"top1": alone}, small: {"top1": tuned}, "mean": {"top1": 0.0}}}, file)
    return 0

reduced_sets.run = stand_in
assert auto.carry_out({"a": ""}, os.getcwd(), 0.0) and auto.carry_out({"a": ""}, os.getcwd(), 0.0)
print(json.dumps(asked))
auto.tell(reduced_sets.results("results.csv", auto.COLUMNS))
"""
BLENDS, PROBES, TUNED, FIRST = (0.9, 0.7), (0.8, 0.72), (0.85, 0.6), (0.82, 0.71)  # of seeds 0 and 2; 1 fails


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(what it asked, the lines of its table, its results.csv, its folder)"""
    folder = tmp_path_factory.mktemp("auto")
    first, last = zip(BLENDS, PROBES, TUNED, FIRST)
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=folder, capture_output=True, text=True, timeout=300,
                          input=json.dumps([first, None, last]), env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False)
    assert done.returncode == 0, done.stderr
    asked, *lines = done.stdout.splitlines()
    return json.loads(asked), lines, pd.read_csv(folder / "results.csv"), folder


def test_each_seed_is_one_run_that_a_user_could_type(told):
    asked, _, table, folder = told
    assert [one[0] for one in asked] == ["run.py"] * 3 and list(table["seed"]) == [0, 1, 2]  # none a second time
    for seed, one in enumerate(asked):
        assert one[1:4] == ["table", str(folder / "a" / "pictures"), str(folder / "run")]
        assert {f"--table={folder / 'a' / '5'}/table_{seed}.csv", "--recipes=auto", f"--record_seed={seed}", "--folds=2",
                f"--train_flags=--model=kecam/BeitTiny --random_seed={seed}"} <= set(one)
    assert not (folder / "run").exists()


def test_the_gain_over_the_probe_has_its_interval(told):
    _, lines, _, _ = told
    gains = [blend - probe for blend, probe in zip(BLENDS, PROBES)]
    low, high = scipy.stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    cells = lines[2].strip("| ").split(" | ")
    assert cells[:10] == ["a, 5", "50", "2", "0.765", "0.760", "0.725", "0.800", "+0.040", f"{low:+.3f} to {high:+.3f}", "-0.020"]
    assert lines[3] == "no score: a, 5, seed 1: exit code 1"


@pytest.mark.parametrize("flags, words", [((), ("--data_dir",)), (("--data_dir=inat2019:x", "--sizes=1"), ("--sizes=1",))])
def test_mistakes_take_one_line(flags, words):
    done = subprocess.run([sys.executable, "-m", "benchmarks.auto", *flags], cwd=REPOSITORY, capture_output=True,
                          text=True, timeout=300, check=False)
    assert_one_line_mistake(done, *words)
