"""Numbers and places as exports write them, to degrees.

A number may be text (10.5), with a decimal comma (10,5) or a true minus sign. Longitudes may run from 0 to 360. What is no
place on Earth is unknown, counted and told: no numbers, beyond the poles, half of a pair; and (0, 0), which is in the sea and
what exports write for an unknown place.
"""

import math
import re
from typing import Any, Iterable, Optional

from dataset_tools.dates import is_absent
from dataset_tools.unread import Unread

NOWHERE = (math.nan, math.nan)
_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)(e[+-]?[0-9]+)?", re.I)
_WHAT = "places"
_CANT = "can't be read"
_BEYOND = "are not on Earth"
_SWAPPED = "are not on Earth (are latitude and longitude exchanged?)"
_HALF = "have one of latitude and longitude alone"
_NULL = "are (0, 0), taken as unknown"


def number(value: Any) -> Optional[float]:
    """A finite number; None where it is none."""
    if isinstance(value, bool):
        return None
    if not isinstance(value, str):
        try:
            found = float(value)
        except (TypeError, ValueError):
            return None
        return found if math.isfinite(found) else None
    text = value.strip().replace("\u2212", "-")
    if not _NUMBER.fullmatch(text):
        return None
    found = float(text.replace(",", "."))
    return found if math.isfinite(found) else None


def share_of_year(value: Any) -> float:
    """A number in [0, 1], as iNaturalist's location files have dates; NaN where it is none."""
    found = None if is_absent(value) else number(value)
    return math.nan if found is None or not 0 <= found <= 1 else found


def read(pairs: Iterable[tuple[Any, Any]], unread: Unread) -> tuple[list[tuple[float, float]], int]:
    """((latitude, longitude) in degrees, both NaN where unknown; how many pairs hold something).

    Args: `unread` gets what they are that can't be taken.
    """
    found, there = [], 0
    for pair in pairs:
        absent = [is_absent(one) for one in pair]
        if all(absent):
            found.append(NOWHERE)
            continue
        there += 1
        place, wrong = (NOWHERE, _HALF) if any(absent) else _place(*map(number, pair))
        if wrong:
            unread.add(_WHAT, wrong, tuple(pair))
        found.append(place)
    return found, there


def _place(latitude: Optional[float], longitude: Optional[float]) -> tuple[tuple[float, float], str]:
    """(the place, what is wrong with it)."""
    if latitude is None or longitude is None:
        return NOWHERE, _CANT
    if not -90 <= latitude <= 90 or not -180 <= longitude <= 360:
        exchanged = -90 <= longitude <= 90 and -180 <= latitude <= 180
        return NOWHERE, _SWAPPED if exchanged else _BEYOND
    if latitude == longitude == 0:
        return NOWHERE, _NULL
    return (latitude, longitude - 360 if longitude > 180 else longitude), ""
