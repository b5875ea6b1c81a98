"""The flags of a table of one's own, for every command that reads raw files."""

import csv
import io
from typing import Sequence

from absl import flags

from dataset_tools.table_asked import COMPETITION, Asked
from pipeline import flag_help
from pipeline.flag_types import define_float, define_path

DEFAULT_VAL_SHARE = 0.1


def define() -> None:
    flag_help.heading("A table of one's own (--competition=table)")
    define_path("table", "The table: CSV (any usual separator), or Parquet where pandas can read it. Default: table.csv in the "
                "data folder, or the export of iNaturalist or GBIF that lies there.")
    flags.DEFINE_list("columns", [], "What its columns are, where they have other names: path:file,label:species. Of path, "
                      "label or labels, id, group, split, latitude, longitude, date, user; group: for none.")
    define_float("val_share", None, "Share of train that is drawn for val, by class, groups whole [0.1 where no column tells "
                 "the splits]; 0: none.", high=0.5)


def asked() -> Asked:
    """What was given."""
    values = flags.FLAGS
    return Asked(values["table"].value, tuple(values["columns"].value), values["val_share"].value)


def arguments(given: Asked) -> list[str]:
    """The same for another command."""
    found = [f"--table={given.table}"] if given.table else []
    found += [f"--columns={_as_list(given.columns)}"] if given.columns else []
    return found + ([f"--val_share={given.val_share}"] if given.val_share is not None else [])


def _as_list(values: Sequence[str]) -> str:
    """As absl's list flags read it: a name with a comma in quotes."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def data_folder(name: str, data_dir: str, given: Asked) -> str:
    """The data folder; that of --table where none is given."""
    if data_dir or name != COMPETITION or not given.table:
        return data_dir
    return given.table.rpartition("/")[0] or "."
