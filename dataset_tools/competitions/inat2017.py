"""iNaturalist 2017: COCO-style JSON, places in files of their own."""

import functools

from dataset_tools import coco_json
from dataset_tools.submission import SubmissionFormat
from dataset_tools.table import Competition

_FILES = coco_json.year_files(2017)

COMPETITION = Competition(
    name="inat2017",
    read=functools.partial(coco_json.read_splits, split_files=_FILES),
    fingerprint=functools.partial(coco_json.fingerprint, names=coco_json.file_names(_FILES)),
    metric="top5_error",
    submission=SubmissionFormat(columns=("id", "predicted"), answers=5),
    places="{split}2017_locations.json",
)
