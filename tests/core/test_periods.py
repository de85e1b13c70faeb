from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.core.periods import DAY, Period, span_of

UTC = datetime.timezone.utc


def seconds(*date: int) -> float:
    return datetime.datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@given(st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2400, 1, 1)))
def test_against_the_standard_library(moment: datetime.datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    time, date = moment.timestamp(), moment.date()
    assert span_of(Period.DAY, time).name == date.isoformat()
    assert span_of(Period.MONTH, time).name == date.isoformat()[:7]
    for period in Period:
        span = span_of(period, time)
        assert time < span.end
        assert span_of(period, span.end).name != span.name
        assert span_of(period, span.end - 1).name == span.name


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (seconds(2026, 12, 31, 23, 59, 59), seconds(2027, 1, 1)),
        (seconds(2028, 2, 28), seconds(2028, 3, 1)),
        (seconds(2100, 2, 28), seconds(2100, 3, 1)),
    ],
)
def test_ends_of_months(now: float, end: float) -> None:
    assert span_of(Period.MONTH, now).end == end
    assert span_of(Period.DAY, now).end == now // DAY * DAY + DAY


@pytest.mark.parametrize("time", [-1.0, -1e12, 1e15])
def test_clocks_that_are_wrong_beyond_reason(time: float) -> None:
    for period in Period:
        assert span_of(period, time).name
