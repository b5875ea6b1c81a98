"""From probabilities to answers: the best classes of each picture."""

import numpy as np

from pipeline import dataset as datasets, fusion


def best_classes(mean: fusion.Blend, answers: int) -> tuple[list[str], list[list[str]]]:
    """(ids, for each the source ids of its `answers` most probable classes, best first; of equals the lower index)."""
    ids: list[str] = []
    rows: list[list[str]] = []
    for chunk_ids, log_probabilities in mean.chunks():
        order = np.argsort(-log_probabilities, axis=1, kind="stable")[:, :answers]
        ids += chunk_ids
        rows += [[mean.class_ids[index] for index in row] for row in order]
    return ids, rows


def most_frequent_classes(data: datasets.Dataset, answers: int) -> list[str]:
    """The best guess for a picture that can't be read: the source ids of the most frequent classes in train."""
    classes = sorted(data.manifest.classes, key=lambda one: (-one.train_count, one.index))
    return [one.source_id for one in classes[:answers]]


def missing_ids(data: datasets.Dataset, split: str, ids: list[str]) -> list[str]:
    """Pictures of a split that have shards but no prediction."""
    predicted = set(ids)
    return [one for one in data.examples(split)["id"] if one not in predicted]
