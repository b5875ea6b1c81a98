"""The table that preflight.py prints: Markdown, aligned so that a terminal shows it as well."""

import math
from typing import Optional, Sequence

from pipeline.preflight import roofline
from pipeline.preflight.rows import Row

_NUMBER_COLUMNS = 3  # the first ones are text, aligned on the left


def render(rows: Sequence[Row], topology: str) -> str:
    """A line for each step; below it what is wrong, what was assumed, and whether steps are missing."""
    core, cores = roofline.find(topology)
    header = ["recipe", "stage", "step", "px", "a core", "fits", f"GiB of {core.memory / roofline.GIB:.2f}", "GFLOP",
              "GB moved", "ms", f"pictures/s by {cores}"]
    largest = any(row.largest_batch is not None for row in rows)
    given = any(row.given is not None for row in rows)
    header += ["most a core"] * largest + ["host gives"] * given
    cells = [_cells(row, core) + [_whole(row.largest_batch)] * largest + [_digits(row.given)] * given
             for row in rows]
    problems = [f"{row.recipe}, stage {row.stage}, {row.step}: {row.problem}" for row in rows if row.problem]
    return "\n".join([_markdown(header, cells), *problems, *_assumed(rows), *_unfinished(rows)]) + "\n"


def _cells(row: Row, core: roofline.Core) -> list[str]:
    result = row.result if row.result and not row.result.error else None
    verdict = "no" if row.problem else "yes" if result else "…"
    batch = f"{row.batch} × {row.views}" if row.views > 1 else _whole(row.batch)
    measured = [None] * 5 if result is None else [
        result.memory / roofline.GIB, result.flops / 1e9, result.moved_bytes / 1e9,
        1e3 * roofline.step_seconds(core, result.flops, result.moved_bytes), row.asked]
    return [row.recipe, row.stage, row.step, _whole(row.size), batch, verdict, *map(_digits, measured)]


def _digits(value: Optional[float]) -> str:
    """Three digits that count, or all of a larger number's; nothing for what is not known."""
    if value is None:
        return ""
    decimals = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{min(max(decimals, 0), 4)}f}"


def _whole(value: Optional[int]) -> str:
    return "" if value is None else str(value)


def _markdown(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in [header, *cells]) for column in range(len(header))]
    lines = [header, ["-" * width if column < _NUMBER_COLUMNS else "-" * (width - 1) + ":"
                      for column, width in enumerate(widths)], *cells]
    return "\n".join("| " + " | ".join(
        cell.ljust(width) if column < _NUMBER_COLUMNS else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths))) + " |" for line in lines)


def _assumed(rows: Sequence[Row]) -> list[str]:
    recipes = list(dict.fromkeys(row.recipe for row in rows if row.assumed_classes))
    if not recipes:
        return []
    count = next(row.assumed_classes for row in rows if row.assumed_classes)
    return [f"taken for {count:,} classes, as they name no --num_classes: {', '.join(recipes)}"]


def _unfinished(rows: Sequence[Row]) -> list[str]:
    missing = sum(row.result is None and not row.problem for row in rows)
    if not missing:
        return []
    return [f"unfinished: {missing} of {len(rows)} steps are not compiled yet; the same command goes on from here"]
