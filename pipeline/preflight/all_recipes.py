"""Every recipe under configs/, one process each: their networks would not fit into one process together.

A recipe of a competition that has TPU overrides is checked with them behind it, as it would run there.
"""

import os
import subprocess
import sys
from typing import Optional, Sequence

from pipeline import files
from pipeline.preflight import recipe, table
from pipeline.preflight.rows import Request, Row

# A flagfile with a stage, or with another recipe that it changes, is a training recipe; overrides and geo priors have neither.
_OF_A_RECIPE = ("--stage=", "--flagfile=configs/")
_TPU_OVERRIDES = os.path.join("overrides", "tpu")  # below configs/: COMPETITION.flags


def flagfiles(configs: str) -> list[tuple[str, ...]]:
    """The training recipes below a folder, in order, each with its TPU overrides where there are any."""
    found = [os.path.join(folder, name) for folder, _, names in os.walk(configs) for name in names]
    recipes = sorted(path for path in found if path.endswith(".flags") and _is_recipe(path))
    competitions = [os.path.relpath(path, configs).split(os.sep)[0] for path in recipes]
    overrides = [os.path.join(configs, _TPU_OVERRIDES, f"{competition}.flags") for competition in competitions]
    return [(path, override) if os.path.exists(override) else (path,) for path, override in zip(recipes, overrides)]


def _is_recipe(path: str) -> bool:
    with open(path, encoding="utf-8") as file:
        return any(line.startswith(_OF_A_RECIPE) for line in file)


def check(configs: str, request: Request, arguments: Sequence[str], out: Optional[str]) -> bool:
    """Runs this command for each recipe, prints one table of all, an unfinished one too; whether all of them fit.

    Args:
      configs: the folder of recipes.
      request: where each saves its rows.
      arguments: of the command for each, beside its --flagfile.
      out: a file for the table, rewritten after each recipe; None: none.
    """
    rows: list[Row] = []
    pending = flagfiles(configs)
    try:
        while pending:
            rows += _check_one(pending[0], request, arguments)
            del pending[0]
            if out:
                files.write_whole(out, _render(rows, pending, request))
    finally:
        if pending:
            rows += recipe.load(request, recipe.name(pending[0]))
        print(_render(rows, pending, request), end="", flush=True)
    return not any(row.problem for row in rows)


def _check_one(paths: Sequence[str], request: Request, arguments: Sequence[str]) -> list[Row]:
    name = recipe.name(paths)
    recipe.save([], request, name)  # an earlier call's flags may have been others
    code = subprocess.run([sys.executable, sys.argv[0], *(f"--flagfile={path}" for path in paths), *arguments], check=False).returncode
    rows = recipe.load(request, name)
    if all(row.result or row.problem for row in rows) and rows:
        return rows
    told = f"preflight.py ended with {code} before it was done, and told why"
    return [*rows, Row(name, "", "", problem=told)]


def _render(rows: Sequence[Row], pending: Sequence[Sequence[str]], request: Request) -> str:
    missing = [f"not begun yet: {', '.join(map(recipe.name, pending))}; the same command goes on\n"] if pending else []
    return table.render(rows, request.topology) + "".join(missing)
