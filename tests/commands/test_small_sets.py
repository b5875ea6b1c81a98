"""benchmarks/small_sets.py without its hours of training: what it draws, what it asks of the commands, what it tells."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from raw_data import REPOSITORY, assert_one_line_mistake

# Its flags are names that other mains define too: it is asked in a process of its own, once.
ASKED = """
import io, json, sys
import pandas as pd
from benchmarks import reduced_sets, small_sets
small_sets.FLAGS(["small_sets", "--size=64", "--model=kecam/EfficientNetV2Tiny", "--sizes=5,all"])
several = [[0], [0, 1], [1], [], [2], [0], [0], [2]] * 5
drawn = {count: reduced_sets.draw(several, count, 1).tolist() for count in (1, 3, 1000)}
drawn["all"] = reduced_sets.draw(several, None, 1).tolist()
arguments = {name: small_sets.arguments(one) for name, one in [("probe", None), *small_sets.CANDIDATES.items()]}
for seed, name, scores in json.load(sys.stdin):
    for size, score in zip(("5", "all"), scores):
        reduced_sets.note("results.csv", small_sets.COLUMNS, {"set": "a", "size": size, "candidate": name, "seed": seed,
                          "metric": "top1", "score": score, "minutes": 1.5, "pictures": 10,
                          "problem": "" if score else "exit code 3"})
table = reduced_sets.results("results.csv", small_sets.COLUMNS)
trained = []
small_sets.train = lambda records, candidate, seed, model_dir: trained.append((candidate, seed)) or {
    "metric": "top1", "score": 0.5, "minutes": 1.0, "pictures": 10, "problem": ""}
assert small_sets.carry_out({"a": ""}, ".", small_sets.work({"a": ""}, ["base", "crop"], [0, 9]), 0.0)
print(json.dumps({"drawn": drawn, "arguments": arguments, "best": list(small_sets.gains(table, [0]).index), "trained": trained}))
small_sets.tell(table)
"""
# (seed, candidate, scores of 5 a class and of all)
ROWS = [(0, "probe", (0.5, 0.7)), (0, "base", (0.55, 0.8)), (0, "crop", (0.45, 0.9)), (0, "mixup 0.2", (0.9, None)),
        (1, "base", (0.6, 0.81)), (2, "base", (0.5, 0.86))]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(what it answered, the lines of its table, its results.csv)"""
    folder = tmp_path_factory.mktemp("small_sets")
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=folder, capture_output=True, text=True, timeout=300,
                          input=json.dumps(ROWS), env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    return json.loads(first), lines, pd.read_csv(folder / "results.csv")


def test_each_class_has_so_many_pictures(told):
    labels = [[0], [0, 1], [1], [], [2], [0], [0], [2]] * 5
    for count, wanted in (("1", 1), ("3", 3)):
        counts = np.bincount([one for position in told[0]["drawn"][count] for one in labels[position]])
        assert (counts >= wanted).all() and counts[2] == wanted
    assert told[0]["drawn"]["all"] == told[0]["drawn"]["1000"] == [position for position, one in enumerate(labels) if one]


def test_one_setting_changes_at_a_time(told):
    arguments = told[0]["arguments"]
    base = arguments["base"]
    assert base[1:] == ["--stage=name=head,epochs=2,size=64,lr=1e-3,train=head",
                        "--stage=name=all,epochs=10,size=64,lr=3e-4,train=all,warmup_epochs=0.5"]
    assert arguments["crop"] == [*base, "--augment=crop", "--eval_resize=short:73"]
    assert arguments["probe first"][1] == "--stage=name=head,size=64,train=probe"
    assert arguments["probe"][1:] == ["--stage=name=probe,size=64,train=probe", "--stage=name=head,epochs=0,size=64,lr=0",
                                      "--stage=name=all,epochs=0,size=64,lr=0"]
    for name, given in arguments.items():
        changed = [one for one in given if one not in base]
        assert (name == "base") == (not changed)


def test_what_stands_is_not_trained_again_and_the_best_are_those_that_gain_most(told):
    answers, lines, table = told
    assert answers["best"] == ["base", "crop", "probe"]  # one without a score somewhere is not compared
    assert answers["trained"] == [["base", 9], ["base", 9], ["crop", 9], ["crop", 9]] and len(table) == 2 * len(ROWS) + 4
    assert lines[0] == "| candidate | a, 5 | a, all | mean gain | least gain | minutes |"
    assert lines[2] == "| base | 0.550 | 0.800 | +0.075 | +0.050 | 3.0 |"
    means = np.array([0.075, 0.105, 0.08])
    low, high = scipy.stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert f"base: 3 seeds, mean gain over the probe {means.mean():+.4f}, 95 % interval {low:+.4f} to {high:+.4f}" in lines


@pytest.mark.parametrize("flags, words", [
    ((), ("--data_dir",)), (("--data_dir=inat2019",), ("--data_dir=inat2019", "COMPETITION:FOLDER")),
    (("--data_dir=inat2019:x", "--sizes=some"), ("--sizes=some",))])
def test_mistakes_take_one_line(flags, words):
    done = subprocess.run([sys.executable, "-m", "benchmarks.small_sets", *flags], cwd=REPOSITORY, capture_output=True,
                          text=True, timeout=300, check=False)
    assert_one_line_mistake(done, *words)
