"""Days and months in UTC, of a wall clock that counts seconds since 1970 (without leap seconds)."""

from __future__ import annotations

import enum
from typing import NamedTuple

DAY = 86_400
_MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FIRST_YEAR, _LAST_YEAR = 1970, 9999


class Period(enum.Enum):
    DAY = "day"
    MONTH = "month"


class Span(NamedTuple):
    name: str
    """2026-11 or 2026-11-26."""
    end: float
    """When the next one begins: seconds since the Unix epoch."""


def span_of(period: Period, wall_time: float) -> Span:
    """The day or month that `wall_time` is in; a clock before 1970 is in the first."""
    day = max(0, int(wall_time // DAY))
    first, year = 0, _FIRST_YEAR
    while year < _LAST_YEAR and day >= first + _year_length(year):
        first += _year_length(year)
        year += 1
    month = 0
    while month < 11 and day >= first + _month_length(year, month):
        first += _month_length(year, month)
        month += 1
    if period is Period.DAY:
        return Span(f"{year:04}-{month + 1:02}-{day - first + 1:02}", float((day + 1) * DAY))
    return Span(f"{year:04}-{month + 1:02}", float((first + _month_length(year, month)) * DAY))


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _year_length(year: int) -> int:
    return 366 if _is_leap(year) else 365


def _month_length(year: int, month: int) -> int:
    return 29 if month == 1 and _is_leap(year) else _MONTH_LENGTHS[month]
