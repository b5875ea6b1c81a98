"""What an evaluation tells of several predictions whatever the task: each by itself, and the mean without each."""

from typing import Callable, Mapping, Sequence

from pipeline.answers import fusion, predictions
from pipeline.answers.example_table import ExampleTable
from pipeline.answers.mixture import Mixture


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


def weights(members: Sequence[predictions.Predictions], mixture: Mixture) -> dict[str, float]:
    """What each weighs in a submission, by its folder."""
    return {one.directory: round(float(weight), 4) for one, weight in zip(members, mixture.weights)}


def temperatures(members: Sequence[predictions.Predictions], mixture: Mixture) -> dict[str, float]:
    """Each one's own temperature in a submission, by its folder; empty where they have none."""
    if mixture.temperatures is None:
        return {}
    return {one.directory: round(mixture.temperature_of(index), 4) for index, one in enumerate(members)}


def print_mixture(weighs: Mapping[str, float], own: Mapping[str, float]) -> None:
    """What `weights` and `temperatures` tell, where there are several members."""
    if len(weighs) > 1:
        print("weights: " + ", ".join(f"{weight:.3f} {name}" for name, weight in weighs.items()))
    if own:
        print("temperatures of their own: " + ", ".join(f"{one:.3f} {name}" for name, one in own.items()))


def print_heading(table: ExampleTable, examples: int) -> None:
    rejected = len(table.data.rejected(table.split))
    some = "" if table.is_whole else f" of fold(s) {', '.join(map(str, table.folds))} of {table.data.manifest.folds}"
    print(f"{table.split}: {examples} examples{some}" + (f" ({rejected} rejected ones not scored)" if rejected else ""))
