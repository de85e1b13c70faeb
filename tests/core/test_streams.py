"""Nodes that reach the server by a stream: what the server tells them, and others of them."""

from __future__ import annotations

import pytest

from tests.core.ends import ACCESS, SERVER_KEY, ScriptedNode, Town
from tests.core.test_rendezvous import pair
from tests.wire.test_stun import request
from tunnel.core.machine import FIRST_STREAM, Transmit
from tunnel.core.rendezvous import LIFETIME
from tunnel.core.stream_table import HANDSHAKE_TIME, IDLE_TIME, StreamTable
from tunnel.errors import AuthenticationFailed
from tunnel.wire.check import UNOBSERVED
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.relay import pack_relay, parse_relay
from tunnel.wire.rendezvous import (
    Acknowledge,
    Echo,
    Echoed,
    Introduction,
    Leave,
    Moved,
    Probe,
    Register,
    Registered,
)

S1, S2 = FIRST_STREAM, FIRST_STREAM + 1
FAR = Endpoint("192.0.2.7", 50000)


class StreamTown(Town):
    """Notes by which socket or stream the server sends."""

    def __init__(self, **limits: float) -> None:
        super().__init__(**limits)
        self.sent: list[Transmit] = []
        self.closed: list[int] = []

    def settle(self) -> None:
        transmits = self.server.datagrams_to_send(self.clock.now)
        self.closed += self.server.take_closings()
        self.sent += transmits
        for transmit in transmits:
            node = self.nodes.get(transmit.endpoint)
            if node is not None:
                node.receive(bytes(transmit.data))

    def open(self, number: int, source: Endpoint = FAR) -> None:
        self.server.stream_opened(number, source, self.clock.now)
        self.settle()


class OnStream:
    """A pair: `a` on UDP, `b` registered by stream S1."""

    def __init__(self) -> None:
        self.town = StreamTown()
        self.a, self.b = pair(self.town)
        self.udp = self.b.endpoint
        self.b.move(FAR)
        self.town.open(S1)
        self.register(2)
        self.a.heard.clear()
        self.town.sent.clear()

    def register(self, sequence: int, local: int = S1) -> None:
        announcement = b"announcement %d" % sequence
        self.b.send(Register(sequence, 0, b"the network's tg", announcement), local)
        for node, way in ((self.a, 0), (self.b, local)):
            for notice in node.take(Introduction):
                node.send(Acknowledge(notice.serial), way)


def test_a_node_registers_by_a_stream() -> None:
    town = StreamTown()
    a = town.add(1)
    b = ScriptedNode(town, 2, FAR)
    town.open(S1)
    b.link.session.restart_handshake(town.clock.now)
    b.flush(S1)
    b.send(Register(7, 0, b"the network's tg", b"sealed"), S1)
    (registered,) = b.take(Registered)
    assert registered.observed == UNOBSERVED
    (to_a,), (to_b,) = a.take(Introduction), b.take(Introduction)
    assert to_a.observed == UNOBSERVED, "a stream's other end is no candidate"
    assert to_b.observed == a.endpoint
    assert {t.local for t in town.sent if t.endpoint == FAR} == {S1}
    b.send(Echo(5, 0), S1)
    assert b.take(Echoed) == [Echoed(5, 0, UNOBSERVED)]
    assert town.server.status(town.clock.now)["streams"] == 1


def test_notices_go_by_the_stream_and_nobody_is_told_of_a_move() -> None:
    pair = OnStream()
    assert pair.a.take(Moved) == []
    pair.a.register(9)
    (introduction,) = pair.b.take(Introduction)
    assert introduction.peer == pair.a.key.data
    assert {t.local for t in pair.town.sent if t.endpoint == FAR} == {S1}


def test_back_on_udp_the_peers_are_told() -> None:
    pair = OnStream()
    pair.b.move(pair.udp)
    pair.b.send(Echo(1, 0))
    (moved,) = pair.a.take(Moved)
    assert moved.endpoint == pair.udp
    pair.town.sent.clear()
    pair.a.register(9)
    assert pair.b.take(Introduction)
    assert {t.local for t in pair.town.sent if t.endpoint == pair.udp} == {0}


def test_a_frame_that_was_overtaken_does_not_move_the_node() -> None:
    """The last datagrams over UDP may come after the first ones by the stream."""
    pair = OnStream()
    session, now = pair.b.link.session, pair.town.clock.now
    late, first = (session.seal(Echo(n, 0).pack(), now) for n in (1, 2))
    assert late
    assert first
    pair.b.send_raw(first, S1)
    pair.b.send_raw(late, 0, source=pair.udp)
    assert pair.a.take(Moved) == []
    pair.town.sent.clear()
    pair.a.register(9)
    assert pair.b.take(Introduction)


def test_relaying_by_a_stream() -> None:
    pair = OnStream()
    registrant = pair.town.server._registrants[pair.b.key.data]
    channel = registrant.channels[pair.a.key.data]
    pair.b.send_raw(pack_relay(channel, b"from b"), S1)
    assert [parse_relay(d)[1] for d in pair.a.channels] == [b"from b"]
    back = pair.town.server._registrants[pair.a.key.data].channels[pair.b.key.data]
    pair.a.send_raw(pack_relay(back, b"from a"))
    assert [parse_relay(d)[1] for d in pair.b.channels] == [b"from a"]
    # By another stream, even from the same endpoint, or over UDP from where it was: not its owner.
    pair.town.open(S2)
    pair.b.send_raw(pack_relay(channel, b"forged"), S2)
    pair.b.send_raw(pack_relay(channel, b"forged"), 0, source=pair.udp)
    pair.b.send_raw(pack_relay(channel, b"forged"), 0)
    assert len(pair.a.channels) == 1
    assert pair.town.server.drops["relay: not from the channel's owner"] == 3


