"""Reads tables (CSV and its kin) strictly: what is broken is named by file and line, and no row ever runs into another.

Understood: UTF-8 or UTF-16 with a byte order mark, UTF-8 without; any line ends; comma, semicolon, tab or | between the
columns, as the header has it; a first line sep=;; empty lines, and empty columns at the end.
"""

import codecs
import csv
import dataclasses
import functools
import io
import re
from typing import Any, Optional, Sequence

from dataset_tools import files
from dataset_tools.table import MissingTable
from pipeline.errors import UserError

SEPARATORS = ",;\t|"
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
_LONGEST_FIELD = 1 << 24  # characters; csv's own bound of 131,072 is short for descriptions


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table as read.

    Attributes:
      columns: their names, stripped.
      rows: the fields of each row, as many as columns; stripped texts from a CSV, values of any type from elsewhere.
      lines: where each row begins in the file, from 1.
      unit: what `lines` counts.
    """

    path: str
    columns: list[str]
    rows: list[Sequence[Any]]
    lines: Sequence[int]
    unit: str = "line"

    def place(self, row: int) -> str:
        """How a row, from 0, is named to a person."""
        return f"{self.path}: {self.unit} {self.lines[row]}"

    def column(self, name: str) -> list[Any]:
        """The values of a column. Raises UserError where there is none, or two, and where a value has line breaks."""
        count = self.columns.count(name)
        if count != 1:
            has = f"has the column {name} {count} times" if count else (
                f"has no column {name}; it has: {', '.join(map(repr, filter(None, self.columns)))} (is its first line a header?)")
            raise UserError(f"{self.path} {has}")
        at = self.columns.index(name)
        values = [row[at] for row in self.rows]
        for number, value in enumerate(values):
            if isinstance(value, str) and ("\n" in value or "\r" in value):
                raise UserError(f"{self.place(number)}: the {name} runs over several lines (a quote that is not closed?): "
                                f"{value[:40]!r}…")
        return values


def read_rows(path: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The given columns of a CSV, stripped, none empty.

    Raises:
      UserError: naming the file, where it is missing, unreadable, broken, lacks a column or has a row that lacks a value.
    """
    sheet = read_sheet(path, columns)
    found = {name: sheet.column(name) for name in columns}
    for name, values in found.items():
        if "" in values:
            number = values.index("")
            raise UserError(f"{path}: row {number + 1} (line {sheet.lines[number]}) has no {name}")
    return [dict(zip(columns, values)) for values in zip(*found.values())]


def read_sheet(path: str, wanted: Sequence[str] = ()) -> Sheet:
    """A whole CSV. Raises UserError as `read_rows`.

    Args: wanted: columns of which some must be there; where the header has them by another separator than the usual comma,
      that is the one.
    """
    text = _text(path)
    first, _, rest = text.partition("\n")
    told = re.fullmatch(r"sep=(.)\r?", first, re.I)  # Excel's
    skipped = 1 if told else 0
    text = rest if told else text
    separator = told[1] if told else _separator(text, wanted)
    read = _read_tabs if separator == "\t" else functools.partial(_read_quoted, separator=separator)
    columns, rows, lines = read(path, text, skipped)
    if not rows:
        raise UserError(f"{path} has no rows")
    return Sheet(path, columns, rows, lines)


def _text(path: str) -> str:
    try:
        content = files.read_bytes(path)
    except FileNotFoundError as error:
        raise MissingTable(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"can't read {path}: {error}") from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[:error.start].count(b"\n") + 1
        raise UserError(f"{path} is not a CSV in UTF-8: line {line} has a byte {content[error.start]:#x} ({error.reason}); save "
                        "it as UTF-8") from error
    if "\0" in text:
        line = text[:text.index("\0")].count("\n") + 1
        raise UserError(f"{path} is not a CSV in UTF-8: line {line} has a NUL; save it as UTF-8")
    if not text.strip():
        raise UserError(f"{path} has no rows: it is empty")
    return text


