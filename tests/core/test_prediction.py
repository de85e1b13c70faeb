"""Which ports a NAT will use next, by samples of what it has just used."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.core.prediction import (
    HIGHEST_PORT,
    LOWEST_PORT,
    MAX_SENDS,
    SEQUENTIAL_WINDOW,
    PortRange,
    Sample,
    count_sends,
    count_sockets,
    estimate_chance,
    predict,
)
from tunnel.wire.check import PredictionKind
from tunnel.wire.endpoint import Endpoint

EXACT, SEQUENTIAL, SCATTERED = PredictionKind
HOST = "203.0.113.1"
PORT = st.integers(1, 65535)


def samples(*ports: int, sockets: int = 6) -> list[Sample]:
    """Two for each socket, as they are taken."""
    return [
        Sample(16 + number * sockets // max(sockets, len(ports)), Endpoint(HOST, port))
        for number, port in enumerate(ports)
    ]


def each(ports: list[int]) -> list[Sample]:
    """Two of each socket, in the order of sending."""
    return [Sample(16 + number // 2, Endpoint(HOST, port)) for number, port in enumerate(ports)]


def of(kind: PredictionKind, first: int, last: int) -> PortRange:
    return PortRange(kind, Endpoint(HOST, first), last)


def test_steady() -> None:
    """One port for both of the server's: that of the first socket, which is the one to be used."""
    steady = [Sample(16 + n // 2, Endpoint(HOST, 4000 + 1000 * (n // 2))) for n in range(12)]
    assert predict(steady) == of(EXACT, 4000, 4000)
    assert predict(steady[:2]) == of(EXACT, 4000, 4000)
    assert predict(steady[:1]) == of(EXACT, 4000, 4000)


def test_steady_but_distrusted() -> None:
    counted = [Sample(16 + n // 2, Endpoint(HOST, 4000 + n // 2)) for n in range(12)]
    assert predict(counted, distrusts_steady=True) == of(SEQUENTIAL, 4006, 4005 + SEQUENTIAL_WINDOW)
    apart = [Sample(16 + n // 2, Endpoint(HOST, 4000 + 5000 * (n // 2))) for n in range(12)]
    assert predict(apart, distrusts_steady=True) == of(SCATTERED, LOWEST_PORT, HIGHEST_PORT)
    assert predict(apart[:2], distrusts_steady=True) == of(SCATTERED, LOWEST_PORT, HIGHEST_PORT)


@pytest.mark.parametrize("step", [1, 2, 3, -1, -2])
def test_counted(step: int) -> None:
    found = predict(each([30000 + step * number for number in range(12)]))
    assert found is not None
    assert found.kind is SEQUENTIAL
    assert found.first.port == 30000 + 11 * step + (1 if step > 0 else -1)
    assert found.size == SEQUENTIAL_WINDOW
    assert found.port(1) - found.port(0) == (1 if step > 0 else -1)


def test_counted_with_others_in_between() -> None:
    ports = [30000, 30001, 30007, 30008, 30009, 30020, 30021, 30022, 30030, 30031, 30040, 30041]
    assert predict(each(ports)) == of(SEQUENTIAL, 30042, 30041 + SEQUENTIAL_WINDOW)


@given(st.lists(st.sampled_from(range(12)), max_size=3, unique=True), st.integers(0, 2**32))
def test_counted_though_some_probes_were_lost(late: list[int], seed: int) -> None:
    """They were sent again, and then got the last ports."""
    Random(seed).shuffle(late)
    order = [number for number in range(12) if number not in late] + late
    ports = dict(zip(order, range(30000, 30012), strict=True))
    found = predict(each([ports[number] for number in range(12)]))
    assert found is not None
    assert (found.kind, found.first.port) == (SEQUENTIAL, 30012)


@pytest.mark.parametrize("top", [65535, 65520, 65535 - SEQUENTIAL_WINDOW + 1])
def test_a_counter_that_is_about_to_begin_anew(top: int) -> None:
    """Where, nobody knows: no range ends beyond the last port."""
    found = predict(each(list(range(top - 11, top + 1))))
    assert found is not None
    assert max(found.first.port, found.last) <= HIGHEST_PORT
    assert found.kind is SCATTERED


def test_several_addresses() -> None:
    elsewhere = Sample(17, Endpoint("203.0.113.2", 4001))
    assert predict([*samples(4000), elsewhere]) is None
    assert predict([]) is None


@given(
    st.lists(st.tuples(st.integers(16, 21), PORT), min_size=1, max_size=24),
    st.booleans(),
)
def test_whatever_was_seen(seen: list[tuple[int, int]], distrusts: bool) -> None:
    found = predict(
        [Sample(local, Endpoint(HOST, port)) for local, port in seen], distrusts_steady=distrusts
    )
    assert found is not None
    low, high = sorted((found.first.port, found.last))
    assert 1 <= low <= high <= 65535
    assert found.first.host == HOST
    assert (found.size == 1) or found.kind is not EXACT
    assert {found.port(number) for number in range(2 * found.size)} == set(range(low, high + 1))


@given(
    st.integers(LOWEST_PORT, HIGHEST_PORT - 300),
    st.lists(st.integers(1, 4), min_size=11, max_size=11),
)
def test_the_next_port_of_a_counter_is_in_it(first: int, steps: list[int]) -> None:
    """Others take up to three ports in between."""
    ports = [first]
    for step in steps:
        ports.append(ports[-1] + step)
    found = predict(each(ports))
    assert found is not None
    assert found.kind is SEQUENTIAL
    assert found.first.port == ports[-1] + 1
    assert found.last >= ports[-1] + 4


@pytest.mark.parametrize("size", [128, 256, 512, 1024, 2048, 4096])
def test_a_block_is_covered(size: int) -> None:
    """More than four fifths of it on average, and little beside it."""
    random = Random(size)
    covered, beside = 0.0, 0.0
    rounds = 300
    for _ in range(rounds):
        first = random.randrange(LOWEST_PORT, HIGHEST_PORT - size)
        found = predict(each(random.sample(range(first, first + size), 12)))
        assert found is not None
        assert found.kind is SCATTERED
        shared = range(max(first, found.first.port), min(first + size - 1, found.last) + 1)
        covered += len(shared) / size
        beside += (found.size - len(shared)) / size
    assert covered / rounds > 0.9
    assert beside / rounds < 0.12


def test_the_whole_range() -> None:
    random = Random(1)
    for _ in range(300):
        found = predict(each(random.sample(range(LOWEST_PORT, HIGHEST_PORT + 1), 12)))
        assert found == of(SCATTERED, LOWEST_PORT, HIGHEST_PORT)


@pytest.mark.parametrize("size", [64, 128, 512])
def test_a_random_block_is_not_taken_for_a_counter(size: int) -> None:
    random = Random(size)
    counted = 0
    for _ in range(2000):
        found = predict(each(random.sample(range(30000, 30000 + size), 12)))
        counted += found is not None and found.kind is SEQUENTIAL
    assert counted <= 4


def test_budgets() -> None:
    """No pair of ranges asks for more datagrams or sockets than a small router bears."""
    sizes = (1, 2, 48, 64, 128, 512, 513, 2048, 4096, 4097, 16384, 64512)
    for kind, ours, theirs in ((k, a, b) for k in PredictionKind for a in sizes for b in sizes):
        mine = of(kind, LOWEST_PORT, LOWEST_PORT + ours - 1)
        sockets = count_sockets(mine)
        sends = count_sends(mine, theirs, sockets)
        assert 1 <= sockets <= MAX_SENDS
        assert 1 <= sends <= MAX_SENDS
        if kind is SCATTERED and 64 <= ours <= 4096:
            # A closed socket's port is free only when the NAT has forgotten it.
            assert sockets <= ours // 4
            assert sends <= max(ours // 2, sockets)


def test_chances_are_those_of_the_formulas() -> None:
    exact, full = of(EXACT, 4000, 4000), of(SCATTERED, LOWEST_PORT, HIGHEST_PORT)
    block = of(SCATTERED, 4096, 4096 + 2047)
    counter = of(SEQUENTIAL, 4000, 4047)
    assert estimate_chance(exact, exact, 1, 1) == 1.0
    assert estimate_chance(exact, counter, 1, 1) == 1.0
    assert 0.92 < estimate_chance(exact, full, 1, 400) < 0.95
    assert estimate_chance(block, exact, 64, 1) > 0.99
    assert estimate_chance(full, exact, 400, 1) == estimate_chance(exact, full, 1, 400)
    assert 0.04 < estimate_chance(block, block, 64, 64) < 0.06
    assert estimate_chance(full, full, 400, 400) < 0.0001
    assert estimate_chance(counter, counter, 1, 1) == 0.9


@given(
    st.tuples(st.sampled_from(PredictionKind), PORT, PORT, st.integers(1, 65535)),
    st.tuples(st.sampled_from(PredictionKind), PORT, PORT, st.integers(1, 65535)),
)
@settings(max_examples=300)
def test_a_chance_is_a_probability(one: tuple, other: tuple) -> None:  # type: ignore[type-arg]
    chance = estimate_chance(of(*one[:3]), of(*other[:3]), one[3], other[3])
    assert 0.0 <= chance <= 1.0
