"""What every competition is read into: one table of examples, whatever its files look like."""

import dataclasses
import functools
import math
import time
from typing import Any, Callable, Iterable, NamedTuple, Optional, Sequence

import pandas as pd

from dataset_tools.submission import SubmissionFormat
from pipeline.errors import UserError

MISSING = "missing"  # a reason to set a picture aside, which a later run looks at again
SPLITS = ("train", "train_mini", "val", "test")  # rows are numbered in this order
COLUMNS = ("id", "split", "path", "labels", "latitude", "longitude", "date", "user")


class MissingTable(UserError):
    """A file without which a competition can't be read is not in the data folder; it may be in one below."""


class Example(NamedTuple):
    """One row of the table."""

    id: str
    split: str
    path: str                        # relative to the data folder, with forward slashes
    labels: tuple[int, ...] = ()     # class indices, empty where unknown
    latitude: float = math.nan       # degrees
    longitude: float = math.nan      # degrees
    date: float = math.nan           # fraction of the year
    user: str = ""


class Rejected(NamedTuple):
    """A picture that was set aside, and why."""

    id: str
    split: str
    path: str
    labels: tuple[int, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A competition as read: its examples and classes.

    `examples` has the columns of `Example` and maybe `group` (text; what shares one never stands in two folds; empty:
    on its own); `classes` holds (source id, name) by class index; `rejected` what the competition's own files rule out
    (pictures without a label in train; with the split '' what is no picture at all). In an open set `known` says by class
    index whether it may be answered; the others are answered by `unknown_answer`.
    """

    examples: pd.DataFrame
    classes: list[tuple[str, str]]
    multi_label: bool = False  # several labels a picture
    task: str = ""             # a kind of pipeline.tasks beyond one label and several
    rejected: tuple[Rejected, ...] = ()
    known: Optional[tuple[bool, ...]] = None  # None: all
    unknown_answer: str = ""
    notes: tuple[str, ...] = ()  # sentences for whoever brought the files: what was passed over, or understood otherwise


@dataclasses.dataclass(frozen=True)
class Competition:
    """All that is known of a competition.

    `read(data_dir)` gives its table; `fingerprint(data_dir)` a text that changes when its source files do. Both
    raise UserError naming the file that is missing or wrong.
    """

    name: str
    read: Callable[[str], Table]
    fingerprint: Callable[[str], str]
    metric: str
    submission: SubmissionFormat
    places: str = ""  # the file that holds the places of {split}; empty: there are none
    test_labels: bool = False  # whether those of test are at hand, so that it can be scored too


def trained_split(splits: Iterable[str]) -> str:
    """The split that folds divide and classes are counted in: train, or train_mini where there is no train."""
    return "train" if "train" in set(splits) else "train_mini"


def make_examples(rows: Sequence[Example]) -> pd.DataFrame:
    """The data frame of a `Table`."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in ("latitude", "longitude", "date"):
        frame[column] = frame[column].astype("float64")
    return frame


@functools.lru_cache(maxsize=100_000)
def _fraction_of_day(day: str) -> float:
    parsed = time.strptime(day, "%Y-%m-%d")
    leap = parsed.tm_year % 4 == 0 and (parsed.tm_year % 100 != 0 or parsed.tm_year % 400 == 0)
    return parsed.tm_yday / (366 if leap else 365)


def fraction_of_year(date: Any) -> float:
    """Day of the year / (366 in a leap year, else 365) of a text like `2021-03-02 12:00:00+00:00`; else NaN."""
    if not isinstance(date, str):
        return math.nan
    try:
        return _fraction_of_day(date[:10])
    except ValueError:
        return math.nan


def number_within(value: Any, low: float, high: float) -> float:
    """`value` as a float; NaN where it is null, no number, or outside [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value) if low <= value <= high else math.nan


def place(latitude: Any, longitude: Any) -> tuple[float, float]:
    """(latitude, longitude) in degrees; both NaN unless both are there and on Earth."""
    pair = number_within(latitude, -90, 90), number_within(longitude, -180, 180)
    return (math.nan, math.nan) if any(map(math.isnan, pair)) else pair
