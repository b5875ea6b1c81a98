"""One recipe: its rows, as they come, to a file for who asked for all recipes, and as a table to who asked for this one."""

import dataclasses
import os
import sys
from typing import Optional, Sequence

from pipeline import files
from pipeline.preflight import rows as rows_of, table
from pipeline.preflight.compiler import Compiled
from pipeline.preflight.rows import Request, Row
from pipeline.records import dataset as datasets
from pipeline.runs.run import Run

def name(paths: Sequence[str]) -> str:
    """What the table calls them: configs/inat2017/resnet152.flags is inat2017/resnet152."""
    return " + ".join(path.removesuffix(".flags").rpartition("configs/")[2].removeprefix("overrides/") for path in paths)


def flagfiles(arguments: Sequence[str]) -> list[str]:
    """Those that a command's arguments name."""
    stripped = [argument.lstrip("-") for argument in arguments]
    return [argument.removeprefix("flagfile=") for argument in stripped if argument.startswith("flagfile=")]


def check(run: Run, request: Request, out: Optional[str]) -> bool:
    """Compiles the steps of a recipe and prints their table, an unfinished one too; whether all of them fit."""
    data = datasets.load(run.data_dir) if run.data_dir else None
    recipe = name(flagfiles(sys.argv[1:])) or run.model
    rows: list[Row] = []
    try:
        for rows in rows_of.compiled(run, recipe, data, request):
            save(rows, request, recipe)
            if out:
                files.write_whole(out, table.render(rows, request.topology))
    finally:
        if rows:
            print(table.render(rows, request.topology), end="", flush=True)
    return not any(row.problem for row in rows)


def save(rows: Sequence[Row], request: Request, recipe: str) -> None:
    files.make_dirs(request.cache_dir)
    files.write_json(rows_path(request, recipe), [dataclasses.asdict(row) for row in rows])


def load(request: Request, recipe: str) -> list[Row]:
    """What `check` has saved of the recipe so far; nothing where it has not begun."""
    path = rows_path(request, recipe)
    saved = files.read_json(path) if files.exists(path) else []
    return [Row(**{**row, "result": row["result"] and Compiled(**row["result"])}) for row in saved]


def rows_path(request: Request, recipe: str) -> str:
    kind = f"{recipe} {request.topology}"
    return os.path.join(request.cache_dir, "".join(letter if letter.isalnum() else "-" for letter in kind) + ".rows.json")
