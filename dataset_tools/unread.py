"""What of a file could not be read or is ambiguous: counted, and told with an example instead of dropped silently."""

from typing import Any

_LONGEST = 60  # characters of an example


class Unread:
    """Counts values by what is wrong with them.

    Args:
      path: of the file, which every line names.
    """

    def __init__(self, path: str):
        self._path = path
        self._found: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, what: str, wrong: str, example: Any, count: int = 1) -> None:
        """Adds so many values: `what` are they (dates), what is `wrong` with them (can't be read), one of them."""
        before, first = self._found.get((what, wrong), (0, _shown(example)))
        self._found[what, wrong] = before + count, first

    def lines(self, totals: dict[str, int]) -> list[str]:
        """A line each, by how many there are of `what` in all."""
        return [f"{self._path}: {count} of {totals[what]} {what} {wrong}, such as {example}"
                for (what, wrong), (count, example) in self._found.items()]


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, tuple) else ", ".join(map(repr, value))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
