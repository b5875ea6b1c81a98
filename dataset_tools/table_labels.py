"""The labels of a table's rows as texts, and what it tells of the classes' names and taxonomy."""

import ast
import collections
import json
import re
from typing import Any, Mapping, Optional, Sequence

from absl import logging

from dataset_tools import csv_files, files
from dataset_tools.csv_files import Sheet
from dataset_tools.dates import is_absent
from dataset_tools.table_columns import NAMES, plain
from dataset_tools.table_files import TAXONOMY
from pipeline.errors import UserError
from pipeline.records.schema import RANKS

SEPARATORS = "|;,"  # between several labels: the first of these that stands in the column, else a space
_DOUBTFUL = ("na", "nan", "none", "null", "n/a")


def text(value: Any) -> str:
    """A value as text; nothing is an empty one, and 3.0 (a detour through a table with gaps) is 3."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def single(sheet: Sheet, column: str) -> list[tuple[str, ...]]:
    """The label of each row, () where the field is empty. Words that may stand for none are told."""
    labels = [text(one) for one in sheet.column(column)]
    for word in sorted({one for one in labels if one.lower() in _DOUBTFUL}):
        logging.warning("%s: %d rows have the %s %r, which is taken for a class; leave the field empty where it is none",
                        sheet.path, labels.count(word), column, word)
    _tell_alike(sheet, labels)
    return [(one,) if one else () for one in labels]


def several(sheet: Sheet, column: str) -> list[tuple[str, ...]]:
    """The distinct labels of each row: a list as JSON, Python or Parquet have it, or a text by one separator."""
    values = sheet.column(column)
    texts = [one for one in values if isinstance(one, str) and one]
    separator = next((mark for mark in SEPARATORS if any(mark in one for one in texts)), None)
    listed = bool(texts) and all(one.startswith("[") and one.endswith("]") for one in texts)
    found = []
    for row, value in enumerate(values):
        if isinstance(value, str):
            parts = _parse_list(sheet, row, value) if listed and value else value.split(separator)
        else:
            parts = [] if is_absent_list(value) else list(value)
        found.append(tuple(dict.fromkeys(filter(None, map(text, parts)))))
    return found


def is_absent_list(value: Any) -> bool:
    return value is None or (not hasattr(value, "__iter__") and is_absent(value))


def _parse_list(sheet: Sheet, row: int, value: str) -> list[Any]:
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(value)
        except (ValueError, SyntaxError):
            continue
        if isinstance(found, (list, tuple)):
            return list(found)
    raise UserError(f"{sheet.place(row)}: the labels {value[:40]!r} are no list")


def _tell_alike(sheet: Sheet, labels: Sequence[str]) -> None:
    spellings = collections.defaultdict(set)
    for one in set(labels):
        spellings[" ".join(one.lower().split())].add(one)
    alike = [sorted(ones) for ones in spellings.values() if len(ones) > 1]
    if alike:
        logging.warning("%s: %d labels differ in capitals or spaces alone, such as %r and %r; they are different classes",
                        sheet.path, len(alike), *alike[0][:2])


def sort(labels: Sequence[str]) -> list[str]:
    """As numbers where all are whole ones, else as text."""
    numeric = all(re.fullmatch("-?[0-9]+", one) for one in labels)
    return sorted(labels, key=lambda one: (int(one), one) if numeric else (0, one))


def taxonomy(sheet: Sheet, columns: Mapping[str, str], labels: Sequence[tuple[str, ...]],
             data_dir: str) -> dict[str, dict[str, str]]:
    """By label the name of each rank, and maybe `name`, that a person calls it: of taxonomy.csv in the data folder, where
    that has the label; else what most of its rows say."""
    roles = [role for role in (*RANKS, "name") if role in columns]
    counts: dict[str, dict[str, collections.Counter]] = collections.defaultdict(lambda: collections.defaultdict(
        collections.Counter))
    for role in roles:
        for value, one in zip(map(text, sheet.column(columns[role])), labels):
            if value and len(one) == 1:
                counts[one[0]][role][value] += 1
    differing = [label for label, by_role in counts.items() if any(len(by_role[role]) > 1 for role in RANKS if role in by_role)]
    if differing:
        logging.warning("%s: the rows of %d labels differ in taxonomy, such as those of %r; what most say is taken", sheet.path,
                        len(differing), differing[0])
    found = {label: {role: min(counter, key=lambda value: (-counter[value], value)) for role, counter in by_role.items()}
             for label, by_role in counts.items()}
    return {**found, **_of_file(files.join(data_dir, TAXONOMY))}


def _of_file(path: str) -> dict[str, dict[str, str]]:
    """taxonomy.csv: the label in a column of that name, or in the first."""
    if files.size_of(path) is None:
        return {}
    sheet = csv_files.read_sheet(path, ("label", *RANKS))
    by_plain = {plain(name): name for name in reversed(sheet.columns)}
    key = by_plain.get("label") or sheet.columns[0]
    roles = {role: column for role in (*RANKS, "name")
             if (column := _first(by_plain, (*NAMES[role], *(("name",) if role == "name" else ()))))}
    values = {role: list(map(text, sheet.column(column))) for role, column in roles.items()}
    found = {}
    for row, label in enumerate(map(text, sheet.column(key))):
        if label in found:
            raise UserError(f"{sheet.place(row)}: {label} stands in it twice")
        found[label] = {role: ones[row] for role, ones in values.items() if ones[row]}
    return found


def _first(by_plain: Mapping[str, str], names: Sequence[str]) -> Optional[str]:
    return next((by_plain[name] for name in names if name in by_plain), None)
