"""Which classes a model knows, which it takes for each other: tables of an outcomes table."""

from typing import Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline.records.dataset import Dataset


def by_class(outcomes: pd.DataFrame, data: Dataset) -> pd.DataFrame:
    """The classes that occur, worst first: class, in train, pictures, top-1, and what it is most often taken for.

    Args: outcomes: as outcomes.single_label.
    """
    names = np.array([one.name for one in data.manifest.classes], object)
    counts = np.array([one.train_count for one in data.manifest.classes])
    found = outcomes.groupby("label")["hit"].agg(["size", "mean"])
    wrong = outcomes[~outcomes["hit"]].groupby(["label", "answer"]).size().rename("times").reset_index()
    most = wrong.sort_values(["times", "answer"], ascending=[False, True], kind="stable").drop_duplicates("label").set_index(
        "label")
    taken_for = (names[most["answer"]] + " (" + most["times"].astype(str) + ")") if len(most) else pd.Series(dtype=object)
    table = pd.DataFrame({
        "class": names[found.index], "in train": counts[found.index], "pictures": found["size"], "top-1": found["mean"],
        "most often taken for": taken_for.reindex(found.index).fillna("")})
    return table.sort_values(["top-1", "class"], kind="stable").reset_index(drop=True)


def confused(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Pairs of classes taken for each other, in either direction, most frequent first: one, other (class indices, the lower
    first), mistaken."""
    wrong = outcomes.loc[~outcomes["hit"], ["label", "answer"]].to_numpy()
    pairs = pd.DataFrame(np.sort(wrong, axis=1), columns=["one", "other"])
    found = pairs.groupby(["one", "other"]).size().rename("mistaken").reset_index()
    return found.sort_values(["mistaken", "one", "other"], ascending=[False, True, True], kind="stable").reset_index(drop=True)


def most_frequent_class(outcomes: pd.DataFrame, data: Dataset) -> tuple[str, float]:
    """(name, top-1) of who answers the most frequent class of train always: the baseline that costs nothing."""
    most = max(data.manifest.classes, key=lambda one: (one.train_count, -one.index))
    return most.name, float((outcomes["label"] == most.index).mean())


def by_label(counts: np.ndarray, data: Dataset) -> pd.DataFrame:
    """The labels that occur, the worst F2 first: label, in train, pictures, recall, precision, F2.

    Args: counts: as outcomes.SeveralLabels has them.
    """
    pictures, answered, hits = counts
    table = pd.DataFrame({
        "label": [one.name for one in data.manifest.classes], "in train": [one.train_count for one in data.manifest.classes],
        "pictures": pictures, "recall": hits / np.maximum(pictures, 1), "precision": hits / np.maximum(answered, 1),
        "F2": 5 * hits / np.maximum(4 * pictures + answered, 1)})[pictures > 0]
    return table.sort_values(["F2", "label"], kind="stable").reset_index(drop=True)


def most_frequent_labels(data: Dataset, labels: Mapping[str, Sequence[int]], most: int) -> tuple[list[int], float]:
    """(classes, mean F2 over the pictures of `labels`) of who answers the most frequent labels of train always.

    How many of them, up to `most`, is what train's own pictures would have it; the baseline that costs nothing.
    """
    frequent = sorted(data.manifest.classes, key=lambda one: (-one.train_count, one.index))[:most]
    order = [one.index for one in frequent]
    own = [one for one in data.examples("train")["labels"] if one] if "train" in data.manifest.splits else []
    count = 1 + int(np.argmax([_mean_f2(order[:size], own) for size in range(1, len(order) + 1)])) if own else 1
    return order[:count], _mean_f2(order[:count], list(labels.values()))


def _mean_f2(answered: Sequence[int], labels: Sequence[Sequence[int]]) -> float:
    return float(np.mean([5 * len(set(answered) & set(one)) / (4 * len(set(one)) + len(answered)) for one in labels]))
