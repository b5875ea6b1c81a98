"""Pictures in folders: a class per sub-folder, or splits (train, val, test) of such.

- `train/<class>/**`, `val/<class>/**`, `test/**`: where there is a sub-folder `train`;
- `<class>/**`: all of it train;
- loose pictures in a folder without sub-folders: one class named after the folder.
"""

import hashlib

from absl import logging

from dataset_tools import files
from dataset_tools.submission import SubmissionFormat
from dataset_tools.table import Competition, Example, Rejected, Table, make_examples
from pipeline.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_SPLIT_FOLDERS = ("train", "val", "test")


def _pictures(data_dir: str) -> list[files.FileStat]:
    if not files.is_folder(data_dir):
        raise UserError(f"the data folder {data_dir} does not exist")
    found = [one for one in files.walk_files(data_dir) if one.path.lower().endswith(ENDINGS)]
    if not found:
        raise UserError(f"no pictures ({', '.join(ENDINGS)}) in the data folder {data_dir}")
    return found


def _split_and_class(path: str, has_splits: bool) -> tuple[str, str]:
    """(split, class folder) of a picture; '' where it lies in none."""
    parts = path.split("/")
    if not has_splits:
        return "train", parts[0] if len(parts) > 1 else ""
    split = parts[0] if len(parts) > 1 and parts[0] in _SPLIT_FOLDERS else ""
    return split, parts[1] if len(parts) > 2 else ""


def read(data_dir: str) -> Table:
    paths = [one.path for one in _pictures(data_dir)]
    if not any("/" in path for path in paths):
        name = data_dir.rstrip("/").rsplit("/", 1)[-1]
        return Table(make_examples([Example(path, "train", path, (0,)) for path in paths]), [(name, name)])
    has_splits = any(path.startswith("train/") for path in paths)
    placed = [(path, *_split_and_class(path, has_splits)) for path in paths]
    names = sorted({name for _, split, name in placed if split == "train" and name})
    if not names:
        raise UserError(f"the pictures of {data_dir}/train lie in no class folders")
    index_of = {name: index for index, name in enumerate(names)}
    rows, rejected = [], []
    for path, split, name in placed:
        if split == "val" and name and name not in index_of:
            raise UserError(f"{data_dir}/val has the class {name!r}, which {data_dir}/train has not")
        labels = (index_of[name],) if name in index_of else ()
        if split and (labels or split == "test"):
            rows.append(Example(path, split, path, labels))
        else:
            reason = "in no class folder" if split else "in none of train, val, test"
            rejected.append(Rejected(path, split or "train", path, (), reason))
    logging.info("%d classes in the folders of %s", len(names), data_dir)
    return Table(make_examples(rows), [(name, name) for name in names], rejected=tuple(rejected))


def fingerprint(data_dir: str) -> str:
    """A digest over names, sizes and times: reading every picture would take as long as the work itself."""
    digest = hashlib.sha256()
    for one in _pictures(data_dir):
        digest.update(f"{one.path}\0{one.size}\0{one.mtime_ns}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


COMPETITION = Competition(
    name="folder",
    read=read,
    fingerprint=fingerprint,
    metric="top1_error",
    submission=SubmissionFormat(columns=("id", "predicted"), answers=1),
)
