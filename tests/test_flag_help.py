"""--help and --version of every command: to stdout, exit code 0, in the terminal's width, nothing left out."""

import os
import re
import subprocess
import sys

import pytest

import pipeline
from conftest import ROOT
from raw_data import run_command

COMMANDS = sorted(path.name for path in ROOT.glob("*.py"))
LIBRARIES = ("absl.",)  # whose flags --helpfull has, by the module that defines them


def lines_of(command, flag="--help", columns=80):
    done = subprocess.run([sys.executable, str(ROOT / command), flag], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "COLUMNS": str(columns)}, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def flags_in(lines):
    return [found[1] for line in lines if (found := re.match(r"  --(?:\[no\])?(\w+)", line))]


def all_flags(command):
    """Names of the command's flags by absl's own listing."""
    names, ours = [], False
    for line in run_command(command, "--helpfull").stdout.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            ours = not line.startswith(LIBRARIES)
        elif ours and (found := re.match(r"  (?:-[?\w],)?--(?:\[no\])?(\w+):", line)):
            names.append(found[1])
    return set(names) - {"flagfile", "undefok", "help", "helpshort", "helpfull", "helpxml", "version"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_flag_once_and_fits_the_terminal(command):
    lines = lines_of(command)
    wide = lines_of(command, columns=120)
    for shown, columns in ((lines, 80), (wide, 120)):
        assert not [line for line in shown if len(line) > columns and "|" not in line]  # a list of names is not broken
    usage, = (line for line in lines if line.startswith("usage: "))
    assert usage.startswith((f"usage: python {command} --", f"usage: python {command} [COMPETITION"))
    assert lines.index("The usual flags:") < 8
    listed = flags_in(lines)
    assert listed == flags_in(wide) and len(set(listed)) == len(listed)
    expected = all_flags(command)
    if command == "preflight.py":  # which leaves a recipe's flags to the training's own help
        assert any("multi_stage_train.py --help" in line for line in wide)
        expected -= all_flags("multi_stage_train.py") - {"data_dir"}
    assert set(listed) == expected


def test_the_usual_flags_come_first_and_a_solutions_last():
    lines = lines_of("multi_stage_train.py")
    headings = [line for line in lines if re.fullmatch(r"\S.*:", line)]
    assert headings[:-1] == ["The usual flags:", "Data and model:", "Pictures:", "Loss and optimizer:", "The run:"]
    assert flags_in(lines)[:2] == ["data_dir", "model_dir"]
    at = lines.index(headings[-1])
    assert "sixth-place solution" in " ".join(lines[at - 1:at + 1])
    assert {"epochs_stage1", "use_scaled_lr"} <= set(flags_in(lines[at:]))
    assert not {"epochs_stage1", "use_scaled_lr"} & set(flags_in(lines[:at]))


def test_a_flags_lines_tell_values_and_default():
    text = "\n".join(lines_of("multi_stage_train.py", columns=120))
    assert "  --batch_size=N  [32]\n      Pictures a step, over all replicas.\n" in text
    assert "  --optimizer=sgd|adam|adamw|lamb  [sgd]\n      Optimizer.\n" in text
    assert "  --[no]jit  [off]\n" in text and "  --data_dir=PATH\n" in text and "  --stage=TEXT …\n" in text
    assert "repeat this option" not in text


@pytest.mark.parametrize("flag", ["-h", "-?", "--helpshort"])
def test_other_ways_to_ask(flag):
    assert lines_of("evaluate.py", flag) == lines_of("evaluate.py")


@pytest.mark.parametrize("command", COMMANDS)
def test_version(command):
    assert lines_of(command, "--version") == [f"Fieldmark {pipeline.__version__}"]


def test_absls_full_help_stays():
    text = run_command("predict.py", "--helpfull").stdout
    assert "--tta" in text and "--stderrthreshold" in text and "--[no]use_tta" in text
