from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnel.core.ratelimit import KeyedRateLimit, TokenBucket


def test_burst_then_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.4)
    assert bucket.take(0.5)
    assert not bucket.take(0.5)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_amounts() -> None:
    bucket = TokenBucket(rate=1000.0, burst=1500.0)
    assert bucket.take(0.0, 1500)
    assert not bucket.take(0.5, 501)
    assert bucket.take(0.5, 500)


def test_more_than_the_burst_is_never_there() -> None:
    bucket = TokenBucket(rate=1.0, burst=10.0)
    assert not bucket.take(0.0, 11)
    assert not bucket.take(1e9, 11)


def test_time_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=1.0)
    assert bucket.take(10.0)
    assert not bucket.take(10.0)
    assert not bucket.take(5.0)
    assert not bucket.take(10.9)
    assert bucket.take(11.0)


@given(
    st.lists(st.floats(0, 5, allow_subnormal=False), max_size=60),
    st.floats(0.1, 20),
    st.integers(1, 20),
)
def test_never_more_than_burst_and_rate_allow(steps: list[float], rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst)
    now, taken = 0.0, 0
    for step in steps:
        now += step
        taken += bucket.take(now)
        assert taken <= burst + rate * now + 1e-6


def test_each_key_has_its_own() -> None:
    limit = KeyedRateLimit(rate=1.0, burst=2.0)
    assert [limit.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert [limit.take("b", 0.0) for _ in range(3)] == [True, True, False]


def test_only_so_many_keys_are_remembered_and_the_used_ones_stay() -> None:
    limit = KeyedRateLimit(rate=0.001, burst=1.0, capacity=3)
    assert limit.take("kept", 0.0)
    for number in range(100):
        assert limit.take(number, 0.0)
        assert not limit.take("kept", 0.0)
    assert limit.take(0, 0.0)  # Forgotten since, and so anew.


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from([0.0, 0.0, 0.01, 0.5, 2.0])), max_size=300
    )
)
def test_with_a_total_naming_others_gains_nothing(asked: list[tuple[int, float]]) -> None:
    """A bucket fills in 2 s; in those at most 8 keys are taken from, and at most 14 are empty."""
    limit = KeyedRateLimit(rate=1.0, burst=2.0, capacity=24, total=TokenBucket(3.0, 2.0))
    now, taken = 0.0, dict.fromkeys(range(100), 0)
    for key, step in asked:
        now += step
        taken[key] += limit.take(key, now)
        assert taken[key] <= 2 + now + 1e-6
        assert sum(taken.values()) <= 2 + 3 * now + 1e-6


def test_one_key_that_asks_too_often_uses_up_no_total() -> None:
    limit = KeyedRateLimit(rate=1.0, burst=2.0, total=TokenBucket(3.0, 4.0))
    assert [limit.take("a", 0.0) for _ in range(100)].count(True) == 2
    assert limit.take("b", 0.0)
    assert limit.take("b", 0.0)
    assert not limit.take("c", 0.0)
    assert "c" not in limit
