"""environment.sh and .ci/run: when .venv is made, added to and made anew, told by a stand-in for Python that notes
what it is asked."""

import os
import shutil
import subprocess

import pytest

from conftest import ROOT

COPIED = ("*.sh", "requirements*.txt", "constraints*.txt")

# Makes an environment of itself; what is installed while the file `cut` stands beside its log is cut off, and one that can't
# have tensorflow-addons while `without` stands there.
PYTHON = """#!/bin/bash
case "$*" in
  -c*) echo {version} ;;
  --version) echo "Python {version}.0" ;;
  "-m venv "*) mkdir -p "$3/bin" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python" && echo made >> "{log}" ;;
  "-m pip install "*)
    echo "${{*: -3}}" >> "{log}"
    if [[ -e "{log}.cut" ]]; then exit 1; fi
    if [[ -e "{log}.without" ]] && grep -q ^tensorflow-addons "${{@: -3:1}}"; then
      echo "ERROR: No matching distribution found for tensorflow-addons" >&2; exit 1
    fi ;;
  "-m pytest "*)
    echo tested >> "{log}"
    echo "{version} was tested, beside ${{FIELDMARK_OTHER_LANE:-none}}"
    if [[ -e "{log}.fails{version}" ]]; then exit 1; fi
    if [[ -e "{log}.hangs{version}" ]]; then echo "$(cat "{log}.hangs{version}")"; sleep 60; fi ;;
esac
"""
OWN = "requirements.txt --constraint constraints.txt"
FOR_TESTS = "requirements-test.txt --constraint constraints.txt"
MODERN, MODERN_FOR_TESTS = (one.replace(".txt --", f"{infix}.txt --").replace("constraints.txt", "constraints-modern.txt")
                            for one, infix in ((OWN, "-modern"), (FOR_TESTS, "")))
OTHERS = ("python3.10", "python3.12", "python3.13", "python3", "python", "pyenv")  # none of which this machine shall lend


OURS = ("PYTHON", "LANE", "FIELDMARK_VENV", "FIELDMARK_OTHER_LANE")


@pytest.fixture
def checkout(tmp_path):
    """A folder of scripts and recipes alone, and a function that runs one and returns (exit code, what Python was asked)."""
    folder, log, programs = tmp_path / "checkout", tmp_path / "log", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for path in (path for pattern in COPIED for path in ROOT.glob(pattern)):
        shutil.copy(path, folder)
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    shutil.copytree(ROOT / "configs", folder / "configs")
    environment = {name: value for name, value in os.environ.items() if name not in OURS}

    def has(*versions):
        """These Pythons alone."""
        for name in ("python3.11", *OTHERS):
            found = name.removeprefix("python") in versions
            text = PYTHON.format(log=log, version=name.removeprefix("python")) if found else "#!/bin/bash\nexit 127\n"
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)

    has("3.11")

    def run(script, **more):
        log.write_text("")
        done = subprocess.run(["bash", str(folder / script)], capture_output=True, text=True, timeout=60, check=False,
                              env={**environment, "PATH": f"{programs}:{environment['PATH']}", **more})
        run.told, run.said = done.stderr, done.stdout
        return done.returncode, log.read_text().splitlines()

    run.has = has
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


def test_the_lane_is_that_of_the_python_that_is_found(checkout):
    folder, run = checkout
    run.has("3.13")
    assert run("run_tests.sh") == (0, ["made", MODERN, MODERN_FOR_TESTS, "tested"])
    run.has("3.12", "3.10")
    assert run("run_training.sh") == (0, [])  # an environment that stands keeps its lane
    assert run("run_training.sh", LANE="pinned") == (0, ["made", OWN])
    assert run("run_training.sh", LANE="modern") == (0, ["made", MODERN])
    shutil.rmtree(folder / ".venv")
    assert run("run_training.sh") == (0, ["made", OWN])


