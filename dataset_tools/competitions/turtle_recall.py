"""Turtle Recall (Zindi): which of 100 turtles is it, or is it a new one? An open set, scored by MAP@5.

Train is train.csv and extra_images.csv together: more individuals than may be answered, so that the model learns what
the others look like. An individual that only extra_images.csv has is answered as new_turtle. image_location (left,
right or top of the head) is neither in all files nor used by anything that follows, so the table does not keep it.
"""

import functools
from typing import Callable

from absl import logging

from dataset_tools import coco_json, csv_files, files, picture_files
from dataset_tools.submission import SubmissionFormat
from dataset_tools.table import Competition, Example, Table, make_examples
from pipeline.errors import UserError

TRAIN, EXTRA, TEST = "train.csv", "extra_images.csv", "test.csv"
NEW_TURTLE = "new_turtle"
_ANSWERS = 5
_ENDING = ".JPG"  # in the competition's archive


def _picture_paths(data_dir: str) -> Callable[[str], str]:
    """Gives the path of an image id, whatever its file's ending and case; images/<id>.JPG where there is none."""
    found = picture_files.names_of_ids(data_dir, "images", _ENDING)
    return lambda image_id: f"images/{found.get(image_id, image_id + _ENDING)}"


def _labels(data_dir: str) -> tuple[dict[str, str], set[str]]:
    """(turtle id by image id over both files, the turtle ids of train.csv)."""
    turtles: dict[str, tuple[str, str]] = {}
    for name in (TRAIN, EXTRA):
        path = files.join(data_dir, name)
        for row in csv_files.read_rows(path, ("image_id", "turtle_id")):
            image, turtle = row["image_id"], row["turtle_id"]
            if turtle == NEW_TURTLE:
                raise UserError(f"{path}: image {image} is labelled {NEW_TURTLE}, which is no individual")
            if image in turtles:
                other, where = turtles[image]
                labels = f"as {other} and as {turtle}" if other != turtle else f"as {turtle} both times"
                raise UserError(f"{path}: image {image} stands in {where} already, {labels}")
            turtles[image] = turtle, name
    known = {turtle for turtle, name in turtles.values() if name == TRAIN}
    return {image: turtle for image, (turtle, _) in turtles.items()}, known


def _test_ids(data_dir: str) -> list[str]:
    path = files.join(data_dir, TEST)
    if files.size_of(path) is None:
        logging.info("no %s in %s: there will be no test split", TEST, data_dir)
        return []
    ids = [row["image_id"] for row in csv_files.read_rows(path, ("image_id",))]
    if len(set(ids)) < len(ids):
        twice = next(one for position, one in enumerate(ids) if one in ids[:position])
        raise UserError(f"{path}: image {twice} stands in it twice")
    return ids


def read(data_dir: str) -> Table:
    """Both label files joined; classes in the sorted order of the turtle ids.

    Raises:
      UserError: naming the CSV that is missing, unreadable, without its columns, or has an image id a second time.
    """
    turtles, known = _labels(data_dir)
    path_of = _picture_paths(data_dir)
    classes = sorted(set(turtles.values()))
    index_of = {turtle: index for index, turtle in enumerate(classes)}
    rows = [Example(image, "train", path_of(image), (index_of[turtle],)) for image, turtle in turtles.items()]
    rows += [Example(image, "test", path_of(image)) for image in _test_ids(data_dir)]
    return Table(make_examples(rows), [(turtle, turtle) for turtle in classes],
                 known=tuple(turtle in known for turtle in classes), unknown_answer=NEW_TURTLE)


COMPETITION = Competition(
    name="turtle_recall",
    read=read,
    fingerprint=functools.partial(coco_json.fingerprint, names=(TRAIN, EXTRA, TEST)),
    metric="map5",
    submission=SubmissionFormat(
        columns=("image_id", *(f"prediction{rank + 1}" for rank in range(_ANSWERS))), answers=_ANSWERS),
)
