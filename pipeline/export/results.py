"""What identify.py found, as text, JSON, CSV and in the format of MegaDetector's batch output, which Timelapse reads."""

import collections
import csv
import dataclasses
import io
import json
import sys
from typing import Any, Optional, Sequence

from pipeline import files
from pipeline.export.description import UNKNOWN, Description
from pipeline.export.photographs import Where
from pipeline.export.roll_up import Taxon
from pipeline.export.served import Answers

STDOUT = "-"
MEGADETECTOR_FORMAT = "1.4"
_ANIMAL = "1"  # the detection category of what is in the picture; it is not looked for, so the box is the whole
_CHANGE = 0.005  # of a probability, below which place and date have changed nothing that a person would see


@dataclasses.dataclass(frozen=True)
class Found:
    """One picture; `error` is why it could not be read, where it could not."""

    path: str
    where: Where = Where()
    answers: Optional[Answers] = None
    taxon: Optional[Taxon] = None
    error: str = ""


def write(path: str, content: str) -> None:
    """To a file, or to stdout."""
    if path == STDOUT:
        sys.stdout.write(content)
    else:
        files.write_whole(path, content)


def as_text(one: Found, told: Description, rolls_up: bool) -> str:
    """A heading and a line for each answer."""
    heading = f"{one.path}{_where(one.where)}"
    chosen = [answer for answer in one.answers.best if answer.answered]
    lines = [heading, *(_line(answer, one, told) for answer in chosen)]
    if _changed(one, told) and one.answers.first_without_place != chosen[0].name:
        lines.append(f"  without place and date: {one.answers.first_without_place}")
    if rolls_up:
        lines.append(f"  {one.taxon.rank}: {one.taxon.name} ({one.taxon.probability:.3f})" if one.taxon else
                     "  no rank is sure enough")
    return "\n".join(lines) + "\n"


def _where(where: Where) -> str:
    parts = [f"{where.latitude:.4f}, {where.longitude:.4f}"] if where.has_place else []
    parts += [where.date.isoformat()] if where.date else []
    return f" ({'; '.join(parts)})" if parts else ""


def _changed(one: Found, told: Description) -> bool:
    return told.place and one.where.has_place


def _line(answer, one: Found, told: Description) -> str:
    line = f"  {answer.probability:.3f}  {answer.name}"
    if not _changed(one, told):
        return line
    change = answer.probability - answer.without_place
    by = "place and date" if told.date and one.where.date else "place"
    return f"{line}  ({answer.without_place:.3f} before {by})" if abs(change) >= _CHANGE else line


def _fields(one: Found) -> dict[str, Any]:
    date = one.where.date.isoformat() if one.where.date else None
    return {"file": one.path, "latitude": one.where.latitude, "longitude": one.where.longitude, "date": date}


def as_json(found: Sequence[Found], told: Description, model: str) -> str:
    pictures = []
    for one in found:
        fields = _fields(one)
        if one.answers:
            fields["answers"] = [{name: value for name, value in dataclasses.asdict(answer).items() if name != "index"}
                                 for answer in one.answers.best]
        fields["taxon"] = dataclasses.asdict(one.taxon) if one.taxon else None
        pictures.append({**fields, "error": one.error or None})
    return json.dumps({"model": model, "competition": told.competition, "pictures": pictures}, indent=1,
                      ensure_ascii=False) + "\n"


def as_csv(found: Sequence[Found], told: Description) -> str:
    """A row a picture, with the answers side by side."""
    numbers = range(1, told.answers + 1)
    names = [f"{name}_{number}" for number in numbers for name in ("id", "name", "probability", "without_place")]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", "latitude", "longitude", "date", *names, "rank", "taxon", "taxon_probability",
                                   "error"], lineterminator="\n")
    writer.writeheader()
    for one in found:
        answers = one.answers.best if one.answers else ()
        cells = {f"{name}_{number}": getattr(answer, name) for number, answer in zip(numbers, answers)
                 for name in ("id", "name", "probability", "without_place")}
        taxon = one.taxon and {"rank": one.taxon.rank, "taxon": one.taxon.name, "taxon_probability": one.taxon.probability}
        writer.writerow({**_fields(one), **cells, **(taxon or {}), "error": one.error})
    return text.getvalue()


def as_megadetector(found: Sequence[Found], relative: Sequence[str], told: Description, model: str, rolls_up: bool) -> str:
    """The whole picture as one detection with its classifications, best first; where ranks are rolled up the taxon alone.

    Args: relative: the paths from the folder that Timelapse is opened in.
    """
    categories = _Categories(told)
    images = []
    for one, path in zip(found, relative):
        if one.error:
            images.append({"file": path, "detections": None, "failure": one.error})
            continue
        classified = ([[categories.of_taxon(one.taxon), one.taxon.probability]] if one.taxon else []) if rolls_up else [
            [categories.of_class(answer.index), answer.probability] for answer in one.answers.best if answer.answered]
        images.append({"file": path, "detections": [{"category": _ANIMAL, "conf": 1.0, "bbox": [0.0, 0.0, 1.0, 1.0],
                                                     "classifications": classified}]})
    content = {"info": {"format_version": MEGADETECTOR_FORMAT, "detector": "none (whole pictures)", "classifier": model},
               "detection_categories": {_ANIMAL: "animal"}, "classification_categories": categories.texts, "images": images}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


class _Categories:
    """Numbers as text for classes, the unknown answer, and taxa as they occur."""

    def __init__(self, told: Description):
        names = [one.name for one in told.classes]
        twice = {name for name, count in collections.Counter(names).items() if count > 1}
        self.texts = {str(one.index): f"{one.name} ({one.source_id})" if one.name in twice else one.name
                      for one in told.classes}
        self._unknown = str(len(names))
        if told.unknown_answer:
            self.texts[self._unknown] = told.unknown_answer
        self._taxa: dict[tuple[str, str], str] = {}

    def of_class(self, index: int) -> str:
        return self._unknown if index == UNKNOWN else str(index)

    def of_taxon(self, taxon: Taxon) -> str:
        key = (taxon.rank, taxon.name)
        if key not in self._taxa:
            self._taxa[key] = str(len(self.texts))
            self.texts[self._taxa[key]] = taxon.name
        return self._taxa[key]
