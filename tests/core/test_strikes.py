"""What one side of an attempt sends, and when."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import seeded
from tunnel.core.prediction import (
    HIGHEST_PORT,
    LOWEST_PORT,
    MAX_SENDS,
    PortRange,
    count_sends,
    count_sockets,
)
from tunnel.core.strikes import (
    LEAD,
    LOTTERY_TIME,
    OPENER_RATE,
    PING_RATE,
    Strike,
    plan_strikes,
)
from tunnel.wire.check import PredictionKind
from tunnel.wire.endpoint import Endpoint

EXACT, SEQUENTIAL, SCATTERED = PredictionKind
LIFETIME = 30.0


def of(kind: PredictionKind, first: int, size: int, host: str = "203.0.113.2") -> PortRange:
    return PortRange(kind, Endpoint(host, first), first + size - 1)


KNOWN = of(EXACT, 4000, 1)
COUNTER = of(SEQUENTIAL, 5000, 48)
BLOCK = of(SCATTERED, 4096, 512)
WIDE = of(SCATTERED, 4096, 2048)
FULL = of(SCATTERED, LOWEST_PORT, HIGHEST_PORT - LOWEST_PORT + 1)
RANGES = [KNOWN, COUNTER, of(SCATTERED, 4096, 64), BLOCK, WIDE, FULL]


def plan(
    ours: PortRange, theirs: PortRange, *, skew: float = 0.0, most: int | None = None, seed: int = 1
) -> list[Strike]:
    sockets = list(range(16, 16 + count_sockets(ours)))
    bound = count_sends(ours, theirs.size, len(sockets)) if most is None else most
    return plan_strikes(
        ours, theirs, sockets, count_sockets(theirs), bound, LIFETIME, skew, seeded(seed)
    )


def entries_at_once(strikes: list[Strike]) -> int:
    """The most that a NAT with an entry for each pair of socket and endpoint has at any moment."""
    seen: dict[tuple[int, Endpoint], float] = {}
    most = 0
    for at, endpoint, local, _ in strikes:
        seen[local, endpoint] = at
        if len(seen) > most:
            seen = {pair: when for pair, when in seen.items() if when > at - LIFETIME}
            most = max(most, len(seen))
    return most


def test_two_known_ports() -> None:
    strikes = plan(KNOWN, KNOWN, skew=0.01)
    assert [strike.is_opener for strike in strikes] == [True] + [False] * 8
    assert strikes[0].at == 0.0
    assert strikes[1].at == LEAD + 0.01
    assert {strike.endpoint for strike in strikes} == {KNOWN.first}


def test_a_search_begins_when_their_openers_are_out() -> None:
    for theirs in (COUNTER, BLOCK, WIDE, FULL):
        strikes = plan(KNOWN, theirs)
        assert not any(strike.is_opener for strike in strikes)
        assert strikes[0].at == pytest.approx(LEAD + count_sockets(theirs) / OPENER_RATE)


def test_a_small_range_is_searched_whole_and_again() -> None:
    for theirs, turns in (
        (COUNTER, 3),
        (of(SCATTERED, 4096, 64), 3),
        (of(SCATTERED, 4096, 200), 2),
    ):
        strikes = plan(KNOWN, theirs)
        first = strikes[: theirs.size]
        assert {s.endpoint.port for s in first} == {theirs.port(n) for n in range(theirs.size)}
        assert len(strikes) == turns * theirs.size
    ports = [strike.endpoint.port for strike in plan(KNOWN, COUNTER)]
    assert ports[:48] == [COUNTER.port(number) for number in range(48)]


def test_of_a_wide_range_different_ports_are_searched() -> None:
    for theirs in (WIDE, FULL):
        ports = [strike.endpoint.port for strike in plan(KNOWN, theirs)]
        assert len(set(ports)) == len(ports) == count_sends(KNOWN, theirs.size, 1)
        assert ports != sorted(ports)


def test_openers_from_each_socket_await_a_search() -> None:
    strikes = plan(FULL, KNOWN)
    assert all(strike.is_opener for strike in strikes)
    assert len({strike.local for strike in strikes}) == len(strikes) == 400
    few = plan(BLOCK, KNOWN)
    openers = [strike for strike in few if strike.is_opener]
    late = [strike for strike in few if not strike.is_opener]
    assert [s.local for s in openers] == [s.local for s in late] == list(range(16, 48))
    search = count_sends(KNOWN, BLOCK.size, 1) / PING_RATE
    assert late[0].at > openers[-1].at + search


def test_two_counters_meet_in_step() -> None:
    strikes = plan(COUNTER, of(SEQUENTIAL, 9000, 48))
    assert [strike.endpoint.port for strike in strikes[:48]] == list(range(9000, 9048))
    assert {strike.local for strike in strikes} == {16}


def test_a_lottery_is_gentle_and_even() -> None:
    strikes = plan(WIDE, WIDE)
    assert len(strikes) == round(MAX_SENDS * LOTTERY_TIME / LIFETIME)
    assert LOTTERY_TIME * 0.95 < strikes[-1].at <= LOTTERY_TIME + LEAD
    gaps = [later.at - earlier.at for earlier, later in pairwise(strikes)]
    assert max(gaps) - min(gaps) < 0.001
    assert entries_at_once(strikes) <= MAX_SENDS + 1


def test_a_peer_that_claims_very_many_sockets_keeps_nobody_waiting() -> None:
    strikes = plan_strikes(KNOWN, FULL, [16], 65535, 400, LIFETIME, 0.0, seeded(1))
    assert strikes[0].at <= LEAD + MAX_SENDS / OPENER_RATE


def test_draws_are_random_and_repeatable() -> None:
    one, same, other = (plan(WIDE, FULL, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("ours", RANGES, ids=lambda r: f"{r.kind.name}{r.size}")
@pytest.mark.parametrize("theirs", RANGES, ids=lambda r: f"{r.kind.name}{r.size}")
def test_every_combination_is_within_bounds(ours: PortRange, theirs: PortRange) -> None:
    strikes = plan(ours, theirs)
    assert strikes
    check(strikes, theirs, count_sends(ours, theirs.size, count_sockets(ours)))


@given(
    st.tuples(st.sampled_from(PredictionKind), st.integers(1, 65535), st.integers(1, 65535)),
    st.tuples(st.sampled_from(PredictionKind), st.integers(1, 65535), st.integers(1, 65535)),
    st.integers(1, 448),
    st.integers(0, 65535),
    st.integers(0, 480),
    st.floats(30, 120),
    st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_ranges(  # type: ignore[no-untyped-def]
    one, other, sockets: int, theirs: int, most: int, lifetime: float, skew: float
) -> None:
    ours, aim = (PortRange(k, Endpoint("203.0.113.2", a), b) for k, a, b in (one, other))
    strikes = plan_strikes(
        ours, aim, list(range(16, 16 + sockets)), theirs, most, lifetime, skew, seeded(1)
    )
    check(strikes, aim, max(most, 1), lifetime)


def check(strikes: list[Strike], theirs: PortRange, most: int, lifetime: float = LIFETIME) -> None:
    assert [s.at for s in strikes] == sorted(s.at for s in strikes)
    assert all(strike.at >= 0 for strike in strikes)
    low, high = sorted((theirs.first.port, theirs.last))
    assert all(low <= strike.endpoint.port <= high for strike in strikes)
    assert {strike.endpoint.host for strike in strikes} <= {theirs.first.host}
    pinged: set[tuple[int, Endpoint]] = set()
    for _, endpoint, local, is_opener in strikes:
        if is_opener:
            assert (local, endpoint) not in pinged
        else:
            pinged.add((local, endpoint))
    if len(strikes) <= most:
        return
    seen: dict[tuple[int, Endpoint], float] = {}
    for at, endpoint, local, _ in strikes:
        seen = {pair: when for pair, when in seen.items() if when > at - lifetime + 0.1}
        seen[local, endpoint] = at
        assert len(seen) <= most + 1
