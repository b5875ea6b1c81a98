"""Reads iNaturalist's COCO-style JSON, of any year, into a table."""

import dataclasses
import hashlib
import json
import math
from typing import Any, Iterable, Optional, Sequence

from absl import logging

from dataset_tools import files
from dataset_tools.table import (
    Example, MissingTable, Rejected, SPLITS, Table, fraction_of_year, make_examples, number_within, place)
from pipeline.errors import UserError


@dataclasses.dataclass(frozen=True)
class SplitFile:
    """One split's JSON, and the file that holds its places (None: the images hold them)."""

    split: str
    file: str
    locations: Optional[str] = None


def year_files(year: int) -> tuple[SplitFile, ...]:
    """The files of 2017, 2018 and 2019."""
    return tuple(SplitFile(split, f"{split}{year}.json", f"{split}{year}_locations.json")
                 for split in ("train", "val", "test"))


def fingerprint(data_dir: str, names: Iterable[str]) -> str:
    """A digest of those of the files that are there."""
    digest = hashlib.sha256()
    for name in names:
        path = files.join(data_dir, name)
        if files.size_of(path) is not None:
            digest.update(f"{name} {files.sha256_of(path)}\n".encode())
    return digest.hexdigest()


def file_names(split_files: Sequence[SplitFile]) -> list[str]:
    return [name for one in split_files for name in (one.file, one.locations) if name]


def read_splits(data_dir: str, split_files: Sequence[SplitFile]) -> Table:
    """Reads the splits that are there; one of those that train must be.

    Raises:
      UserError: naming the folder without a train file, or the file that is no such JSON.
    """
    present = [one for one in split_files if files.size_of(files.join(data_dir, one.file)) is not None]
    train = [one for one in present if one.split.startswith("train")]
    if not train:
        wanted = " or ".join(one.file for one in split_files if one.split.startswith("train"))
        raise MissingTable(f"no {wanted} in the data folder {data_dir}")
    classes: list[tuple[str, str]] = []
    rows: list[Example] = []
    rejected: list[Rejected] = []
    present.sort(key=lambda one: SPLITS.index(one.split))
    for one in present:
        reader = _SplitReader(data_dir, one)
        classes = classes or reader.classes()  # train comes first: the model knows what train knows
        index_of = {source_id: index for index, (source_id, _) in enumerate(classes)}
        reader.read(index_of, f"the categories of {present[0].file}", rows, rejected)
    for one in split_files:
        if one not in present and not one.split.startswith("train"):
            logging.info("no %s in %s: there will be no %s split", one.file, data_dir, one.split)
    return Table(make_examples(rows), classes, rejected=tuple(rejected))


def load_json(path: str) -> Any:
    """Raises UserError where the file is missing or no JSON."""
    try:
        return json.loads(files.read_bytes(path).decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"can't read {path}: {error}") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError(f"{path} is not valid JSON: {error}") from error


class _SplitReader:
    """Reads one JSON file; every complaint names it."""

    def __init__(self, data_dir: str, split_file: SplitFile):
        self._split = split_file.split
        self._path = files.join(data_dir, split_file.file)
        self._content = load_json(self._path)
        if not isinstance(self._content, dict):
            raise self._error("is not a JSON object")
        self._places = self._read_locations(data_dir, split_file.locations)

    def _error(self, what: str) -> UserError:
        return UserError(f"{self._path} {what}")

    def _list(self, key: str) -> list[dict]:
        entries = self._content.get(key)
        if not isinstance(entries, list):
            raise self._error(f"has no list '{key}'; is it a file of this competition?")
        return entries

    def _field(self, entry: Any, key: str, what: str) -> Any:
        if not isinstance(entry, dict) or entry.get(key) is None:
            raise self._error(f"has {what} without '{key}': {str(entry)[:80]}")
        return entry[key]

    def classes(self) -> list[tuple[str, str]]:
        """(source id, name) sorted by category id, as a number."""
        categories = {}
        for entry in self._list("categories"):
            source_id = self._field(entry, "id", "a category")
            if not isinstance(source_id, int):
                raise self._error(f"has the category id {source_id!r}, which is no integer")
            if source_id in categories:
                raise self._error(f"has category {source_id} twice")
            categories[source_id] = str(entry.get("name") or source_id)
        if not categories:
            raise self._error("has no categories")
        return [(str(source_id), name) for source_id, name in sorted(categories.items())]

    def read(self, index_of: dict[str, int], known: str, rows: list[Example], rejected: list[Rejected]) -> None:
        """Appends the split's examples, and those that have no usable label; `known` says what `index_of` holds."""
        images = self._images()
        if self._split == "test":
            rows.extend(self._example(image, ()) for image in images.values())
            return
        labels = self._labels(images, index_of, known)
        for source_id, image in images.items():
            found = labels.get(source_id, ())
            if len(found) == 1:
                rows.append(self._example(image, found))
            else:
                reason = "annotated with several categories" if found else "not annotated"
                rejected.append(Rejected(source_id, self._split, str(image["file_name"]), found, reason))

    def _images(self) -> dict[str, dict]:
        images = {}
        for image in self._list("images"):
            source_id = str(self._field(image, "id", "an image"))
            self._field(image, "file_name", "an image")
            if source_id in images:
                raise self._error(f"has image {source_id} twice")
            images[source_id] = image
        return images

    def _labels(self, images: dict[str, dict], index_of: dict[str, int], known: str) -> dict[str, tuple[int, ...]]:
        """Sorted distinct class indices by image id."""
        labels: dict[str, tuple[int, ...]] = {}
        for annotation in self._list("annotations"):
            image = str(self._field(annotation, "image_id", "an annotation"))
            category = str(self._field(annotation, "category_id", "an annotation"))
            if image not in images:
                raise self._error(f"annotates image {image}, which is not among its images")
            if category not in index_of:
                raise self._error(f"gives image {image} the category {category}, which is not among {known}")
            labels[image] = tuple(sorted({*labels.get(image, ()), index_of[category]}))
        return labels

    def _example(self, image: dict, labels: tuple[int, ...]) -> Example:
        source_id, path = str(image["id"]), str(image["file_name"])
        if self._places is not None:
            return Example(source_id, self._split, path, labels, *self._places.get(source_id, _NOWHERE))
        user = image.get("user_id")
        return Example(source_id, self._split, path, labels, *place(image.get("latitude"), image.get("longitude")),
                       fraction_of_year(image.get("date")), "" if user is None else str(user))

    def _read_locations(self, data_dir: str, name: Optional[str]) -> Optional[dict[str, tuple]]:
        """(latitude, longitude, date, user) by image id; None where the competition keeps places in the images."""
        if name is None:
            return None
        path = files.join(data_dir, name)
        if files.size_of(path) is None:
            return {}
        entries = load_json(path)
        if not isinstance(entries, list) or not all(isinstance(one, dict) and "id" in one for one in entries):
            raise UserError(f"{path} is not a list of places, each with an 'id'")
        return {str(one["id"]): _location(one) for one in entries}


_NOWHERE = (math.nan, math.nan, math.nan, "")


def _location(entry: dict) -> tuple[float, float, float, str]:
    valid = entry.get("valid") in (None, True, 1)
    here = place(entry.get("lat"), entry.get("lon")) if valid else (math.nan, math.nan)
    user = entry.get("user_id")
    return (*here, number_within(entry.get("date_c"), 0, 1), "" if user is None else str(user))
