"""A table of one's own: a row a picture, with its label or labels, and maybe split, group, id, place, date and user.

A row without a label (and without a split) is to be predicted: test. Where no column tells the splits, a share of train is
drawn for val. An export of iNaturalist (observations-….csv) or GBIF (occurrence.txt, with multimedia.txt) is taken as it is;
their pictures lie in the data folder under their ids or the names that they had where they were downloaded from.
"""

import dataclasses
import functools
import hashlib
from typing import Any, Optional, Sequence

from absl import logging

from dataset_tools import dates, files, places, table_columns, table_files, table_labels, table_splits
from dataset_tools.csv_files import Sheet
from dataset_tools.submission import SubmissionFormat
from dataset_tools.table import Competition, Example, Rejected, Table, make_examples
from dataset_tools.table_asked import COMPETITION as NAME, Asked
from dataset_tools.table_pictures import Pictures, is_address
from dataset_tools.unread import Unread
from pipeline.errors import UserError
from pipeline.records.schema import RANKS

_MOST_ANSWERS = 100  # labels a row of a submission, where a picture has several; the threshold decides how many there are
_SEPARATOR = "|"     # between them


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The columns of the table that are used, a value a row."""

    ids: list[str]
    paths: list[str]
    labels: list[tuple[str, ...]]
    groups: list[str]
    places: list[tuple[float, float]]
    dates: list[float]
    users: list[str]
    unread: tuple[str, ...]


def read(data_dir: str, asked: Asked = Asked()) -> Table:
    """The table as examples.

    Raises:
      UserError: naming the file, and where there is one the line, that is missing, broken or contradicts itself.
    """
    data_dir = files.absolute(data_dir)
    sheet = table_files.read(table_files.find(data_dir, asked.table))
    columns = table_columns.choose(sheet, asked.columns)
    logging.info("%s: %d rows; %s", sheet.path, len(sheet.rows), ", ".join(
        f"{role} is {column}" for role, column in columns.items() if role not in (*RANKS, "name")))
    rows = _read_rows(data_dir, sheet, columns)
    splits = _splits(sheet, columns, rows, asked)
    _check_ids(sheet, rows, splits)
    for line in rows.unread:
        logging.warning("%s", line)
    return _table(sheet, columns, rows, splits, data_dir)


def _read_rows(data_dir: str, sheet: Sheet, columns: dict[str, str]) -> _Rows:
    def values(role: str) -> list[Any]:
        return sheet.column(columns[role]) if role in columns else [None] * len(sheet.rows)

    def texts(role: str) -> list[str]:
        return list(map(table_labels.text, values(role)))

    labels = (table_labels.several(sheet, columns["labels"]) if "labels" in columns
              else table_labels.single(sheet, columns["label"]))
    names, ids = texts("path" if "path" in columns else "url"), texts("id")
    names = [one or own for one, own in zip(names, ids)]
    ids = [own or one for one, own in zip(names, ids)]
    for row, one in enumerate(ids):
        if not one:
            raise UserError(f"{sheet.place(row)} names no picture")
    unread = Unread(sheet.path)
    found_places, placed = places.read(zip(values("latitude"), values("longitude")), unread)
    found_dates, dated = dates.read(values("date"), unread)
    return _Rows(ids, _paths(data_dir, sheet, names, ids), labels, texts("group"), found_places, found_dates, texts("user"),
                 tuple(unread.lines({"places": placed, "dates": dated})))


def _paths(data_dir: str, sheet: Sheet, names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """The picture of each row in the data folder; of one that is not there the name that it is missed by."""
    folder = sheet.path.rpartition("/")[0]
    below = folder[len(data_dir):].strip("/") if folder.startswith(data_dir.rstrip("/") + "/") else ""
    pictures = Pictures(data_dir, below)
    found, missing = [], []
    for name, one in zip(names, ids):
        path = pictures.of_address(name, one) if is_address(name) else pictures.of_path(name)
        if path is None:
            missing.append(name)
            path = pictures.missed(name, one)
        found.append(path)
    if missing:
        logging.info("%d of %d pictures of %s are not in %s, such as %s%s", len(missing), len(names), sheet.path, data_dir,
                     missing[0], "; save each as its id with its ending" if is_address(missing[0]) else "")
    return found


def _splits(sheet: Sheet, columns: dict[str, str], rows: _Rows, asked: Asked) -> list[str]:
    texts = list(map(table_labels.text, sheet.column(columns["split"]))) if "split" in columns else None
    labelled = [bool(one) for one in rows.labels]
    splits = table_splits.told(sheet, texts, labelled)
    if texts and "group" in columns:
        table_splits.check_groups(sheet, columns["group"], splits, rows.groups, labelled)
    share = table_splits.share_to_draw(asked.val_share, texts is not None, splits, sheet.path)
    return table_splits.draw_val(rows.ids, rows.labels, rows.groups, splits, share)


def _check_ids(sheet: Sheet, rows: _Rows, splits: Sequence[str]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for row, key in enumerate(zip(splits, rows.ids)):
        before = seen.setdefault(key, row)
        if before != row:
            raise UserError(f"{sheet.place(row)}: the id {key[1]} stands in {sheet.unit} {sheet.lines[before]} already. Several "
                            "labels of a picture go into one row (a column labels); if the id is of several pictures together, "
                            "say --columns=id:,group:ITS_COLUMN")


def _table(sheet: Sheet, columns: dict[str, str], rows: _Rows, splits: Sequence[str], data_dir: str) -> Table:
    trained = "train" if "train" in splits else "train_mini"
    classes = table_labels.sort({label for split, one in zip(splits, rows.labels) if split == trained for label in one})
    if not classes:
        raise UserError(f"{sheet.path}: no row of train has a label ({columns.get('labels') or columns['label']})")
    if len(classes) == 1:
        logging.warning("%s: %r is the only label of train; is %s the column of the labels?", sheet.path, classes[0],
                        columns.get("labels") or columns["label"])
    index_of = {label: index for index, label in enumerate(classes)}
    examples, rejected = [], []
    for row, split in enumerate(splits):
        labels = tuple(sorted(index_of[one] for one in rows.labels[row] if one in index_of))
        reason = _reason(split, rows.labels[row], index_of)
        if reason:
            rejected.append(Rejected(rows.ids[row], split, rows.paths[row], labels, reason))
            continue
        examples.append(Example(rows.ids[row], split, rows.paths[row], labels, *rows.places[row], rows.dates[row],
                                rows.users[row], rows.groups[row]))
    if rejected:
        logging.warning("%s: %d rows are set aside: %s is %s", sheet.path, len(rejected), rejected[0].id, rejected[0].reason)
    ranks = table_labels.taxonomy(sheet, columns, rows.labels, data_dir)
    return Table(make_examples(examples),
                 [(one, ranks.get(one, {}).get("name") or one) for one in classes],
                 [{rank: text for rank, text in ranks.get(one, {}).items() if rank in RANKS} for one in classes],
                 multi_label="labels" in columns, rejected=tuple(rejected), unread=rows.unread)


def _reason(split: str, labels: Sequence[str], index_of: dict[str, int]) -> str:
    """Why a row can't be used; '' where it can. Test needs no labels."""
    if split == "test":
        return ""
    if not labels:
        return f"of {split} and without a label"
    strange = next((one for one in labels if one not in index_of), None)
    return "" if strange is None else f"labelled {strange}, which no row of train is"


