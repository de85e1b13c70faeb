"""A source is an IPv4 address or an IPv6 /64, wherever a limit is per source."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ends import ACCESS, SERVER_KEY, ScriptedNode, Town, key, seeded
from tests.wire.test_stun import request as stun_request
from tunnel.core.handshakes import CookieDemanded, HandshakeReceiver
from tunnel.core.indices import IndexTable
from tunnel.core.server_session import server_construction
from tunnel.core.session import Session
from tunnel.core.source import is_this_machine, source_of
from tunnel.core.stream_table import StreamTable
from tunnel.errors import AuthenticationFailed
from tunnel.noise.handshake import PUNCHTUN, Construction
from tunnel.noise.keys import PresharedKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import parse_cookie_reply
from tunnel.wire.rendezvous import Asked, Redeem

MANY = 10_000


def near(number: int) -> Endpoint:
    """One of the addresses of one /64, and another port each time."""
    return Endpoint(f"2001:db8:0:1::{number + 1:x}", 1024 + number)


def neighbour(number: int) -> Endpoint:
    """In a /64 of its own, beside the other."""
    return Endpoint(f"2001:db8:0:{number + 2:x}::1", 666)


# The key


@given(st.ip_addresses(v=6), st.ip_addresses(v=6), st.integers(0, 65535))
def test_ipv6(one: ipaddress.IPv6Address, other: ipaddress.IPv6Address, port: int) -> None:
    if one.ipv4_mapped or other.ipv4_mapped:
        return
    keys = [source_of(Endpoint(str(address), port)) for address in (one, other)]
    assert (keys[0] == keys[1]) is (int(one) >> 64 == int(other) >> 64)


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 65535))
def test_ipv4(one: ipaddress.IPv4Address, other: ipaddress.IPv4Address, port: int) -> None:
    keys = [source_of(Endpoint(str(address), port)) for address in (one, other)]
    assert (keys[0] == keys[1]) is (one == other)
    assert keys[0] == source_of(Endpoint(f"::ffff:{one}", port ^ 1))


def test_no_ipv4_address_is_a_part_of_ipv6() -> None:
    assert source_of(Endpoint("0.0.0.0", 0)) != source_of(Endpoint("::", 0))
    assert source_of(Endpoint("::ffff:0:1", 0)) == source_of(Endpoint("0.0.0.1", 0))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::2", False),
        ("128.0.0.1", False),
        ("2001:db8::1", False),
        ("::ffff:1.2.3.4", False),
    ],
)
def test_this_machine(host: str, expected: bool) -> None:
    assert is_this_machine(Endpoint(host, 1)) is expected


# Everywhere


def count_stun(sources: Callable[[int], Endpoint], count: int) -> int:
    town = Town()
    for number in range(count):
        town.server.receive_datagrams([stun_request()], sources(number), town.clock.now)
    return len(town.server.datagrams_to_send(town.clock.now))


def test_stun() -> None:
    assert count_stun(near, MANY) == 30
    assert count_stun(neighbour, 200) == 200


def test_the_neighbours_of_one_that_asks_too_often_get_their_answers() -> None:
    town = Town()
    for number in range(MANY):
        town.server.receive_datagrams([stun_request()], near(number), town.clock.now)
    for number in range(100):
        town.server.datagrams_to_send(town.clock.now)
        town.server.receive_datagrams([stun_request()], neighbour(number), town.clock.now)
        assert len(town.server.datagrams_to_send(town.clock.now)) == 1


def test_streams() -> None:
    table = StreamTable(max_streams=MANY, max_per_source=64)
    opened = [table.open(number, near(number), 0.0) for number in range(MANY)]
    assert sum(opened) == 64
    assert all(table.open(MANY + number, neighbour(number), 0.0) for number in range(100))


def test_streams_by_a_proxy_for_mapped_addresses() -> None:
    table = StreamTable(max_streams=9, max_per_source=1)
    for number in (1, 2, 3):
        assert table.open(number, Endpoint("::ffff:127.0.0.1", number), 0.0)
    table.rename(1, Endpoint("::ffff:192.0.2.1", 1))
    table.rename(2, Endpoint("192.0.2.1", 1))
    table.rename(3, Endpoint("::ffff:192.0.2.2", 1))
    assert table.take_closings() == [2]


def test_redeeming() -> None:
    town = Town()
    inviter = town.add(1)
    joiner = ScriptedNode(town, 5, near(0))
    joiner.connect()
    for number in range(100):
        joiner.move(near(number))
        joiner.send(Redeem(number, inviter.key.data, b"guess"))
    assert len(inviter.take(Asked)) == 5
    other = ScriptedNode(town, 6, neighbour(0))
    other.connect()
    other.send(Redeem(1, inviter.key.data, b"true"))
    assert len(inviter.take(Asked)) == 1


@pytest.mark.parametrize("construction", [PUNCHTUN, server_construction(ACCESS)])
def test_handshakes_under_load(construction: Construction) -> None:
    """Those who have shown by a cookie where they are: 40 of a /64 are opened, and all of others,
    at a node and at the server."""
    receiver = HandshakeReceiver(construction, SERVER_KEY, seeded(1), calm_rate=0.0)
    session = Session(
        construction=construction,
        static=key(9),
        remote_static=SERVER_KEY.public_key,
        preshared=PresharedKey(bytes(32)),
        indices=IndexTable(seeded(1)),
        random_bytes=seeded(1),
        wall_clock=lambda: 1.8e9,
    )

    def knock(source: Endpoint, channel: int | None = None) -> str:
        for _ in range(2):
            session.initiate(0.0)
            (datagram,) = session.take_datagrams()
            session.close()
            try:
                receiver.receive(datagram, source, 0.0, channel=channel)
            except CookieDemanded as demand:
                session.receive_cookie(parse_cookie_reply(demand.datagram), 0.0)
            except AuthenticationFailed as error:
                return str(error)
            else:
                return "opened"
        return "a cookie is of no use"

    answers = Counter(knock(near(number)) for number in range(400))
    assert answers == {"opened": 40, "too many handshakes from one source": 360}
    assert Counter(knock(neighbour(number)) for number in range(20)) == {"opened": 20}
    # Those that come by the relay have the server's address, and each channel is a source.
    relay = neighbour(30)
    answers = Counter(knock(relay, 1) for _ in range(100))
    assert answers["opened"] == 40
    assert knock(relay, 2) == "opened"
    assert knock(relay) == "opened"
