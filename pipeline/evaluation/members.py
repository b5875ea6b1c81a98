"""What an evaluation tells of several predictions whatever the task: each by itself, and the mean without each."""

from typing import Callable, Sequence

from pipeline.answers import fusion, predictions
from pipeline.answers.example_table import ExampleTable


def lines(members: Sequence[predictions.Predictions], score: Callable) -> dict[str, dict[str, float]]:
    """Scores of each of several members, of the mean of the others, and of the plain mean; none for one alone.

    Args: score: a Blend or Predictions → name → score.
    """
    if len(members) == 1:
        return {}
    found = {member.directory: score(member) for member in members}
    for member in members:
        others = [one for one in members if one is not member]
        found[f"mean without {member.directory}"] = score(fusion.Blend(others))
    return {**found, "mean": score(fusion.Blend(members))}


def print_heading(table: ExampleTable, examples: int) -> None:
    rejected = len(table.data.rejected(table.split))
    some = "" if table.is_whole else f" of fold(s) {', '.join(map(str, table.folds))} of {table.data.manifest.folds}"
    print(f"{table.split}: {examples} examples{some}" + (f" ({rejected} rejected ones not scored)" if rejected else ""))
