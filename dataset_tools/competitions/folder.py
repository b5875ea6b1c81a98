"""Pictures in folders: a class per sub-folder, or splits (train, val, test) of such.

- `train/<class>/**`, `val/<class>/**`, `test/**`: where there is a folder that means train, in any usual spelling;
- `<class>/**`: all of it train; `<class>/train/**`: splits below the classes;
- one folder around all of that does not count;
- loose pictures in a folder without sub-folders: one class named after the folder.
"""

import hashlib
from typing import Iterator, Sequence

from absl import logging

from dataset_tools import files, folder_layout, picture_files, words
from dataset_tools.submission import SubmissionFormat
from dataset_tools.table import Competition, Example, Rejected, Table, make_examples
from pipeline.errors import UserError


def _walk(data_dir: str) -> files.Walk:
    if not files.is_folder(data_dir):
        raise UserError(f"the data folder {data_dir} does not exist")
    found = files.walk(data_dir)
    return found._replace(files=[one for one in found.files if not picture_files.is_system(one.path)],
                          folders=[one for one in found.folders if not picture_files.is_system(one)],
                          hidden=[one for one in found.hidden if not picture_files.is_system(one)])


def read(data_dir: str) -> Table:
    """Raises UserError where there are no pictures, or folders can't be told apart."""
    walk = _walk(data_dir)
    paths, others = [], []
    for one in walk.files:
        taken = picture_files.may_be_picture(one.path) and picture_files.is_picture(data_dir, one.path)
        (paths if taken else others).append(one.path)
    if not paths:
        there = f"; it holds {words.count(len(others), 'other file')} ({picture_files.by_ending(others)})" if others else ""
        raise UserError(f"no pictures in the data folder {data_dir}{there}")
    passed_over = _passed_over(others, walk.hidden)
    apart = tuple(Rejected(path, "", path, (), "not a picture") for path in others)
    if not any("/" in path for path in paths):
        name = data_dir.rstrip("/").rsplit("/", 1)[-1]
        return Table(make_examples([Example(path, "train", path, (0,)) for path in paths]), [(name, name)], rejected=apart,
                     notes=(*passed_over, *folder_layout.warnings_of([name])))
    layout = folder_layout.understand(data_dir, paths)
    if not layout.classes:
        raise UserError(f"the pictures of {files.join(data_dir, layout.roots[-1])} lie in no class folders")
    rows, rejected = _placed(data_dir, paths, layout)
    logging.info("%s in the folders of %s", words.count(len(layout.classes), "class", "classes"), data_dir)
    return Table(make_examples(rows), [(name, name) for name in layout.classes], rejected=(*rejected, *apart),
                 notes=(*layout.notes, *_empty_folders(walk.folders, paths, layout.roots), *passed_over))


def _placed(data_dir: str, paths: Sequence[str], layout: folder_layout.Layout) -> tuple[list[Example], list[Rejected]]:
    """(examples, pictures that lie where no class or split is)."""
    index_of = {name: index for index, name in enumerate(layout.classes)}
    rows, rejected = [], []
    for path, (split, name) in zip(paths, layout.places):
        if split == "val" and name and name not in index_of:
            raise UserError(f"{data_dir}: val has the class {name!r}, which train has not ({path})")
        labels = (index_of[name],) if name in index_of else ()
        if split and (labels or split == "test"):
            rows.append(Example(path, split, path, labels))
        else:
            reason = "in no class folder" if split else "in none of train, val, test"
            rejected.append(Rejected(path, split or "train", path, (), reason))
    return rows, rejected


def _empty_folders(folders: Sequence[str], paths: Sequence[str], roots: Sequence[str]) -> list[str]:
    """A note where a folder among those of the splits or classes holds no picture."""
    occupied = {parent for path in paths for parent in _parents(path)}
    empty = [one for one in folders if one.rpartition("/")[0] in roots and one not in occupied]
    return [f"{words.count(len(empty), 'folder holds', 'folders hold')} no picture: {words.some(empty)}"] if empty else []


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _passed_over(others: Sequence[str], hidden: Sequence[str]) -> list[str]:
    """Notes of what was not taken (system files apart)."""
    notes = []
    if others:
        notes.append(f"{words.count(len(others), 'file is no picture', 'files are no pictures')} "
                     f"({picture_files.by_ending(others)}): {words.some(others)}")
    if hidden:
        what = words.count(len(hidden), "hidden file or folder is", "hidden files and folders are")
        notes.append(f"{what} passed over: {words.some(hidden)}")
    return notes


def fingerprint(data_dir: str) -> str:
    """A digest over names, sizes and times: reading every picture would take as long as the work itself."""
    digest = hashlib.sha256()
    for one in _walk(data_dir).files:
        if picture_files.may_be_picture(one.path):
            digest.update(f"{one.path}\0{one.size}\0{one.mtime_ns}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


COMPETITION = Competition(
    name="folder",
    read=read,
    fingerprint=fingerprint,
    metric="top1_error",
    submission=SubmissionFormat(columns=("id", "predicted"), answers=1),
)
