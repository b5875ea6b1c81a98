"""What the geo prior learns from: places, dates and classes as arrays, and the records of each epoch drawn from them."""

import dataclasses
import hashlib

import numpy as np
import pandas as pd

UNKNOWN_PHOTOGRAPHER = -1


@dataclasses.dataclass(frozen=True)
class Records:
    """Labelled records that have a place."""

    latitude: np.ndarray      # float32 [n], degrees
    longitude: np.ndarray     # float32 [n], degrees
    date: np.ndarray          # float32 [n], fraction of the year; NaN where unknown
    label: np.ndarray         # int32 [n], class index
    photographer: np.ndarray  # int32 [n], index; UNKNOWN_PHOTOGRAPHER where unknown
    photographers: int        # how many there are
    without_place: int        # records that were left out

    def __len__(self) -> int:
        return len(self.label)

    def digest(self) -> str:
        """Hexadecimal digest of the records and their order."""
        digest = hashlib.sha256()
        for column in (self.latitude, self.longitude, self.date, self.label, self.photographer):
            digest.update(column.tobytes())
        return digest.hexdigest()


def of(examples: pd.DataFrame) -> Records:
    """The labelled examples of a table that have a place.

    Args: examples: columns labels (sequences of class indices, of which the first counts), latitude, longitude
    (degrees), date (fraction of the year) and user (text, empty where unknown), as in schema.EXAMPLE_COLUMNS.
    """
    labelled = examples[examples["labels"].str.len() > 0]
    placed = labelled[labelled["latitude"].notna() & labelled["longitude"].notna()]
    photographers, names = pd.factorize(placed["user"].where(placed["user"] != ""))  # -1 where missing
    return Records(
        latitude=placed["latitude"].to_numpy(np.float32), longitude=placed["longitude"].to_numpy(np.float32),
        date=placed["date"].to_numpy(np.float32), label=placed["labels"].str[0].to_numpy(np.int32),
        photographer=photographers.astype(np.int32), photographers=len(names),
        without_place=len(labelled) - len(placed))


def steps_per_epoch(labels: np.ndarray, batch_size: int, max_per_class: int) -> int:
    """Full batches in an epoch, and 1 where there is not even one."""
    counts = np.bincount(labels)
    drawn = np.minimum(counts, max_per_class).sum() if max_per_class else counts.sum()
    return max(int(drawn) // batch_size, 1)


def draw_epoch(labels: np.ndarray, batch_size: int, max_per_class: int, seed: int, epoch: int) -> np.ndarray:
    """Positions of an epoch's records in random order: int32 [steps, batch_size], a function of (seed, epoch).

    Of each class as many as there are, at most `max_per_class` (0: all), none twice; what doesn't fill a batch waits
    for another epoch. Fewer records than one batch are repeated.
    """
    random = np.random.default_rng([seed, epoch])
    drawn = random.permutation(len(labels))
    if max_per_class:
        drawn = random.permutation(_first_of_each_class(drawn, labels, max_per_class))
    steps = max(len(drawn) // batch_size, 1)
    return np.resize(drawn, [steps, batch_size]).astype(np.int32)


def _first_of_each_class(order: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Those positions of `order` that are among the first `count` of their class."""
    by_class = order[np.argsort(labels[order], kind="stable")]
    first = np.cumsum(np.bincount(labels)) - np.bincount(labels)  # where each class begins in by_class
    return by_class[np.arange(len(by_class)) - first[labels[by_class]] < count]
