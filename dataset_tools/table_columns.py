"""Which column of somebody's table is what: by --columns, else by the names that people, iNaturalist and GBIF give them."""

import collections
import re
from typing import Sequence

from dataset_tools.csv_files import Sheet
from pipeline.errors import UserError, unknown
from pipeline.records.schema import RANKS

# By role the names in the order of their precedence, lower case without anything else than letters and digits.
NAMES = {
    "path": ("path", "filepath", "file", "filename", "image", "imagepath", "imagename", "imagefile", "img", "imgpath",
             "picture", "picturepath", "photo", "photopath"),
    "url": ("mediaurl", "imageurl", "photourl", "pictureurl", "identifier", "url"),
    "label": ("label", "category", "classname", "target", "species", "scientificname", "taxonname", "speciesname", "class"),
    "labels": ("labels", "tags", "attributeids", "attributes", "classes"),
    "id": ("pictureid", "id", "imageid", "photoid", "gbifid", "occurrenceid"),
    "group": ("group", "groupid", "camera", "cameraid", "burst", "burstid", "sequence", "sequenceid", "seqid", "encounter",
              "encounterid", "observationid"),
    "split": ("split", "subset", "set", "partition"),
    "latitude": ("latitude", "lat", "decimallatitude"),
    "longitude": ("longitude", "lon", "lng", "long", "decimallongitude"),
    "date": ("date", "observedon", "eventdate", "datetime", "timestamp", "datetaken", "capturedate", "observationdate"),
    "user": ("user", "userid", "photographer", "observer", "recordedby", "userlogin", "username"),
    "name": ("commonname", "vernacularname"),
    **{rank: (rank, f"taxon{rank}name", f"taxon{rank}") for rank in RANKS},
}
_ASKED = ("path", "label", "labels", "id", "group", "split", "latitude", "longitude", "date", "user")  # of --columns


def plain(name: str) -> str:
    """A column's name as NAMES has it: Decimal_Latitude and dwc:decimalLatitude are decimallatitude."""
    return re.sub("[^a-z0-9]", "", name.rpartition(":")[2].lower())


def choose(sheet: Sheet, asked: Sequence[str]) -> dict[str, str]:
    """The column of each role that there is one for.

    Raises UserError for --columns that name no role or no column of the table, and for a table without pictures or labels.
    """
    found = _by_name(sheet.columns)
    given = _given(sheet, asked)
    if {"label", "labels"} <= found.keys():
        plural = plain(found["labels"]) == "labels" and plain(found["label"]) != "label"
        del found["label" if plural else "labels"]
    if "label" in given or "labels" in given:
        found = {role: column for role, column in found.items() if role not in ("label", "labels")}
    if given.get("path"):
        found.pop("url", None)
    found = {role: column for role, column in {**found, **given}.items() if column}
    if {"label", "labels"} <= found.keys():
        raise UserError("--columns: label and labels do not go together; give one of them")
    _require(sheet, found, ("path", "url", "id"), "path")
    _require(sheet, found, ("label", "labels"), "label")
    return found


def _by_name(columns: Sequence[str]) -> dict[str, str]:
    by_plain = collections.defaultdict(list)
    for column in columns:
        by_plain[plain(column)].append(column)
    ranked = any(rank in by_plain for rank in RANKS if rank not in ("class", "species"))
    found = {}
    for role, names in NAMES.items():
        # Beside kingdom, order or family, `class` is the rank.
        there = [one for one in names if one in by_plain and not (role == "label" and one == "class" and ranked)]
        if there:
            found[role] = by_plain[there[0]][0]
    return found


def _given(sheet: Sheet, asked: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in asked:
        role, colon, column = (part.strip() for part in one.partition(":"))
        if not colon:
            raise UserError(f"--columns: {one!r} is not written OURS:THEIRS, as in path:file")
        if role not in _ASKED:
            raise unknown("column of --columns:", role, _ASKED)
        if column and column not in sheet.columns:
            raise UserError(f"--columns={one}: {sheet.path} has no column {column}; it has: "
                            f"{', '.join(filter(None, sheet.columns))}")
        found[role] = column
    return found


def _require(sheet: Sheet, found: dict[str, str], roles: Sequence[str], told: str) -> None:
    if not any(role in found for role in roles):
        raise UserError(f"{sheet.path} has no column {' or '.join(roles)} (is its first line a header?); it has: "
                        f"{', '.join(filter(None, sheet.columns))}; tell it by --columns={told}:NAME")