def _separator(text: str, wanted: Sequence[str]) -> str:
    """The one that gives the header most of the wanted columns; of equals, the one that it has most often outside quotes."""
    header = re.sub('"[^"]*"?', lambda quoted: re.sub(r"\W", "_", quoted[0][1:-1]), text.lstrip("\r\n").split("\n", 1)[0])

    def fit(separator: str) -> tuple[int, int]:
        names = {name.strip() for name in header.split(separator)}
        return len(names.intersection(wanted)), header.count(separator)

    return max(SEPARATORS, key=fit)


def _read_quoted(path: str, text: str, skipped: int, separator: str = ",") -> tuple[list[str], list[list[str]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: Optional[list[str]] = None
    rows, lines = [], []
    limit = csv.field_size_limit(_LONGEST_FIELD)
    start = reader.line_num + 1 + skipped
    try:
        for fields in reader:
            fields = [field.strip() for field in fields]
            if columns is None:
                columns = fields if any(fields) else None
            elif any(fields):
                rows.append(_checked(path, start, fields, columns, separator))
                lines.append(start)
            start = reader.line_num + 1 + skipped
    except csv.Error as error:
        why = "a quote is opened and not closed" if "unexpected end" in str(error) or "field limit" in str(error) else (
            "a quote ends before its field does; write quotes within a field twice")
        raise UserError(f"{path}: line {start}: {why} ({error})") from error
    finally:
        csv.field_size_limit(limit)
    return columns or [], rows, lines


def _checked(path: str, line: int, fields: list[str], columns: Sequence[str], separator: str) -> list[str]:
    """As many fields as columns. Raises UserError for a row that has not, and for one that has swallowed others."""
    count = len(columns)
    if len(fields) > count and not any(fields[count:]):
        fields = fields[:count]
    if len(fields) != count:
        hint = f"; put a field with a {_NAMES.get(separator, separator)} in it in quotes" if len(fields) > count else ""
        raise UserError(f"{path}: line {line} has {len(fields)} fields, the header has {count}{hint}")
    for position, field in enumerate(fields):
        if "\n" in field and _swallowed(field, position, count, separator):
            raise UserError(f"{path}: line {line}: {columns[position]} runs over lines that look like rows of their own (a quote "
                            "that is not closed?)")
    return fields


def _swallowed(field: str, position: int, count: int, separator: str) -> bool:
    """Whether a field of several lines holds rows: a whole one in it, or at its end one up to the field's own column.

    (A description may well run over lines. In the first columns, and in tables of two, a last line tells nothing; what is
    used of those must be of one line anyway.)
    """
    _, *inner, last = field.split("\n")
    return (count > 2 and any(line.count(separator) == count - 1 for line in inner)) or (
        position > 1 and last.count(separator) == position)


def _read_tabs(path: str, text: str, skipped: int) -> tuple[list[str], list[list[str]], list[int]]:
    """Tables by tabs are mostly written without quotes (GBIF's), which then stand for themselves."""
    all_lines = re.split("\r\n|\n|\r", text)
    numbered = [(number, line.split("\t")) for number, line in enumerate(all_lines, 1 + skipped) if line.strip()]
    columns = [_unquoted(field) for field in numbered[0][1]]
    if any(len(fields) != len(columns) for _, fields in numbered[1:]) and '"' in text:
        try:
            return _read_quoted(path, text, skipped, "\t")
        except UserError:
            pass  # neither way; what is wrong without quotes is the plainer word
    rows = [_checked(path, number, [_unquoted(field) for field in fields], columns, "\t") for number, fields in numbered[1:]]
    return columns, rows, [number for number, _ in numbered[1:]]


def _unquoted(field: str) -> str:
    field = field.strip()
    inner = field[1:-1].replace('""', "")
    if len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner:
        return field[1:-1].replace('""', '"').strip()
    return field
