"""What every competition is read into: one table of examples, whatever its files look like."""

import dataclasses
import math
from typing import Callable, Iterable, Mapping, NamedTuple, Optional, Sequence

import pandas as pd

from dataset_tools.submission import SubmissionFormat
from pipeline.errors import UserError

MISSING = "missing"  # a reason to set a picture aside, which a later run looks at again
SPLITS = ("train", "train_mini", "val", "test")  # rows are numbered in this order
COLUMNS = ("id", "split", "path", "labels", "latitude", "longitude", "date", "user", "group")


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
    group: str = ""                  # what shares one never stands in two folds; empty: on its own


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

    `examples` has the columns of `Example`; `classes` holds (source id, name) by class index; `rejected` what the competition's own files rule out
    (pictures without a label in train; with the split '' what is no picture at all). In an open set `known` says by class
    index whether it may be answered; the others are answered by `unknown_answer`.
    """

    examples: pd.DataFrame
    classes: list[tuple[str, str]]
    taxonomy: Sequence[Mapping[str, str]] = ()  # by class index, the name of each rank that is known; empty: none is
    multi_label: bool = False  # several labels a picture
    task: str = ""             # a kind of pipeline.tasks beyond one label and several
    rejected: tuple[Rejected, ...] = ()
    known: Optional[tuple[bool, ...]] = None  # None: all
    unknown_answer: str = ""
    notes: tuple[str, ...] = ()  # sentences for whoever brought the files: what was passed over, or understood otherwise
    unread: tuple[str, ...] = ()  # places and dates that are not taken, a line for each kind, with an example


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
    several_labels: Optional["Competition"] = None  # what it is where a picture has several labels, if its files decide
    has_places: Callable[[str], bool] = lambda data_dir: True  # whether the files in a data folder do tell places

    def of(self, exclusive: bool) -> "Competition":
        """The competition as it is where a picture has one label, or several."""
        return self if exclusive or self.several_labels is None else self.several_labels


def trained_split(splits: Iterable[str]) -> str:
    """The split that folds divide and classes are counted in: train, or train_mini where there is no train."""
    return "train" if "train" in set(splits) else "train_mini"


def rows_of(frame: pd.DataFrame) -> list[Example]:
    """The examples of (a part of) a `Table`'s data frame."""
    return [Example(*one) for one in frame[list(Example._fields)].itertuples(index=False)]


def make_examples(rows: Sequence[Example]) -> pd.DataFrame:
    """The data frame of a `Table`."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in ("latitude", "longitude", "date"):
        frame[column] = frame[column].astype("float64")
    return frame