def fingerprint(data_dir: str, asked: Asked = Asked()) -> str:
    """A digest of the table's files, and of what is said of its columns and of val."""
    data_dir = files.absolute(data_dir)
    digest = hashlib.sha256(repr((tuple(asked.columns), asked.val_share)).encode())
    for path in table_files.sources(table_files.find(data_dir, asked.table), data_dir):
        digest.update(f"{path.rpartition('/')[2]} {files.sha256_of(path)}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def has_places(data_dir: str, asked: Asked = Asked()) -> bool:
    """Whether a geo prior can learn from the table: one label a picture, and a labelled row of train with a place."""
    table = read(data_dir, asked)
    train = table.examples[table.examples["split"].isin(("train", "train_mini"))]
    return not table.multi_label and bool(train["latitude"].notna().any())


def competition(asked: Optional[Asked] = None) -> Competition:
    """The competition of a table as it is asked for."""
    asked = asked or Asked()
    own = Competition(
        name=NAME, read=functools.partial(read, asked=asked), fingerprint=functools.partial(fingerprint, asked=asked),
        metric="top1_error", submission=SubmissionFormat(columns=("id", "label"), answers=1),
        places=(asked.table or "its table").rpartition("/")[2].replace("{", "{{").replace("}", "}}"), has_places=functools.partial(has_places, asked=asked))
    several = dataclasses.replace(own, metric="f2", submission=SubmissionFormat(
        columns=("id", "labels"), answers=_MOST_ANSWERS, at_least=1, separator=_SEPARATOR))
    return dataclasses.replace(own, several_labels=several)


COMPETITION = competition()
