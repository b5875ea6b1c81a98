"""What a page is made of, as plain data; templates/NAME.html says how each looks (page.render)."""

import dataclasses
from typing import Any, ClassVar, Sequence

import pandas as pd


@dataclasses.dataclass(frozen=True)
class Note:
    """A paragraph; a `warning` takes worth from what is told."""

    template: ClassVar[str] = "note.html"
    text: str
    warning: bool = False


@dataclasses.dataclass(frozen=True)
class Heading:
    template: ClassVar[str] = "heading.html"
    text: str


@dataclasses.dataclass(frozen=True)
class Cards:
    """The few figures that come first: (value, what it is, how sure it is) each."""

    template: ClassVar[str] = "cards.html"
    cards: Sequence[tuple[str, str, str]]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that stands whole; `index`: whether the rows' names are its first column."""

    template: ClassVar[str] = "table.html"
    frame: pd.DataFrame
    index: bool = False

    @property
    def cells(self) -> list[list[str]]:
        frame = self.frame.reset_index(names="") if self.index else self.frame
        return [list(map(str, frame.columns)), *([shown(value) for value in row] for row in frame.itertuples(index=False))]


@dataclasses.dataclass(frozen=True)
class PagedTable:
    """A table of any length, that is searched, sorted and turned over in the browser."""

    template: ClassVar[str] = "paged_table.html"
    frame: pd.DataFrame
    name: str  # of the table in the page

    @property
    def data(self) -> dict[str, Any]:
        """As JSON takes it; `decimals`: which columns are shares, all of them read with four digits."""
        rounded = self.frame.round(4)
        return {"columns": list(rounded.columns), "decimals": [pd.api.types.is_float_dtype(one) for one in rounded.dtypes],
                "rows": rounded.to_dict("split")["data"]}

    @property
    def first(self) -> "Table":
        """What is there without a script."""
        return Table(self.frame.head(20))


@dataclasses.dataclass(frozen=True)
class Figures:
    """Drawings side by side, as wide as there is room: (SVG or img element, what it shows) each."""

    template: ClassVar[str] = "figures.html"
    figures: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Shot:
    """A picture with what is told of it."""

    picture: str         # data URI
    title: str
    lines: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Gallery:
    template: ClassVar[str] = "gallery.html"
    shots: Sequence[Shot]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Two classes beside each other: (heading, pictures of the one, pictures of the other) each."""

    template: ClassVar[str] = "pairs.html"
    pairs: Sequence[tuple[str, Gallery, Gallery]]


@dataclasses.dataclass(frozen=True)
class Folded:
    """What is shown when its heading is opened."""

    template: ClassVar[str] = "folded.html"
    heading: str
    elements: Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Section:
    heading: str
    elements: Sequence[Any]


def shown(value: Any) -> str:
    """A cell as it is read."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.4f}"
    return str(value)
