"""iMet Collection 2019 (Kaggle): several of 1,103 attributes (culture::…, tag::…) a picture, scored by F2.

Classes stand in the order of labels.csv. The test pictures are those of sample_submission.csv or, where that is not at
hand, those in the folder test. Pictures are PNGs (or of any other ending), which become JPEGs in the shards.
"""

import hashlib
from typing import Sequence

from absl import logging

from dataset_tools import coco_json, csv_files, files, picture_files
from dataset_tools.submission import SubmissionFormat
from dataset_tools.table import Competition, Example, Table, make_examples
from pipeline.errors import UserError

TRAIN, LABELS, SAMPLE, TEST_FOLDER = "train.csv", "labels.csv", "sample_submission.csv", "test"
_ENDING = ".png"
_MOST_ANSWERS = 10  # labels a picture, as the solution has it; the competition itself names no bound


def _check_distinct(path: str, what: str, values: Sequence[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise UserError(f"{path}: {what} {value} stands in it twice")
        seen.add(value)


def _classes(data_dir: str) -> list[tuple[str, str]]:
    """(attribute id, name) in the order of the file."""
    path = files.join(data_dir, LABELS)
    rows = csv_files.read_rows(path, ("attribute_id", "attribute_name"))
    _check_distinct(path, "attribute", [row["attribute_id"] for row in rows])
    return [(row["attribute_id"], row["attribute_name"]) for row in rows]


def _train_examples(data_dir: str, classes: Sequence[tuple[str, str]]) -> list[Example]:
    path = files.join(data_dir, TRAIN)
    index_of = {source_id: index for index, (source_id, _) in enumerate(classes)}
    rows = csv_files.read_rows(path, ("id", "attribute_ids"))
    _check_distinct(path, "picture", [row["id"] for row in rows])
    found = picture_files.names_of_ids(data_dir, "train", _ENDING)
    examples = []
    for row in rows:
        attributes = list(dict.fromkeys(row["attribute_ids"].split()))
        unknown = [one for one in attributes if one not in index_of]
        if unknown:
            raise UserError(f"{path}: picture {row['id']} has the attribute {unknown[0]}, which {LABELS} does not list")
        labels = tuple(sorted(index_of[one] for one in attributes))
        examples.append(Example(row["id"], "train", _path(found, "train", row["id"]), labels))
    return examples


def _test_ids(data_dir: str) -> list[str]:
    path = files.join(data_dir, SAMPLE)
    if files.size_of(path) is not None:
        ids = [row["id"] for row in csv_files.read_rows(path, ("id",))]
        _check_distinct(path, "picture", ids)
        return ids
    return sorted(picture_files.names_of_ids(data_dir, TEST_FOLDER, _ENDING))


def _path(found: dict[str, str], folder: str, one: str) -> str:
    return f"{folder}/{found.get(one, one + _ENDING)}"


def read(data_dir: str) -> Table:
    """The table of train.csv and the test pictures, with all labels of each.

    Raises:
      UserError: naming the CSV that is missing, unreadable, without its columns, has an id a second time, or an
        attribute that labels.csv has not.
    """
    classes = _classes(data_dir)
    rows = _train_examples(data_dir, classes)
    found = picture_files.names_of_ids(data_dir, TEST_FOLDER, _ENDING)
    test = [Example(one, "test", _path(found, TEST_FOLDER, one)) for one in _test_ids(data_dir)]
    if not test:
        logging.info("%s has no %s and no pictures in %s: there will be no test split", data_dir, SAMPLE, TEST_FOLDER)
    return Table(make_examples(rows + test), classes, multi_label=True)


def fingerprint(data_dir: str) -> str:
    """A digest of the CSVs and of the names of the test pictures."""
    tables = coco_json.fingerprint(data_dir, (TRAIN, LABELS, SAMPLE))
    return hashlib.sha256("\n".join([tables, *_test_ids(data_dir)]).encode("utf-8", "backslashreplace")).hexdigest()


COMPETITION = Competition(
    name="imet2019",
    read=read,
    fingerprint=fingerprint,
    metric="f2",
    submission=SubmissionFormat(columns=("id", "attribute_ids"), answers=_MOST_ANSWERS, at_least=1),
)
