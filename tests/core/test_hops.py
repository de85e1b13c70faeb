"""Routers before the first public address, by ICMP that a test makes up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.core.hops import FALLBACK_TTL, MAX_HOPS, TRIES, HopDiscovery
from tunnel.core.machine import Transmit
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import Feeler

SERVER = Endpoint("203.0.113.10", 12345)
LOCAL = 3
DELAY = 0.02
HOME, CARRIER, PUBLIC = "192.168.1.1", "100.64.0.1", "198.51.100.1"


class Way:
    """Routers between us and the server, "" for one that says nothing."""

    def __init__(self, routers: Sequence[str]) -> None:
        self.routers = routers
        self.hops = HopDiscovery(LOCAL)
        self.now = 1000.0
        self.sent: list[Transmit] = []

    def run(self, seconds: float = 60.0) -> Way:
        until = self.now + seconds
        answers: list[tuple[float, str]] = []
        while True:
            for transmit in self.hops.take_transmits():
                self.sent.append(transmit)
                assert transmit.ttl is not None
                if transmit.ttl <= len(self.routers) and self.routers[transmit.ttl - 1]:
                    answers.append((self.now + DELAY, self.routers[transmit.ttl - 1]))
            times = [at for at, _ in answers[:1]]
            timer = self.hops.get_timer()
            times += [] if timer is None else [timer]
            if not times or min(times) > until:
                return self
            self.now = min(times)
            if answers and answers[0][0] <= self.now:
                self.hops.receive(SERVER, answers.pop(0)[1], self.now, LOCAL)
            else:
                self.hops.handle_timer(self.now)

    def discover(self) -> Way:
        self.hops.restart(SERVER, self.now)
        return self.run()


@pytest.mark.parametrize(
    ("routers", "heard", "ttl", "has_carrier_nat"),
    [
        ([PUBLIC], (PUBLIC,), 2, False),  # no NAT at all: never less than 2
        ([HOME, PUBLIC, PUBLIC], (HOME, PUBLIC), 2, False),
        ([HOME, CARRIER, PUBLIC], (HOME, CARRIER, PUBLIC), 3, True),
        ([CARRIER, PUBLIC], (CARRIER, PUBLIC), 2, True),  # an LTE modem
        ([HOME, "10.1.2.3", "10.4.5.6", PUBLIC], (HOME, "10.1.2.3", "10.4.5.6", PUBLIC), 4, True),
        ([HOME, "", PUBLIC], (HOME, "", PUBLIC), 3, False),
        (["", "", "", "", "", "", "", ""], (), FALLBACK_TTL, False),
        ([HOME, CARRIER, "10.0.0.1", "10.0.0.2"], (HOME, CARRIER, "10.0.0.1", "10.0.0.2"), 5, True),
        ([HOME], (HOME,), FALLBACK_TTL, False),
        ([HOME] * 7 + [PUBLIC], (*[HOME] * 7, PUBLIC), 8, False),
        ([CARRIER] * 9, tuple([CARRIER] * MAX_HOPS), MAX_HOPS, True),
    ],
)
def test_routers(
    routers: list[str], heard: tuple[str, ...], ttl: int, has_carrier_nat: bool
) -> None:
    way = Way(routers).discover()
    assert way.hops.is_complete
    assert way.hops.routers == heard
    assert way.hops.opener_ttl == ttl
    assert way.hops.has_carrier_nat is has_carrier_nat


def test_before_anything_is_known() -> None:
    assert HopDiscovery(LOCAL).opener_ttl == FALLBACK_TTL


def test_one_tiny_datagram_at_a_time() -> None:
    way = Way([HOME, "", PUBLIC]).discover()
    assert [transmit.ttl for transmit in way.sent] == [1, 2, 2, 3]
    for transmit in way.sent:
        assert (transmit.endpoint, transmit.local) == (SERVER, LOCAL)
        assert transmit.data == Feeler().pack() == b"\x07"


def test_nothing_is_sent_for_ever() -> None:
    way = Way([])
    way.discover()
    assert len(way.sent) == MAX_HOPS * TRIES
    assert way.hops.get_timer() is None


def test_the_server_is_nearer_than_that() -> None:
    """In a laboratory: what reaches it is no news."""
    way = Way([HOME]).discover()
    assert way.hops.routers == (HOME,)


def test_a_change_of_network_forgets() -> None:
    way = Way([HOME, PUBLIC]).discover()
    way.routers = [HOME, CARRIER, PUBLIC]
    way.discover()
    assert way.hops.routers == (HOME, CARRIER, PUBLIC)
    way.hops.stop()
    assert way.hops.routers == ()
    assert way.hops.get_timer() is None
    assert way.hops.take_transmits() == []


def test_messages_about_anything_else_are_ignored() -> None:
    way = Way([])
    way.hops.restart(SERVER, way.now)
    way.hops.receive(SERVER._replace(port=1), PUBLIC, way.now, LOCAL)
    way.hops.receive(SERVER, PUBLIC, way.now, 0)
    way.hops.receive(SERVER, "not an address", way.now, LOCAL)
    assert way.hops.routers == ()
    way.run()
    way.hops.receive(SERVER, PUBLIC, way.now, LOCAL)  # late
    assert way.hops.routers == ()


def test_ipv6_has_no_nat_to_cross() -> None:
    way = Way([])
    way.hops.restart(Endpoint("2001:db8::1", 12345), way.now)
    assert way.hops.take_transmits() == []
    assert way.hops.is_complete


def test_timers_early_and_twice_are_harmless() -> None:
    way = Way([HOME, PUBLIC])
    way.hops.restart(SERVER, way.now)
    before = way.hops.get_timer()
    way.hops.handle_timer(way.now)
    way.hops.handle_timer(way.now)
    assert way.hops.get_timer() == before
    assert len(way.hops.take_transmits()) == 1


routers = st.ip_addresses().map(str) | st.text(max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(routers, st.floats(0, 2)), max_size=30))
def test_whatever_is_forged(messages: list[tuple[str, float]]) -> None:
    """It costs a wrong time to live, and that is bounded."""
    hops, now = HopDiscovery(LOCAL), 1000.0
    hops.restart(SERVER, now)
    for router, delay in messages:
        now += delay
        hops.receive(SERVER, router, now, LOCAL)
        hops.handle_timer(now)
        assert 2 <= hops.opener_ttl <= MAX_HOPS
        assert len(hops.routers) <= MAX_HOPS
        hops.evidence()
    assert len(hops.take_transmits()) <= MAX_HOPS * TRIES
