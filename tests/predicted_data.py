"""Datasets without pictures, predictions of them, and a geo prior that needs no training, for tests."""

import pathlib
from typing import Optional, Sequence

import numpy as np
import pandas as pd

from pipeline.answers import predictions
from pipeline.records import dataset as datasets, schema


def make_dataset(folder: pathlib.Path, labels: Sequence[Optional[int]], places: Optional[np.ndarray] = None,
                 train_counts: Sequence[int] = (30, 30, 30), splits: Optional[Sequence[str]] = None,
                 folds: int = 0) -> datasets.Dataset:
    """A folder with a manifest and examples, but no shards' files.

    Args:
      labels: class index of each example, None where unknown; their ids are p0, p1, ….
      places: [examples, 3], latitude, longitude, date; NaN where unknown.
      splits: of each example; None: all val.
      folds: example i is in fold i modulo folds.
    """
    count = len(labels)
    classes = tuple(schema.ClassInfo(index, str(100 + index), f"species {index}", train)
                    for index, train in enumerate(train_counts))
    splits = ["val"] * count if splits is None else list(splits)
    shards = tuple(schema.Shard("no file", split, None, 0, splits.count(split), 0, "") for split in sorted(set(splits)))
    manifest = schema.Manifest("inat2021", "fieldmark", False, classes, shards, folds, 0, {}, metric="top1_error")
    folder.mkdir(parents=True, exist_ok=True)
    datasets.files.write_json(str(folder / schema.DATASET_FILE), manifest.to_json())
    places = np.full((count, 3), np.nan) if places is None else np.asarray(places, float)
    pd.DataFrame({
        "row": range(count), "id": [f"p{index}" for index in range(count)], "split": splits,
        "fold": [index % folds if folds else "" for index in range(count)],
        "labels": ["" if label is None else str(label) for label in labels], "latitude": places[:, 0],
        "longitude": places[:, 1], "date": places[:, 2], "user": "",
    }).to_csv(folder / schema.EXAMPLES_FILE, index=False)
    (folder / schema.REJECTED_FILE).write_text(",".join(schema.REJECTED_COLUMNS) + "\n")
    return datasets.load(str(folder))


def write_predictions(folder: pathlib.Path, data: datasets.Dataset, logs: np.ndarray, split: str = "val", **meta) -> str:
    """Predictions of a split's examples in their order, of the model directory `folder`'s parent."""
    ids = list(data.examples(split)["id"])
    predictions.write(str(folder), [(ids, np.asarray(logs, np.float32))], {
        "examples": len(ids), "class_ids": data.class_ids, "split": split, "model_dir": str(folder.parent), "tta": "none",
        "fold": None, "dataset": {"classes": data.classes_digest()}, **meta})
    return str(folder)


def random_logs(count: int, classes: int = 3, seed: int = 0, spread: float = 1.5) -> np.ndarray:
    """Float64 log-probabilities [count, classes]."""
    logits = np.random.default_rng(seed).normal(size=(count, classes)) * spread
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def random_places(count: int, seed: int = 0, without: float = 0.2) -> np.ndarray:
    """[count, 3], uniform over degrees and the year; some have no place, some no date."""
    rng = np.random.default_rng(seed)
    places = np.stack([rng.uniform(-90, 90, count), rng.uniform(-180, 180, count), rng.uniform(0, 1, count)], axis=1)
    places[rng.random(count) < without, :2] = np.nan
    places[rng.random(count) < 0.1, 2] = np.nan
    return places


class StandInPrior:
    """What geo_prior.load returns, by a formula: each class has its favourite meridian."""

    def __init__(self, class_ids: Sequence[str]):
        self.class_ids = list(class_ids)

    def log_probabilities(self, latitude, longitude, date) -> np.ndarray:
        del latitude, date
        favourites = np.array([37.0 * int(one) for one in self.class_ids])
        scores = 2.0 * np.cos(np.radians(np.asarray(longitude)[:, np.newaxis] - favourites))
        return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)
