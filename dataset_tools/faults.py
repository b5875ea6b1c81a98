"""What is wrong with a folder of shards: counted by kind, and told in a line each with the first examples."""

from typing import Iterable

_EXAMPLES = 3


class Faults:
    """Counts by kind; the kinds are told in the order in which they were found first."""

    def __init__(self):
        self._found: dict[str, tuple[int, list[str]]] = {}

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Adds so many of a kind ('damaged records'); the example says which and why."""
        before, examples = self._found.get(kind, (0, []))
        self._found[kind] = before + count, [*examples, example][:_EXAMPLES]

    def merge(self, others: Iterable["Faults"]) -> None:
        """Adds those of others, in their order."""
        for other in others:
            for kind, (count, examples) in other._found.items():
                before, there = self._found.get(kind, (0, []))
                self._found[kind] = before + count, [*there, *examples][:_EXAMPLES]

    def __len__(self) -> int:
        return sum(count for count, _ in self._found.values())

    @property
    def kinds(self) -> list[str]:
        return list(self._found)

    def lines(self) -> list[str]:
        """'damaged records: 12, such as …; …; …'."""
        return [f"{kind}: {count:,}, such as {'; '.join(' '.join(one.split()) for one in examples)}"
                for kind, (count, examples) in self._found.items()]
