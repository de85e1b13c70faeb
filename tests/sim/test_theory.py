"""The rules and odds beyond simple punching, held against the NATs themselves."""

from __future__ import annotations

import math
from random import Random

import pytest

from tests.sim.nat import Filtering, Firewall, Mapping, Nat
from tests.sim.ports import FIRST_PORT, Allocation
from tests.sim.theory import FULL_RANGE, Side, chance_of_attempt, rule
from tests.sim.trace import Why
from tunnel.wire.endpoint import Endpoint

VARYING = Mapping.ADDRESS_AND_PORT_DEPENDENT
A, B = "5.0.0.1", "5.0.0.2"


def block(size: int, seed: int = 0) -> Nat:
    return Nat(
        VARYING, allocation=Allocation.RANDOM_IN_BLOCK, block_size=size, seed=seed, addresses=[A]
    )


def sequential() -> Nat:
    return Nat(VARYING, allocation=Allocation.SEQUENTIAL)


@pytest.mark.parametrize(
    ("a", "b", "said", "chance"),
    [
        (None, None, "both mappings steady", 1),
        (Firewall(), Nat.linux(), "both mappings steady", 1),
        (None, Nat(VARYING), "one varies, and the other's filter lets it in", 1),
        (Nat(filtering=Filtering.ADDRESS_DEPENDENT), block(64), "filter lets it in", 1),
        (
            Nat(VARYING, Filtering.ENDPOINT_INDEPENDENT),
            Nat(VARYING, Filtering.ADDRESS_DEPENDENT),
            "both vary, and the filters let them in",
            1,
        ),
        (Nat(), sequential(), "against filtering by address and port: prediction", 1),
        (sequential(), sequential(), "both sequential: prediction", 0.63),
        (Nat(), Nat(VARYING), "random full range, against port-restricted: guessing", 0.95),
        (Nat(), block(2048), "random in a block of 2048: guessing, p=99+ %", 1),
        (block(512), block(64), "both random in blocks of 512 and 64: guessing", 0.22),
        (block(2048), sequential(), "guessing in a block of 2048", 0.19),
        (Nat(VARYING), Nat(VARYING), "impossible within the budget, relay", 0),
        (Nat(VARYING), block(512), "not within the budget, relay", 0),
        (Nat.linux(drops=False), Nat.linux(), "a router tracks: first datagrams must cross", 1),
        (Nat.linux(drops=False), None, "both mappings steady", 1),
        ([Nat.linux(), block(512)], Nat(), "random in a block of 512", 1),
        ([sequential(), Nat.linux()], Nat(), "prediction", 1),
        ([sequential(), Nat()], Nat(), "random full range", 0.95),
    ],
)
def test_rules(a: Side, b: Side, said: str, chance: float) -> None:
    for pair in ((a, b), (b, a)):
        assert chance_of_attempt(*pair) == pytest.approx(chance, abs=0.01)
    assert said.split(":")[0] in rule(b, a) or "blocks" in said
    assert said in rule(a, b)


def attempt_against_steady(size: int, sockets: int, probes: int, seed: int) -> bool:
    """Sockets behind a varying NAT open towards a steady endpoint, which sends to some ports of the
    block."""
    random, nat, steady = Random(-1 - seed), block(size, seed), Endpoint(B, 7)
    for number in range(sockets):
        nat.outbound(Endpoint("192.168.1.2", 1000 + number), steady, 0.0)
    first = nat.ports.block_of("192.168.1.2")
    assert first is not None
    targets = (Endpoint(A, first + random.randrange(size)) for _ in range(probes))
    return any(not isinstance(nat.inbound(steady, target, 0.0), Why) for target in targets)


@pytest.mark.parametrize(
    ("size", "sockets", "probes"), [(64, 8, 8), (512, 20, 30), (2048, 64, 20), (2048, 64, 150)]
)
def test_odds_against_a_steady_side(size: int, sockets: int, probes: int) -> None:
    runs = 400
    met = sum(attempt_against_steady(size, sockets, probes, seed) for seed in range(runs))
    expected = 1 - (1 - sockets / size) ** probes
    assert met / runs == pytest.approx(expected, abs=3.5 * math.sqrt(0.25 / runs))


def attempt_of_both(sizes: tuple[int, int], sends: int, seed: int) -> bool:
    """Both send from random ports of their block to random ports of the other's."""
    random = Random(-1 - seed)
    nats = [block(size, seed * 2 + number) for number, size in enumerate(sizes)]
    nats[1].change_address(B)
    firsts = [nat.ports.block_of("192.168.1.2") or 0 for nat in nats]
    assert all(first >= FIRST_PORT for first in firsts)
    pairs: list[set[tuple[Endpoint | Why, Endpoint]]] = []
    for number, (nat, address) in enumerate(zip(nats, (B, A), strict=True)):
        first, size = firsts[1 - number], sizes[1 - number]
        sent = set()
        for target in random.sample(range(first, first + size), sends):
            to = Endpoint(address, target)
            sent.add((nat.outbound(Endpoint("192.168.1.2", 1000), to, 0.0), to))
        pairs.append(sent)
    return any((to, source) in pairs[1] for source, to in pairs[0])


@pytest.mark.parametrize(("sizes", "sends"), [((64, 64), 32), ((64, 512), 50), ((512, 512), 200)])
def test_odds_when_both_vary(sizes: tuple[int, int], sends: int) -> None:
    runs = 400
    met = sum(attempt_of_both(sizes, sends, seed) for seed in range(runs))
    expected = 1 - math.exp(-sends * sends / (sizes[0] * sizes[1]))
    assert met / runs == pytest.approx(expected, abs=3.5 * math.sqrt(0.25 / runs))


def test_the_full_range_is_what_the_simulator_gives_out() -> None:
    assert FULL_RANGE == 65536 - FIRST_PORT