def test_without_a_python_of_the_lane(checkout):
    folder, run = checkout
    assert run("run_training.sh", LANE="modern") == (2, [])
    assert run.told == ("no Python for the modern lane found (pinned: 3.11, 3.10; modern: 3.13, 3.12); install one, or set "
                        "PYTHON=…\n")
    assert run("run_training.sh", LANE="fast") == (2, [])
    assert run.told == "LANE=fast is unknown; there are: pinned, modern\n"
    run.has()
    assert run("run_training.sh") == (2, []) and "pinned lane" in run.told
    assert not (folder / ".venv").exists()


def test_an_environment_without_tensorflow_addons(checkout):
    folder, run = checkout
    (folder.parent / "log.without").touch()
    without = ".venv/without-addons.txt --constraint .venv/constraints.txt"
    assert run("run_tests.sh") == (0, ["made", OWN, without, FOR_TESTS, "tested"])
    assert "without tensorflow-addons" in run.told
    names = (folder / ".venv" / "without-addons.txt").read_text()
    assert "tensorflow==2.15.1" in names and "tensorflow-addons==" not in names
    assert run("run_tests.sh") == (0, ["tested"])


def test_both_lanes_stand_side_by_side(checkout):
    folder, run = checkout
    run.has("3.11", "3.12")
    assert run("run_tests.sh") == (0, ["made", OWN, FOR_TESTS, "tested"])
    beside = {"LANE": "modern", "FIELDMARK_VENV": ".venv-modern"}
    assert run("run_tests.sh", **beside) == (0, ["made", MODERN, MODERN_FOR_TESTS, "tested"])
    assert run("run_tests.sh", **beside) == (0, ["tested"]) and run.said.startswith("3.12 ")
    assert run("run_tests.sh") == (0, ["tested"]) and run.said.startswith("3.11 ")
    assert run("run_training.sh", LANE="modern", FIELDMARK_VENV="configs") == (2, [])
    assert run.told == "FIELDMARK_VENV=configs is no environment of Python: name another folder\n"


IN_BOTH = ["made", MODERN, MODERN_FOR_TESTS, "tested", "made", OWN, FOR_TESTS, "tested"]


def test_ci_runs_both_lanes_and_fails_where_either_does(checkout):
    folder, run = checkout
    run.has("3.11", "3.13")
    assert run(".ci/run") == (0, IN_BOTH)
    assert run.said.splitlines() == ["modern | 3.13 was tested, beside none",
                                     f"3.11 was tested, beside {folder}/.venv-modern/bin/python"]
    for version, last in (("3.13", "modern lane: failed, see above (exit code 1)"), ("3.11", "3.11 was tested")):
        fails = folder.parent / f"log.fails{version}"
        fails.touch()
        assert run(".ci/run") == (1, ["tested"] * 2)
        assert run.said.splitlines()[-1].startswith(last)
        fails.unlink()


def test_ci_takes_a_version_managers_python_and_does_without(checkout):
    folder, run = checkout
    assert run(".ci/run") == (0, ["made", OWN, FOR_TESTS, "tested"])
    assert run.said.splitlines() == ["modern lane: not run (no Python 3.12 or 3.13)", "3.11 was tested, beside none"]
    managed = folder.parent / "versions" / "3.12.9" / "bin" / "python3.12"
    managed.parent.mkdir(parents=True)
    managed.write_text(PYTHON.format(log=folder.parent / "log", version="3.12"))
    (folder.parent / "bin" / "pyenv").write_text(f'#!/bin/bash\necho "{folder.parent}"\n')
    managed.chmod(0o755)
    assert run(".ci/run") == (0, ["made", MODERN, MODERN_FOR_TESTS, "tested", "tested"])


@pytest.mark.parametrize("seen, code", [("PASSED tests/test_one.py::test", 0), ("FAILED tests/test_one.py::test", 124)])
def test_ci_stops_a_modern_lane_that_takes_too_long(checkout, seen, code):
    folder, run = checkout
    run.has("3.11", "3.13")
    (folder.parent / "log.hangs3.13").write_text(seen)
    assert run(".ci/run", MODERN_MINUTES="0") == (code, IN_BOTH)
    told = run.said.splitlines()
    assert told[1:3] == [f"modern | {seen}", "modern lane: stopped after 0 minutes, not all of its tests were run"]
    assert told[-1].startswith("modern lane: failed" if code else "3.11 was tested")