def test_a_stream_that_has_ended_gets_nothing_and_another_takes_over() -> None:
    pair = OnStream()
    pair.town.server.stream_closed(S1, "gone", pair.town.clock.now)
    pair.a.register(9)
    assert not [t for t in pair.town.sent if t.endpoint in (FAR, pair.udp)]
    pair.town.open(S2)
    pair.b.send(Echo(1, 0), S2)
    pair.town.advance(1.0)
    assert pair.b.take(Introduction), "kept, and repeated until it is acknowledged"
    assert {t.local for t in pair.town.sent if t.endpoint == FAR} == {S2}


def test_a_stream_is_one_nodes() -> None:
    pair = OnStream()
    other = ScriptedNode(pair.town, 3, FAR)
    other.link.session.restart_handshake(pair.town.clock.now)
    other.flush(S1)
    other.send(Echo(1, 0), S1)
    assert pair.town.server.drops["stream: another node's"] == 1
    assert not other.take(Echoed)


def test_neither_probes_nor_stun_by_a_stream() -> None:
    pair = OnStream()
    pair.b.send(Probe(1, 0), S1)
    pair.b.send_raw(request(), S1)
    assert not pair.b.take(Echoed)
    assert pair.town.server.drops["probe on a stream"] == 1
    assert pair.town.server.stun.count == 0


def test_silent_streams_are_closed_and_the_node_is_kept() -> None:
    pair = OnStream()
    pair.town.open(S2)
    pair.town.advance(HANDSHAKE_TIME)
    assert pair.town.closed == [S2]
    pair.town.advance(IDLE_TIME)
    assert pair.town.closed == [S2, S1]
    assert pair.town.server.status(pair.town.clock.now)["nodes"] == 2
    pair.town.advance(LIFETIME)
    assert pair.town.server.status(pair.town.clock.now)["nodes"] == 0


def test_leaving_closes_the_stream() -> None:
    pair = OnStream()
    pair.b.send(Leave(), S1)
    assert pair.town.closed == [S1]
    pair.b.send_raw(b"\5\0\0\0\1\0\0\0x", S1)  # What still comes by it is dropped.


def test_a_stranger_by_a_stream_gets_nothing() -> None:
    town = StreamTown()
    town.open(S1)
    stranger = ScriptedNode(
        town, 5, FAR, access=b"x" * len(ACCESS), server_key=SERVER_KEY.public_key
    )
    stranger.link.session.restart_handshake(town.clock.now)
    stranger.flush(S1)
    assert town.sent == []


# The table


def source(number: int) -> Endpoint:
    return Endpoint(f"192.0.2.{number}", 4000)


def test_how_many() -> None:
    table = StreamTable(max_streams=4, max_per_source=2)
    assert [table.open(n, source(1), 0.0) for n in (1, 2, 3)] == [True, True, False]
    assert [table.open(n, source(n), 0.0) for n in (4, 5, 6)] == [True, True, False]
    table.close(1)
    assert table.open(7, source(1), 0.0)
    assert (len(table), table.refused) == (4, 2)


def test_one_ipv6_site_is_one_source() -> None:
    table = StreamTable(max_streams=9, max_per_source=1)
    assert table.open(1, Endpoint("2001:db8::1", 1), 0.0)
    assert not table.open(2, Endpoint("2001:db8::2", 1), 0.0)
    assert table.open(3, Endpoint("2001:db8:0:1::2", 1), 0.0)


def test_behind_a_proxy_on_this_machine() -> None:
    table = StreamTable(max_streams=9, max_per_source=1)
    assert all(table.open(n, Endpoint("127.0.0.1", n), 0.0) for n in (1, 2, 3))
    table.rename(1, source(1))
    table.rename(2, source(1))
    table.rename(3, source(3))
    assert table.take_closings() == [2]
    assert not table.open(4, source(1), 0.0)
    table.rename(3, source(9))  # Only once.
    assert not table.open(5, source(3), 0.0)


def test_ending_of_unknown_and_claimed_streams() -> None:
    table = StreamTable(9, 9)
    town = Town()
    town.add(1)
    town.add(2)
    one, other = town.server._registrants.values()
    assert table.open(1, source(1), 0.0)
    assert table.open(2, source(2), 0.0)
    table.claim(2, one, 5.0)
    with pytest.raises(AuthenticationFailed, match="another"):
        table.claim(2, other, 5.0)
    with pytest.raises(AuthenticationFailed, match="closed"):
        table.claim(3, one, 5.0)
    assert table.get_timer() == HANDSHAKE_TIME
    table.handle_timer(HANDSHAKE_TIME)
    table.handle_timer(HANDSHAKE_TIME)
    assert table.take_closings() == [1]
    assert table.get_timer() == 5.0 + IDLE_TIME
    table.handle_timer(5.0 + IDLE_TIME)
    assert table.take_closings() == [2]
    assert len(table) == 0
