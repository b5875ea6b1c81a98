"""Reads the CSV files that competitions hand out."""

import csv
from typing import Sequence

from dataset_tools import files
from dataset_tools.table import MissingTable
from pipeline.errors import UserError


def read_rows(path: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The given columns of a UTF-8 CSV (with or without a byte order mark, any line ends), stripped, none empty.

    Raises:
      UserError: naming the file, where it is missing, unreadable, lacks a column or has a row that lacks a value.
    """
    try:
        rows = files.read_csv(path)
    except FileNotFoundError as error:
        raise MissingTable(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"can't read {path}: {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV in UTF-8: {error}") from error
    if not rows:
        raise UserError(f"{path} has no rows")
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        raise UserError(f"{path} has no column {missing[0]}; it has: {', '.join(filter(None, rows[0]))}")
    return [_checked(path, number, row, columns) for number, row in enumerate(rows, 1)]


def _checked(path: str, number: int, row: dict, columns: Sequence[str]) -> dict[str, str]:
    values = {column: (row[column] or "").strip() for column in columns}
    for column, value in values.items():
        if not value:
            raise UserError(f"{path}: row {number} has no {column}")
    return values
