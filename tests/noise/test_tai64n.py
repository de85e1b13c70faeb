from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnel.noise.tai64n import timestamp

times = st.floats(0, 2**34, allow_nan=False)


def test_layout() -> None:
    assert timestamp(0.0).hex() == "400000000000000a" + "00000000"
    assert timestamp(1_700_000_000.5).hex() == "400000006553f10a" + "1d000000"


@given(times, times)
def test_never_goes_back_while_the_clock_does_not(a: float, b: float) -> None:
    earlier, later = sorted((a, b))
    assert timestamp(earlier) <= timestamp(later)
    if later - earlier > 0.017:
        assert timestamp(earlier) < timestamp(later)


@given(times)
def test_is_whitened_and_within_its_second(time: float) -> None:
    nanoseconds = int.from_bytes(timestamp(time)[8:], "big")
    assert len(timestamp(time)) == 12
    assert nanoseconds % 2**24 == 0
    assert nanoseconds < 1_000_000_000
    assert int.from_bytes(timestamp(time)[:8], "big") == 2**62 + 10 + int(time)


def test_a_clock_before_1970_still_gives_a_timestamp() -> None:
    assert timestamp(-1.5) < timestamp(-1e-20) <= timestamp(0.0)
