"""Dates as exports write them, to fractions of the year.

Read: 2019-05-04 with -, /, . or : between its parts, padded or not, 20190504, 2019-124 (day of the year), 2019-W18-6, and
with the month by its English name; each with a time and a zone behind it, which don't change the day (it is the local one).
04/05/2019 is read where it is told which comes first, day or month: by itself (05/05/2019), or by another date of the column
with the same separator that has a part above 12 (and none that tells otherwise). An interval of at most a month (GBIF) counts
as its middle. What names no day (2019-05), is ambiguous, or is none of these is unknown, counted and told.
"""

import collections
import datetime
import functools
import math
import re
from typing import Any, Callable, Iterable, Optional, Sequence

from dataset_tools.unread import Unread

ABSENT = frozenset(("", "na", "n/a", "nan", "nat", "none", "null", "\\n", "-", "unknown"))  # what exports write for nothing

_WHAT = "dates"
_CANT = "can't be read (write 2020-02-29)"
_NO_DAY = "name no day"
_LONG = "are intervals of more than a month"
_AMBIGUOUS = "may have the day or the month first (write 2020-02-29)"
_MOST_DAYS = 31  # of an interval

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = "(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\\.?"
# A time, and a zone: 12:00, 12:00:00.5 PM, 120000Z, UTC, +02:00, GMT-0700 (PDT).
_TIME = r"(?:(?:T|\s|,)\s*[0-9]{1,2}(?::?[0-9]{2}){0,2}(?:[.,][0-9]+)?(?:\s*[ap]\.?m\.?)?)?"
_ZONE = r"(?:\s*(?:Z|[A-Z]{2,5})?\s*(?:[+-][0-9]{2}(?::?[0-9]{2})?)?(?:\s*\([^)]*\))?)"
_REST = f"{_TIME}{_ZONE}$"
_YEAR_FIRST = re.compile(r"(?P<year>[0-9]{4})(?P<sep>[-/.:])(?P<month>[0-9]{1,2})(?P=sep)(?P<day>[0-9]{1,2})" + _REST, re.I)
_DIGITS = re.compile(r"(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})" + _REST, re.I)
_DAY_OF_YEAR = re.compile(r"(?P<year>[0-9]{4})-(?P<day>[0-9]{3})" + _REST, re.I)
_WEEK = re.compile(r"(?P<year>[0-9]{4})-?W(?P<week>[0-9]{2})-?(?P<day>[1-7])" + _REST, re.I)
_YEAR_LAST = re.compile(r"(?P<first>[0-9]{1,2})(?P<sep>[-/.])(?P<second>[0-9]{1,2})(?P=sep)(?P<year>[0-9]{4})" + _REST, re.I)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*[.,]*\s+)?"
_NAMED = tuple(re.compile(_WEEKDAY + one + _REST, re.I) for one in (
    rf"{_MONTH}\s+(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>[0-9]{{4}})",
    rf"(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?[-\s]+{_MONTH}[-,\s]+(?P<year>[0-9]{{4}})",
    rf"(?P<year>[0-9]{{4}})[-/\s]{_MONTH}[-/\s](?P<day>[0-9]{{1,2}})"))
# Sat May 04 2019 12:00:00 GMT-0700, and with the year behind the time, as ctime has it.
_CTIME = re.compile(_WEEKDAY + rf"{_MONTH}\s+(?P<day>[0-9]{{1,2}})\s+[0-9:]+\s+(?:[A-Z]{{2,5}}\s+)?(?:[+-][0-9]{{4}}\s+)?"
                    r"(?P<year>[0-9]{4})$", re.I)
_WITHOUT_DAY = re.compile(rf"[0-9]{{4}}([-/.][0-9]{{1,2}}([-/.]0{{1,2}})?)?$|{_MONTH}\s+[0-9]{{4}}$"
                          r"|[0-9]{4}(-[0-9]{2})?/[0-9]{4}(-[0-9]{2})?$", re.I)
DAY_FIRST, MONTH_FIRST = "day", "month"


def fraction_of_year(day: datetime.date) -> float:
    """Day of the year / (366 in a leap year, else 365)."""
    leap = day.year % 4 == 0 and (day.year % 100 != 0 or day.year % 400 == 0)
    return day.timetuple().tm_yday / (366 if leap else 365)


def is_absent(value: Any) -> bool:
    """Whether a field holds nothing: null, NaN, empty, or a word that stands for it."""
    if value is None or isinstance(value, float) and math.isnan(value):
        return True
    return str(value).strip().lower() in ABSENT


