"""Pictures as people bring them to be identified: files and folders, and what EXIF tells of place and date."""

import dataclasses
import datetime
import math
import os
from typing import Any, Optional, Sequence

from PIL import Image

from pipeline import files
from pipeline.errors import UserError
from pipeline.pictures import upright
from pipeline.pictures.bad import BadImage, parsing

# EXIF tags.
_GPS, _EXIF = 0x8825, 0x8769
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4
_TAKEN, _DIGITIZED = 36867, 36868


@dataclasses.dataclass(frozen=True)
class Where:
    """Place in degrees and day of a picture; None: unknown."""

    latitude: Optional[float] = None
    longitude: Optional[float] = None
    date: Optional[datetime.date] = None

    @property
    def has_place(self) -> bool:
        return self.latitude is not None and self.longitude is not None

    def over(self, other: "Where") -> "Where":
        """What is known here, and the rest from another; a place goes as a whole."""
        place = self if self.has_place else other
        return Where(place.latitude, place.longitude, self.date or other.date)


def find(paths: Sequence[str]) -> list[str]:
    """The files of paths, and those under folders that are named as pictures, sorted. Raises UserError where a path is not
    there, or there is no picture."""
    found: list[str] = []
    for path in paths:
        if not files.exists(path):
            raise UserError(f"{path} does not exist")
        found += _under(path) if os.path.isdir(path) else [path]
    if not found:
        raise UserError(f"no pictures under {', '.join(paths)}")
    return list(dict.fromkeys(found))


def _under(folder: str) -> list[str]:
    found = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]  # such as .thumbnails
        found += [os.path.join(root, name) for name in names if is_named_as_picture(name)]
    return sorted(found)


def is_named_as_picture(name: str) -> bool:
    """By its ending; what is hidden is none."""
    return os.path.splitext(name)[1].lower() in Image.registered_extensions() and not name.startswith(".")


def relative_to_all(paths: Sequence[str], folders: Sequence[str]) -> list[str]:
    """The paths from the folder that holds them all (the one that was asked for, where it was one), with forward slashes."""
    tops = [one if os.path.isdir(one) else os.path.dirname(os.path.abspath(one)) for one in folders]
    top = os.path.commonpath([os.path.abspath(one) for one in tops])
    return [os.path.relpath(os.path.abspath(one), top).replace(os.sep, "/") for one in paths]


def exif(encoded: bytes) -> Where:
    """What the bytes of a picture tell; nothing where EXIF is absent or broken, which no picture dies of."""
    try:
        image = upright.open_header(encoded)
        with parsing("broken EXIF"):
            tags = image.getexif()
            latitude, longitude = _place(tags.get_ifd(_GPS))
            return Where(latitude, longitude, _day(tags.get_ifd(_EXIF)))
    except BadImage:
        return Where()


def _place(gps: dict[int, Any]) -> tuple[Optional[float], Optional[float]]:
    latitude = _degrees(gps.get(_LATITUDE), gps.get(_LATITUDE_REF), "S", 90)
    longitude = _degrees(gps.get(_LONGITUDE), gps.get(_LONGITUDE_REF), "W", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:  # as cameras write what they don't know
        return None, None
    return latitude, longitude


def _degrees(parts: Any, reference: Any, negative: str, most: float) -> Optional[float]:
    """Degrees, minutes and seconds as one number; None where they are none."""
    try:
        value = sum(float(part) / 60 ** power for power, part in enumerate(parts))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (math.isfinite(value) and 0 <= value <= most):
        return None
    return -value if str(reference).strip("\0 ").upper().startswith(negative) else value


def _day(tags: dict[int, Any]) -> Optional[datetime.date]:
    for tag in (_TAKEN, _DIGITIZED):
        try:
            return datetime.datetime.strptime(str(tags.get(tag, ""))[:10], "%Y:%m:%d").date()
        except ValueError:  # absent, or 0000:00:00
            continue
    return None
