"""Reads iNaturalist's COCO-style JSON, of any year, into a table."""

import codecs
import dataclasses
import hashlib
import math
import re
from typing import Any, Iterable, Optional, Sequence

from absl import logging

from dataset_tools import dates, files, places
from dataset_tools.table import Example, MissingTable, Rejected, SPLITS, Table, make_examples
from dataset_tools.unread import Unread
from pipeline.errors import UserError
from pipeline.files import parse_json
from pipeline.records.schema import RANKS


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
    unread: list[str] = []
    taxonomy: list[dict[str, str]] = []
    present.sort(key=lambda one: SPLITS.index(one.split))
    for one in present:
        reader = _SplitReader(data_dir, one)
        if not classes:  # train comes first: the model knows what train knows
            classes, taxonomy = reader.classes(), reader.taxonomy()
        index_of = {source_id: index for index, (source_id, _) in enumerate(classes)}
        reader.read(index_of, f"the categories of {present[0].file}", rows, rejected)
        unread += reader.unread
    for one in split_files:
        if one not in present and not one.split.startswith("train"):
            logging.info("no %s in %s: there will be no %s split", one.file, data_dir, one.split)
    for line in unread:
        logging.warning("%s", line)
    return Table(make_examples(rows), classes, taxonomy, rejected=tuple(rejected), unread=tuple(unread))


def load_json(path: str) -> Any:
    """Raises UserError where the file is missing or no JSON."""
    try:
        return parse_json(files.read_bytes(path).removeprefix(codecs.BOM_UTF8))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"can't read {path}: {error}") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError(f"{path} is not valid JSON: {error}") from error


class _SplitReader:
    """Reads one JSON file; every complaint names it."""

    def __init__(self, data_dir: str, split_file: SplitFile):
        self.unread: list[str] = []
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
        return [(str(source_id), str(entry.get("name") or source_id)) for source_id, entry in self._categories()]

    def taxonomy(self) -> list[dict[str, str]]:
        """By class the name of each rank that its category tells; where it tells some, its own name is the species."""
        found = []
        for _, entry in self._categories():
            ranks = {rank: str(entry[rank]) for rank in RANKS if entry.get(rank)}
            found.append({**ranks, **({"species": str(entry["name"])} if ranks and entry.get("name") else {})})
        return found if any(found) else []

    def _categories(self) -> list[tuple[int, dict]]:
        categories = {}
        for entry in self._list("categories"):
            source_id = self._field(entry, "id", "a category")
            text = _id_text(source_id)
            if isinstance(source_id, bool) or not re.fullmatch("-?[0-9]+", text):
                raise self._error(f"has the category id {source_id!r}, which is no integer")
            if int(text) in categories:
                raise self._error(f"has category {text} twice")
            categories[int(text)] = entry
        if not categories:
            raise self._error("has no categories")
        return sorted(categories.items())

    def read(self, index_of: dict[str, int], known: str, rows: list[Example], rejected: list[Rejected]) -> None:
        """Appends the split's examples, and those that have no usable label; `known` says what `index_of` holds."""
        images = self._images()
        located = self._located(images)
        if self._split == "test":
            rows.extend(self._example(one, images, located, ()) for one in images)
            return
        labels = self._labels(images, index_of, known)
        for source_id, image in images.items():
            found = labels.get(source_id, ())
            if len(found) == 1:
                rows.append(self._example(source_id, images, located, found))
            else:
                reason = "annotated with several categories" if found else "not annotated"
                rejected.append(Rejected(source_id, self._split, str(image["file_name"]), found, reason))

    def _images(self) -> dict[str, dict]:
        images = {}
        for image in self._list("images"):
            source_id = _id_text(self._field(image, "id", "an image"))
            self._field(image, "file_name", "an image")
            if source_id in images:
                raise self._error(f"has image {source_id} twice")
            images[source_id] = image
        return images

    def _labels(self, images: dict[str, dict], index_of: dict[str, int], known: str) -> dict[str, tuple[int, ...]]:
        """Sorted distinct class indices by image id."""
        labels: dict[str, tuple[int, ...]] = {}
        for annotation in self._list("annotations"):
            image = _id_text(self._field(annotation, "image_id", "an annotation"))
            category = _id_text(self._field(annotation, "category_id", "an annotation"))
            if image not in images:
                raise self._error(f"annotates image {image}, which is not among its images")
            if category not in index_of:
                raise self._error(f"gives image {image} the category {category}, which is not among {known}")
            labels[image] = tuple(sorted({*labels.get(image, ()), index_of[category]}))
        return labels

    def _example(self, source_id: str, images: dict[str, dict], located: dict[str, tuple],
                 labels: tuple[int, ...]) -> Example:
        return Example(source_id, self._split, str(images[source_id]["file_name"]), labels,
                       *located.get(source_id, _NOWHERE))

    def _located(self, images: dict[str, dict]) -> dict[str, tuple]:
        """(latitude, longitude, date, user) by image id, of the images or of the file that holds them."""
        if self._places is not None:
            return self._places
        unread = Unread(self._path)
        pairs, placed = places.read(((one.get("latitude"), one.get("longitude")) for one in images.values()), unread)
        days, dated = dates.read([one.get("date") for one in images.values()], unread)
        self.unread += unread.lines({"places": placed, "dates": dated})
        return {source_id: (*pair, day, _user(image))
                for (source_id, image), pair, day in zip(images.items(), pairs, days)}

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
        unread = Unread(path)
        pairs, placed = places.read(((one.get("lat"), one.get("lon")) if one.get("valid") in _VALID else (None, None)
                                     for one in entries), unread)
        found, dated = {}, 0
        for entry, pair in zip(entries, pairs):
            told = entry.get("date_c")
            day = places.share_of_year(told)
            if not dates.is_absent(told):
                dated += 1
                if math.isnan(day):
                    unread.add("dates", "are no share of the year, from 0 to 1", told)
            found[_id_text(entry["id"])] = (*pair, day, _user(entry))
        self.unread += unread.lines({"places": placed, "dates": dated})
        return found


_NOWHERE = (math.nan, math.nan, math.nan, "")
_VALID = (None, True, 1, "1", "true", "True")


def _id_text(value: Any) -> str:
    """An id as text, alike whether a file has it as 3, "3" or (after a detour through a table) 3.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _user(entry: dict) -> str:
    user = entry.get("user_id")
    return "" if user is None else _id_text(user)
