"""environment.sh: when .venv is made, added to and made anew, told by a stand-in for Python that notes what it is asked."""

import os
import shutil
import subprocess

import pytest

from conftest import ROOT

COPIED = ("*.sh", "requirements*.txt")

# Makes an environment of itself; what is installed while the file `cut` stands beside its log is cut off.
PYTHON = """#!/bin/bash
case "$*" in
  -c*) exit 0 ;;
  --version) echo "Python 3.11.0" ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo made >> "{log}" ;;
  "-m pip install "*) echo "${{*: -3}}" >> "{log}"; if [[ -e "{log}.cut" ]]; then exit 1; fi ;;
  "-m pytest "*) echo tested >> "{log}" ;;
esac
"""
OWN = "--disable-pip-version-check --requirement requirements.txt"
FOR_TESTS = "requirements-test.txt --constraint requirements.txt"


@pytest.fixture
def checkout(tmp_path):
    """A folder of scripts and recipes alone, and a function that runs one and returns (exit code, what Python was asked)."""
    folder, log, programs = tmp_path / "checkout", tmp_path / "log", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for path in (path for pattern in COPIED for path in ROOT.glob(pattern)):
        shutil.copy(path, folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    (programs / "python3.11").write_text(PYTHON.format(log=log))
    (programs / "python3.11").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}

    def run(script, **more):
        log.write_text("")
        done = subprocess.run(["bash", str(folder / script)], capture_output=True, text=True, timeout=60, check=False,
                              env={**environment, "PATH": f"{programs}:{environment['PATH']}", **more})
        return done.returncode, log.read_text().splitlines()

    return folder, run


def test_the_tests_packages_are_added_by_the_tests_alone_and_once(checkout):
    _, run = checkout
    assert run("run_training.sh") == (0, ["made", OWN])
    assert run("run_inference.sh") == (0, [])
    assert run("run_tests.sh") == (0, [FOR_TESTS, "tested"])
    assert run("run_tests.sh") == (0, ["tested"])


def test_a_changed_requirement_makes_the_environment_anew(checkout):
    folder, run = checkout
    assert run("run_tests.sh") == (0, ["made", OWN, FOR_TESTS, "tested"])
    with open(folder / "requirements-test.txt", "a") as requirements:
        requirements.write("one-more\n")
    assert run("run_training.sh") == (0, [])
    assert run("run_tests.sh") == (0, [FOR_TESTS, "tested"])
    os.utime(folder / "requirements.txt")  # another branch and back: newer, and the same
    assert run("run_tests.sh") == (0, ["tested"])
    with open(folder / "requirements.txt", "a") as requirements:
        requirements.write("one-more\n")
    assert run("run_tests.sh") == (0, ["made", OWN, FOR_TESTS, "tested"])


def test_an_install_that_was_cut_off_is_made_again(checkout):
    folder, run = checkout
    cut = folder.parent / "log.cut"
    cut.touch()
    code, asked = run("run_tests.sh")
    assert code != 0 and asked == ["made", OWN]
    cut.unlink()
    assert run("run_training.sh") == (0, ["made", OWN])
    cut.touch()
    code, asked = run("run_tests.sh")
    assert code != 0 and asked == [FOR_TESTS]
    cut.unlink()
    assert run("run_tests.sh") == (0, [FOR_TESTS, "tested"])


def test_a_python_from_outside_is_used_as_it_is(checkout, tmp_path):
    folder, run = checkout
    assert run("run_tests.sh", PYTHON=str(tmp_path / "bin" / "python3.11")) == (0, ["tested"])
    assert not (folder / ".venv").exists()
