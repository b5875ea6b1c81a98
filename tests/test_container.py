"""The Dockerfile, which nothing here can build: a linter, and its own commands with a pip that only tells what it is asked."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT


def test_the_linter_finds_nothing():
    linter = shutil.which("hadolint", path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not linter:
        pytest.skip("no hadolint for this machine")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("lane, device, requirement", [
    ("pinned", "cpu", "tensorflow==2.15.1"), ("pinned", "gpu", "tensorflow[and-cuda]==2.15.1"),
    ("modern", "gpu", "tensorflow[and-cuda]==2.21.0")])
def test_arguments_choose_what_is_installed(tmp_path, lane, device, requirement):
    text = (ROOT / "Dockerfile").read_text()
    copied = re.search(r"^COPY (.+) \./$", text, re.MULTILINE)[1].split()
    for name in copied:
        shutil.copy(ROOT / name, tmp_path)
    command = re.search(r"^RUN (.+?[^\\])\n", text, re.MULTILINE | re.DOTALL)[1].replace("\\\n", "")
    (tmp_path / "pip").write_text("#!/bin/sh\necho \"$@\"\n")
    (tmp_path / "pip").chmod(0o755)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True,
                          env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "LANE": lane, "DEVICE": device})
    suffix = "-modern" if lane == "modern" else ""
    assert done.stdout.split() == ["install", "--no-cache-dir", "--requirement", "chosen.txt", "--constraint",
                                   f"constraints{suffix}.txt"], done.stderr
    chosen = (tmp_path / "chosen.txt").read_text().splitlines()
    assert requirement in chosen
    others = [one for one in (ROOT / f"requirements{suffix}.txt").read_text().splitlines() if not one.startswith("tensorflow==")]
    assert [one for one in chosen if one != requirement] == others
