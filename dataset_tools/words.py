"""Counts and examples in sentences."""

from typing import Sequence

from dataset_tools import files

_NAMED = 3


def count(number: int, what: str, plural: str = "") -> str:
    """'1 picture', '1,200 pictures'."""
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    told = ", ".join(files.printable(name) for name in names[:_NAMED])
    return told + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
