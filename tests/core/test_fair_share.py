from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.core.fair_share import ACTIVE, FairShare

RATE, BURST = 100_000.0, 256_000.0


def run(demands: dict[str, float], seconds: float = 30.0, size: float = 1000.0) -> Counter[str]:
    """Who got how many bytes, of those that each sends a second, after the burst is used up."""
    share, random, given_to = FairShare(RATE, BURST), Random(1), Counter[str]()
    step = 0.01
    due = dict.fromkeys(demands, 0.0)
    for number in range(int((seconds + 10) / step)):
        for who, rate in random.sample(sorted(demands.items()), len(demands)):
            due[who] += rate * step
            while due[who] >= size:
                due[who] -= size
                if share.take(who, number * step, size) and number * step >= 10:
                    given_to[who] += int(size)
    return given_to


def test_one_alone_has_all_of_it() -> None:
    assert run({"a": 1e6})["a"] / 30 == pytest.approx(RATE, rel=0.02)


def test_who_wants_little_gets_it_whatever_others_want() -> None:
    got = run({"greedy": 2e6, "calls": 8_000, "ssh": 3_000})
    assert got["calls"] == pytest.approx(30 * 8_000, rel=0.02)
    assert got["ssh"] == pytest.approx(30 * 3_000, rel=0.02)
    assert got.total() / 30 == pytest.approx(RATE, rel=0.02), "nothing is left over"


def test_those_who_want_all_share_alike() -> None:
    got = run({"a": 1e6, "b": 3e5, "c": 2e6, "d": 2e5})
    for who in "abcd":
        assert got[who] / 30 == pytest.approx(RATE / 4, rel=0.1)


def test_who_is_silent_is_owed_nothing_and_forgotten() -> None:
    share = FairShare(RATE, BURST)
    for number in range(1000):
        share.take(number, 0.0, 1.0)
    assert len(share) == 1000
    share.take("late", ACTIVE, 1.0)
    assert len(share) == 1


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 0.1), st.integers(1, 9000)), max_size=400)
)
def test_never_more_than_rate_and_burst_in_all(asked: list[tuple[int, float, int]]) -> None:
    share, now, taken = FairShare(RATE, BURST), 0.0, 0
    for who, step, size in asked:
        now += step
        if share.take(who, now, size):
            taken += size
        assert taken <= BURST + RATE * now + 1e-3
