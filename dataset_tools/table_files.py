"""Finds and reads the file of somebody's table: CSV, Parquet, or an export of iNaturalist or GBIF."""

import collections
from typing import Any, Optional

from absl import logging

from dataset_tools import csv_files, files, table_columns
from dataset_tools.csv_files import Sheet
from pipeline.errors import UserError

TAXONOMY = "taxonomy.csv"
_DEFAULT = ("table.csv", "table.tsv", "table.parquet", "occurrence.txt")
_MULTIMEDIA = "multimedia.txt"  # GBIF's, beside occurrence.txt: a row a picture
_ENDINGS = (".csv", ".tsv", ".parquet")
_STILL = ("", "stillimage", "image")


def find(data_dir: str, given: Optional[str]) -> str:
    """The table's path. Raises UserError where there is none, or no telling which."""
    if given:
        path = files.absolute(given)
        if files.size_of(path) is None:
            raise UserError(f"--table: {path} does not exist")
        return path
    if not files.is_folder(data_dir):
        raise UserError(f"the data folder {data_dir} does not exist")
    names = files.list_names(data_dir)
    default = next((name for name in _DEFAULT if name in names), None)
    if default:
        return files.join(data_dir, default)
    others = [name for name in names if name.lower().endswith(_ENDINGS) and name != TAXONOMY]
    if len(others) != 1:
        told = f"there are {', '.join(others)}" if others else "there is no table"
        raise UserError(f"no {_DEFAULT[0]} in the data folder {data_dir} ({told}); give --table=FILE.csv")
    return files.join(data_dir, others[0])


def sources(path: str, data_dir: str) -> list[str]:
    """Every file that the table is made of and that is there."""
    beside = files.join(path.rpartition("/")[0], _MULTIMEDIA)
    wanted = [path, *([beside] if path.endswith("occurrence.txt") else []), files.join(data_dir, TAXONOMY)]
    return [one for one in wanted if files.size_of(one) is not None]


def read(path: str) -> Sheet:
    """Raises UserError where it can't be read."""
    if path.lower().endswith(".parquet"):
        return _read_parquet(path)
    sheet = csv_files.read_sheet(path)
    media = files.join(path.rpartition("/")[0], _MULTIMEDIA)
    if path.endswith("occurrence.txt") and files.size_of(media) is not None:
        return _with_media(sheet, csv_files.read_sheet(media))
    return sheet


def _read_parquet(path: str) -> Sheet:
    import pandas as pd  # late: it takes a moment

    try:
        with files.os_errors(path), files.open_file(path) as file:
            frame = pd.read_parquet(file)
    except ImportError:
        raise UserError(f"{path}: pandas reads Parquet where pyarrow is installed (pip install pyarrow)") from None
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {path}: {' '.join(str(error).split())[:200]}") from error
    if not len(frame):
        raise UserError(f"{path} has no rows")
    rows = list(frame.itertuples(index=False, name=None))
    return Sheet(path, [str(name).strip() for name in frame.columns], rows, range(1, len(rows) + 1), "row")


def _with_media(sheet: Sheet, media: Sheet) -> Sheet:
    """A row for each picture of an occurrence, with its address; the pictures of one occurrence are a group."""
    key = next((name for name in sheet.columns if table_columns.plain(name) in ("gbifid", "id")), None)
    media_key = next((name for name in media.columns if table_columns.plain(name) in ("gbifid", "coreid", "id")), None)
    if key is None or media_key is None or "identifier" not in media.columns:
        raise UserError(f"{media.path} has no gbifID and identifier, which tell whose pictures where are")
    kinds = media.column("type") if "type" in media.columns else [""] * len(media.rows)
    pictures = collections.defaultdict(list)
    for one, address, kind in zip(media.column(media_key), media.column("identifier"), kinds):
        if address and kind.strip().lower() in _STILL:
            pictures[one].append(address)
    rows: list[list[Any]] = []
    lines = []
    occurrences = sheet.column(key)
    logging.info("%d of %d occurrences of %s have no still picture in %s", sum(one not in pictures for one in occurrences),
                 len(occurrences), sheet.path, media.path)
    for one, row, line in zip(occurrences, sheet.rows, sheet.lines):
        found = pictures[one]
        for number, address in enumerate(found, 1):
            rows.append([*row, f"{one}_{number}" if len(found) > 1 else one, one, address])
            lines.append(line)
    if not rows:
        raise UserError(f"{media.path} has no still picture of an occurrence of {sheet.path}")
    return Sheet(sheet.path, [*sheet.columns, "picture_id", "observation_id", "media_url"], rows, lines)
