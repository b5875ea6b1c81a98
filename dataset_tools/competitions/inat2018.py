"""iNaturalist 2018: COCO-style JSON, places in files of their own."""

import functools

from dataset_tools import coco_json
from dataset_tools.submission import SubmissionFormat
from dataset_tools.table import Competition

_FILES = coco_json.year_files(2018)

COMPETITION = Competition(
    name="inat2018",
    read=functools.partial(coco_json.read_splits, split_files=_FILES),
    fingerprint=functools.partial(coco_json.fingerprint, names=coco_json.file_names(_FILES)),
    metric="top3_error",
    submission=SubmissionFormat(columns=("id", "predicted"), answers=3),
    places="{split}2018_locations.json",
)
