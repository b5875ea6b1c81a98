"""A table of one's own with pictures that colour tells apart, in groups, with places and dates, for tests."""

import csv
import pathlib
from typing import Any, Iterable, Sequence

import numpy as np

from raw_data import encode, write

LABELS = ("Apus apus", "Bufo bufo", "Cygnus olor")


def picture(number: int, label: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 130, (30, 40, 3), dtype=np.uint8)
    pixels[..., label] += 100
    return encode(pixels, quality=95)


def rows(count: int = 48, test: int = 6) -> list[dict[str, Any]]:
    """Rows with the columns path, label, group, latitude, longitude, date and user: groups of four pictures."""
    found = []
    for number in range(count + test):
        label = number % 3
        found.append({"path": f"pictures/{number}.jpg", "label": LABELS[label] if number < count else "",
                      "group": f"camera {number // 4}", "latitude": 10 + 20 * label, "longitude": 350 - 40 * label,
                      "date": f"2019-{3 * label + 1:02d}-15", "user": f"u{number % 5}"})
    return found


def write_csv(path: pathlib.Path, found: Sequence[dict[str, Any]], columns: Iterable[str] = (), delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns) or list(found[0]), delimiter=delimiter, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(found)


def make(folder: pathlib.Path, **counts: int) -> list[dict[str, Any]]:
    """table.csv and its pictures; returns the rows."""
    found = rows(**counts)
    for number, one in enumerate(found):
        write(folder / one["path"], picture(number, number % 3))
    write_csv(folder / "table.csv", found)
    return found
