"""A Python environment of some packages, and what they require, alone: made of those that are installed here, in no time."""

import importlib.metadata
import pathlib
import subprocess
import sys
from typing import Sequence

from packaging.requirements import Requirement


def make(folder: pathlib.Path, packages: Sequence[str]) -> str:
    """Makes it; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in _with_requirements(packages):
        for file in importlib.metadata.distribution(name).files or ():
            top = file.parts[0]
            source, target = pathlib.Path(file.locate()).parents[len(file.parts) - 1] / top, site / top
            if top not in ("..", "__pycache__") and not target.exists():
                target.symlink_to(source)
    return str(folder / "bin" / "python")


def _with_requirements(packages: Sequence[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(packages)
    while waiting:
        name = waiting.pop()
        if name.lower() in found:
            continue
        found.add(name.lower())
        needed = map(Requirement, importlib.metadata.requires(name) or ())
        waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found
