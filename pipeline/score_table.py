"""Scores of several predictions as a table on the terminal."""

from typing import Mapping


def print_lines(lines: Mapping[str, Mapping[str, float]]) -> None:
    """A line for each name, a column for each score (but the number of examples)."""
    columns = [name for name in next(iter(lines.values())) if name != "examples"]
    width = max(map(len, lines))
    print(" " * width + "".join(f"{column:>16}" for column in columns))
    for name, scores in lines.items():
        print(f"{name:<{width}}" + "".join(f"{scores[column]:>16.4f}" for column in columns))
