"""What is to be said of a data folder when its shards are written: the notes of a manifest."""

import collections
import os
from typing import Iterator, Sequence

from absl import logging

from dataset_tools import files, picture_files, words
from dataset_tools.table import MISSING, Rejected, Table
from pipeline.records import schema

_TABLES = (".json", ".csv")
_DEPTH = 3  # folders that archives put around their files


def of(data_dir: str, table: Table, rejected: Sequence[Rejected], damaged: Sequence[tuple[str, str]],
       classes: Sequence[schema.ClassInfo]) -> list[str]:
    """Sentences about pictures that were set aside, are damaged, or that nothing names; and about empty classes."""
    return [*of_rejected(rejected), *_missing(data_dir, rejected), *of_damaged(damaged), *_empty(classes),
            *_unnamed(data_dir, table)]


def of_rejected(rejected: Sequence[Rejected]) -> list[str]:
    """A note of how many pictures were set aside for what."""
    counts = collections.Counter(one.reason.partition(":")[0] for one in rejected if one.split)
    told = [f"{reason} {count:,}" for reason, count in counts.most_common(6)]
    if len(counts) > len(told):
        told.append("other reasons " + f"{sum(counts.values()) - sum(count for _, count in counts.most_common(6)):,}")
    return [f"set aside: {', '.join(told)}"] if told else []


def _missing(data_dir: str, rejected: Sequence[Rejected]) -> list[str]:
    """A note where what is missing lies in another folder than the table says."""
    first = next((one for one in rejected if one.reason == MISSING), None)
    where = first and lies_elsewhere(data_dir, first)
    return [f"{first.path} is missing{where}"] if where else []


def of_damaged(damaged: Sequence[tuple[str, str]]) -> list[str]:
    """A note of pictures (path, the decoder's remark) that were taken as far as they go."""
    if not damaged:
        return []
    what = words.count(len(damaged), "picture may be damaged and is", "pictures may be damaged and are")
    named = words.some([f"{path} ({remark})" for path, remark in damaged])
    return [f"{what} taken as decoded, in part gray or of wrong colours perhaps: {named}"]


def _empty(classes: Sequence[schema.ClassInfo]) -> list[str]:
    empty = [one.name for one in classes if not one.train_count]
    what = words.count(len(empty), "class has", "classes have")
    return [f"{what} no usable picture in train: {words.some(empty)}"] if empty else []


def _unnamed(data_dir: str, table: Table) -> list[str]:
    """A note of pictures in the data folder that no table of the competition names."""
    if files.is_remote(data_dir):
        logging.info("pictures that no table names are not looked for in %s: listing it would take long", data_dir)
        return []
    named = {*table.examples["path"], *(one.path for one in table.rejected)}
    unnamed = sorted(path for path in _pictures_below(data_dir) if path not in named)
    if not unnamed:
        return []
    what = words.count(len(unnamed), "picture lies", "pictures lie")
    return [f"{what} in {data_dir} that no table names: {words.some(unnamed)}"]


def _pictures_below(root: str) -> Iterator[str]:
    """By name; no file is looked at, since there may be millions."""
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in names:
            path = name if relative == "." else f"{relative}/{name}"
            if picture_files.ending_of(name) in picture_files.endings() and not name.startswith(".") and (
                    not picture_files.is_system(path)):
                yield path


def lies_elsewhere(data_dir: str, first: Rejected) -> str:
    """What may be said of a picture that is missing where the table has it: in which folder it is; '' where in none."""
    if first.reason != MISSING:
        return ""
    for name in files.list_names(data_dir):
        if files.size_of(files.join(data_dir, name, first.path)) is not None:
            return f" (it is in {files.join(data_dir, name)}: move what is in that folder up)"
    return ""


def tables_elsewhere(data_dir: str) -> str:
    """What may be said where a competition's tables are not in its folder: in which one below they are; '' in none."""
    if not files.is_folder(data_dir) or _has_tables(data_dir):
        return ""
    folder = next(filter(_has_tables, _folders_below(data_dir, _DEPTH)), None)
    return f"; there are tables in {folder}: is that the one, --data_dir={folder}?" if folder else ""


def _has_tables(folder: str) -> bool:
    return any(picture_files.ending_of(name) in _TABLES for name in files.list_names(folder))


def _folders_below(folder: str, depth: int) -> Iterator[str]:
    inner = [files.join(folder, name) for name in files.list_names(folder) if not name.startswith(".")]
    inner = [one for one in inner if depth and not picture_files.is_system(one) and files.is_folder(one)]
    yield from inner
    for one in inner:
        yield from _folders_below(one, depth - 1)