def read(values: Sequence[Any], unread: Unread) -> tuple[list[float], int]:
    """(fractions of the year, NaN where unknown; how many values there are).

    Args: values: of one column, texts mostly; `unread` gets what they are that can't be taken.
    """
    texts = [None if is_absent(one) else _text(one) for one in values]
    orders = _orders(one for one in texts if isinstance(one, str))
    read_one = functools.lru_cache(maxsize=None)(lambda text: _read(text, orders))
    found = []
    for value, text in zip(values, texts):
        day, wrong = (text, "") if not isinstance(text, str) else read_one(text)
        if wrong:
            unread.add(_WHAT, wrong, value)
        found.append(math.nan if day is None else fraction_of_year(day))
    return found, sum(one is not None for one in texts)


def _text(value: Any):
    """A date as text; as itself where it is one (a column of Parquet)."""
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split())


def _read(text: str, orders: dict[str, str]) -> tuple[Optional[datetime.date], str]:
    """(the day, None where it is unknown; then what is wrong)."""
    day = _day(text)
    if day:
        return day, ""
    parts = _YEAR_LAST.match(text)
    if parts:
        return _by_order(parts, orders)
    if _WITHOUT_DAY.match(text):
        return None, _NO_DAY
    return _middle(text) if text.count("/") == 1 else (None, _CANT)


def _day(text: str) -> Optional[datetime.date]:
    """Of a text that can mean one day alone."""
    for pattern, make in _MAKERS:
        parts = pattern.match(text)
        if parts:
            try:
                return make(parts)
            except ValueError:  # 2019-02-30
                return None
    return None


def _of_numbers(parts: re.Match) -> datetime.date:
    return datetime.date(int(parts["year"]), int(parts["month"]), int(parts["day"]))


def _of_name(parts: re.Match) -> datetime.date:
    return datetime.date(int(parts["year"]), _MONTHS.index(parts["name"].lower()) + 1, int(parts["day"]))


def _of_day_of_year(parts: re.Match) -> datetime.date:
    day = datetime.date(int(parts["year"]), 1, 1) + datetime.timedelta(int(parts["day"]) - 1)
    if day.year != int(parts["year"]):
        raise ValueError
    return day


_MAKERS: tuple[tuple[re.Pattern, Callable], ...] = (
    (_YEAR_FIRST, _of_numbers), (_DIGITS, _of_numbers), (_DAY_OF_YEAR, _of_day_of_year),
    (_WEEK, lambda parts: datetime.date.fromisocalendar(int(parts["year"]), int(parts["week"]), int(parts["day"]))),
    *((pattern, _of_name) for pattern in (*_NAMED, _CTIME)))


def _both_ways(parts: re.Match) -> dict[str, datetime.date]:
    """The days that 04/05/2019 can mean, by what stands first."""
    first, second, year = (int(parts[name]) for name in ("first", "second", "year"))
    found = {}
    for order, (day, month) in ((DAY_FIRST, (first, second)), (MONTH_FIRST, (second, first))):
        try:
            found[order] = datetime.date(year, month, day)
        except ValueError:
            continue
    return found


def _orders(texts: Iterable[str]) -> dict[str, str]:
    """By separator what stands first, where dates with a part above 12 tell it, and none tells otherwise."""
    told: dict[str, set[str]] = collections.defaultdict(set)
    for text in set(texts):
        parts = _YEAR_LAST.match(text)
        ways = _both_ways(parts) if parts else {}
        if len(ways) == 1:
            told[parts["sep"]].update(ways)
    return {separator: next(iter(orders)) for separator, orders in told.items() if len(orders) == 1}


def _by_order(parts: re.Match, orders: dict[str, str]) -> tuple[Optional[datetime.date], str]:
    ways = _both_ways(parts)
    if not ways:
        return None, _CANT
    if len(set(ways.values())) == 1:
        return next(iter(ways.values())), ""
    order = orders.get(parts["sep"])
    return (ways[order], "") if order else (None, _AMBIGUOUS)


def _middle(text: str) -> tuple[Optional[datetime.date], str]:
    """Of an interval 2019-05-04/2019-05-06, or 2019-05-04/06 as ISO 8601 shortens it."""
    start_text, end_text = text.split("/")
    start = _day(start_text)
    if start and re.fullmatch(r"[0-9]{2}(-[0-9]{2})?", end_text):
        end_text = start.isoformat()[:-len(end_text)] + end_text
    end = _day(end_text)
    if start is None or end is None or end < start:
        return None, _CANT
    days = (end - start).days
    return (start + datetime.timedelta(days // 2), "") if days <= _MOST_DAYS else (None, _LONG)
