"""iNaturalist 2021: COCO-style JSON with place and date in the image. Scored by top-1, though a row has five ids."""

import functools

from dataset_tools import coco_json
from dataset_tools.coco_json import SplitFile
from dataset_tools.submission import SubmissionFormat
from dataset_tools.table import Competition

FILES = (SplitFile("train", "train.json"), SplitFile("train_mini", "train_mini.json"),
         SplitFile("val", "val.json"), SplitFile("test", "public_test.json"))

COMPETITION = Competition(
    name="inat2021",
    read=functools.partial(coco_json.read_splits, split_files=FILES),
    fingerprint=functools.partial(coco_json.fingerprint, names=coco_json.file_names(FILES)),
    metric="top1_error",
    submission=SubmissionFormat(columns=("Id", "Predicted"), answers=5),
    places="{split}.json",
)
