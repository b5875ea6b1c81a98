"""Answers where one class alone is right: the best ones of each picture, by their order."""

from pipeline.answers import ranking
from pipeline.answers.asked import Asked
from pipeline.errors import UserError
from pipeline.records import dataset as datasets


def answer(data: datasets.Dataset, predicted, asked: Asked) -> tuple[list[str], list[list[str]], list[str]]:
    """(ids, the source ids of the answers of each, those for a picture that can't be read).

    Args: `predicted` is a Blend, or a layer of priors over one.
    """
    if asked.threshold is not None or asked.min_samples:
        raise UserError(f"--threshold and --min_samples are for several labels a picture; {data.directory} has one")
    ids, rows = ranking.best_classes(data, predicted, asked.answers, asked.open_set)
    return ids, rows, ranking.most_frequent_classes(data, asked.answers, asked.open_set)


def refresh(directory: str, data: datasets.Dataset) -> None:
    """Predictions keep nothing that is fitted."""
