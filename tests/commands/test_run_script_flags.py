"""Which commands the run scripts give, told by a stand-in for Python that writes down what it is asked for."""

import os
import subprocess

import pytest

from raw_data import REPOSITORY


@pytest.fixture
def commands(tmp_path):
    """A function that runs a script and returns the lines of arguments that it gave to Python."""
    stand_in, log = tmp_path / "python", tmp_path / "log"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> "{log}"\n')
    stand_in.chmod(0o755)

    def run(script, competition, **environment):
        log.write_text("")
        done = subprocess.run(["bash", str(REPOSITORY / script), competition, str(tmp_path), f"{tmp_path}/ein Lauf"],
                              capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PYTHON": str(stand_in), **environment})
        assert done.returncode == 0, done.stderr
        return [line for line in log.read_text().splitlines() if line.split()[0].endswith(".py")]

    return run


def of(lines, script):
    return [line for line in lines if line.startswith(script)]


def test_a_geo_prior_is_trained_and_used_where_there_is_a_recipe(commands, tmp_path):
    lines = commands("run_inference.sh", "inat2019", GEO_PRIOR="my.flags",
                     PRIOR_FLAGS="--prior_correction=1 --geo_exponent=fit")
    prior = f"{tmp_path}/ein Lauf/geo_prior"
    (training,) = of(lines, "train_geo_prior.py")
    assert "--flagfile=my.flags --competition=inat2019" in training and f"--model_dir={prior}" in training
    assert lines.index(training) < lines.index(of(lines, "multi_stage_train.py")[0])
    for script in ("evaluate.py", "make_submission.py"):  # the same on top, so that the scores are the submission's
        (line,) = of(lines, script)
        assert f"--geo_prior={prior} --prior_correction=1 --geo_exponent=fit" in line


@pytest.mark.parametrize("competition, environment", [("turtle_recall", {}), ("inat2021", {"GEO_PRIOR": "none"}),
                                                      ("demo", {"GEO_PRIOR": "none"})])
def test_no_geo_prior_without_a_recipe_or_by_request(commands, competition, environment):
    lines = commands("run_inference.sh", competition, **environment)
    assert of(lines, "make_submission.py")
    assert not [line for line in lines if line.startswith("train_geo_prior.py") or "--geo_prior" in line]


def test_the_demos_test_pictures_are_scored_by_one_view_too(commands, tmp_path):
    lines = commands("run_inference.sh", "demo", GEO_PRIOR="my.flags")
    assert [("--tta=none" in line) for line in of(lines, "predict.py")] == [False, False, True]  # val, test, test
    val, test = of(lines, "evaluate.py")
    assert "--without_tta" not in val
    assert f"--without_tta={tmp_path}/ein Lauf/models/demo/predictions/test_one_view" in test
    assert "--geo_prior=" in test and "test_scores.json" in test
