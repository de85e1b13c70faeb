"""By which way a node talks to its server: one step at a time, with a server scripted by hand."""

from __future__ import annotations

import pytest

from tests.core.ends import ACCESS, SERVER, SERVER_KEY, URL, Clock, ScriptedServer, key, seeded
from tunnel.core.indices import IndexTable
from tunnel.core.machine import FIRST_STREAM, Transmit, is_stream
from tunnel.core.server_session import ServerSession
from tunnel.core.transport import (
    CANDIDATE_PATIENCE,
    RETURN_PATIENCE,
    STAGGER,
    UDP_PATIENCE,
    StreamRoute,
    Transport,
    TransportState,
    stream_routes,
)
from tunnel.noise.cookie import CookieChecker
from tunnel.wire.endpoint import Endpoint, pack_endpoint
from tunnel.wire.handshake import INITIATION, parse_response
from tunnel.wire.invitation import ServerUrl
from tunnel.wire.rendezvous import Probe

UDP, RACING, STREAM, RETURNING = TransportState
S1, S2, S3 = FIRST_STREAM, FIRST_STREAM + 1, FIRST_STREAM + 2
FAR = Endpoint("198.51.100.1", 443)
HERE = Endpoint("203.0.113.2", 40002)


class Ways:
    """A transport that has just started, and a server that answers what it is shown."""

    def __init__(self, *, has_endpoints: bool = True) -> None:
        self.clock = Clock()
        self.server = ScriptedServer(self.clock)
        self.link = ServerSession(
            static=key(2),
            server_key=SERVER_KEY.public_key,
            access_token=ACCESS,
            indices=IndexTable(seeded(1)),
            random_bytes=seeded(2),
            wall_clock=self.clock.wall,
        )
        self.transport = Transport(self.link, stream_routes(URL), seeded(3))
        self.link.set_endpoints([SERVER] if has_endpoints else [])
        if has_endpoints:
            self.link.session.restart_handshake(self.clock.now)
        self.transport.start(self.clock.now)

    def advance(self, seconds: float) -> None:
        self.clock.now += seconds
        self.transport.handle_timer(self.clock.now)

    def answer(self, transmits: list[Transmit], local: int) -> None:
        """The server answers the initiation among them that went by `local`, if there is one."""
        for transmit in transmits:
            if transmit.local == local and transmit.data[0] == INITIATION:
                for response in self.server.receive(bytes(transmit.data), HERE):
                    parsed, now = parse_response(response), self.clock.now
                    self.link.receive_response(parsed, transmit.endpoint, now, local)
                    self.transport.note_handshake(now)

    def by_stream(self) -> Ways:
        """Until a stream is used."""
        self.link.datagrams_to_send()
        self.advance(UDP_PATIENCE)
        self.transport.stream_opened(S1, FAR, self.clock.now)
        self.answer(self.link.datagrams_to_send(), S1)
        assert self.transport.state is STREAM
        return self

    def asked(self) -> list[Transmit]:
        return [t for t in self.link.datagrams_to_send() if t.local == 0]


def kinds(ways: Ways) -> list[str]:
    return [opening.route.kind for opening in ways.transport.take_openings()]


def test_where() -> None:
    assert [(r.kind, r.host, r.port) for r in stream_routes(URL)] == [
        ("tcp", SERVER.host, SERVER.port),
        ("websocket", SERVER.host, 443),
        ("websocket", SERVER.host, 80),
    ]
    url = ServerUrl("vps.example", 12345, b"", b"", 443, "wss://www.example/x")
    first, second = stream_routes(url)
    assert first == StreamRoute("vps.example", 443)
    assert (second.host, second.port) == ("www.example", 443)
    assert second.websocket is not None
    assert second.websocket.target == "/x"


def test_udp_answers_in_time() -> None:
    ways = Ways()
    ways.answer(ways.link.datagrams_to_send(), 0)
    ways.transport.follow(ways.clock.now, is_connected=True, is_doubtful=False)
    assert ways.transport.get_timer() is None
    ways.advance(1000.0)
    assert ways.transport.state is UDP
    assert kinds(ways) == []


def test_candidates_are_staggered() -> None:
    ways = Ways()
    ways.advance(UDP_PATIENCE - 0.001)
    assert kinds(ways) == []
    ways.advance(0.001)
    assert ways.transport.state is RACING
    assert kinds(ways) == ["tcp"]
    ways.advance(STAGGER)
    assert kinds(ways) == ["websocket"]
    ways.transport.stream_closed(S2, ways.clock.now)  # Refused: the next one at once.
    ways.advance(0.0)
    assert kinds(ways) == ["websocket"]
    ways.advance(CANDIDATE_PATIENCE)
    assert ways.transport.take_closings() == [S1, S3]


def test_a_name_that_does_not_resolve() -> None:
    """A proxy may know more."""
    ways = Ways(has_endpoints=False)
    ways.advance(0.0)
    assert kinds(ways) == ["tcp"]
    ways.transport.stream_opened(S1, FAR, ways.clock.now)
    ways.answer(ways.link.datagrams_to_send(), S1)
    assert (ways.transport.state, ways.transport.kind) == (STREAM, "tcp")


def test_each_initiation_goes_one_way() -> None:
    ways = Ways()
    assert {t.local for t in ways.link.datagrams_to_send()} == {0}
    ways.advance(UDP_PATIENCE)
    ways.transport.stream_opened(S1, FAR, ways.clock.now)
    seen = [{t.local for t in ways.link.datagrams_to_send()}]
    for _ in range(3):
        ways.clock.now += 10.0
        ways.link.session.handle_timer(ways.clock.now)
        seen.append({t.local for t in ways.link.datagrams_to_send()})
    assert seen == [{S1}, {0}, {S1}, {0}]


def test_the_first_handshake_wins() -> None:
    ways = Ways()
    ways.link.datagrams_to_send()
    ways.advance(UDP_PATIENCE)
    ways.advance(STAGGER)
    ways.transport.stream_opened(S2, FAR, ways.clock.now)
    ways.answer(ways.link.datagrams_to_send(), S2)
    assert (ways.transport.state, ways.transport.kind) == (STREAM, "websocket")
    assert ways.transport.take_closings() == [S1]
    (event,) = ways.transport.take_events()
    assert (event.before, event.after) == ("udp", "websocket")
    # One that opens late is not wanted any more.
    ways.transport.stream_opened(S1, FAR, ways.clock.now)
    assert ways.transport.take_closings() == [S1]
    assert set(ways.link.streams) == {S2}


def test_udp_answers_while_streams_are_opened() -> None:
    ways = Ways()
    first = ways.link.datagrams_to_send()
    ways.advance(UDP_PATIENCE)
    ways.answer(first, 0)
    assert ways.transport.state is UDP
    assert ways.transport.take_closings() == [S1]
    assert ways.transport.take_events() == []


def test_asking_and_going_back() -> None:
    ways = Ways().by_stream()
    assert ways.asked() == []
    timer = ways.transport.get_timer()
    assert timer is not None
    ways.advance(timer - ways.clock.now)
    (probe,) = ways.asked()
    assert probe.endpoint == SERVER
    ways.server.receive(bytes(probe.data), HERE)
    message = ways.server.heard[-1]
    assert isinstance(message, Probe)
    assert not ways.transport.receive_echo(message.transaction + 1, ways.clock.now)
    assert ways.transport.receive_echo(message.transaction, ways.clock.now)
    assert ways.transport.state is RETURNING
    assert ways.transport.take_wants_registration()
    assert (ways.link.endpoint, ways.link.local) == (SERVER, 0)
    assert ways.transport.take_closings() == [], "in reserve"
    ways.transport.follow(ways.clock.now, is_connected=True, is_doubtful=False)
    assert (ways.transport.state, ways.transport.kind) == (UDP, "udp")
    assert ways.transport.take_closings() == [S1]


@pytest.mark.parametrize("is_reserve_there", [True, False])
def test_going_back_in_vain(is_reserve_there: bool) -> None:
    ways = Ways().by_stream()
    ways.advance(2.0)
    (probe,) = ways.asked()
    ways.server.receive(bytes(probe.data), HERE)
    message = ways.server.heard[-1]
    assert isinstance(message, Probe)
    ways.transport.receive_echo(message.transaction, ways.clock.now)
    if not is_reserve_there:
        assert not ways.transport.stream_closed(S1, ways.clock.now)
    ways.transport.take_wants_registration()
    ways.advance(RETURN_PATIENCE)
    if is_reserve_there:
        assert ways.transport.state is STREAM
        assert ways.link.local == S1
        assert ways.transport.take_wants_registration()
    else:
        assert ways.transport.state is RACING


def test_the_stream_in_use_ends() -> None:
    ways = Ways().by_stream()
    kinds(ways)
    assert ways.transport.stream_closed(S1, ways.clock.now)
    assert ways.transport.state is RACING
    assert ways.link.endpoint is None
    assert kinds(ways) == ["tcp"]
    assert ways.transport.kind == "udp"


def test_a_doubtful_stream_is_kept_until_another_answers() -> None:
    ways = Ways().by_stream()
    ways.transport.take_openings()
    ways.transport.follow(ways.clock.now, is_connected=True, is_doubtful=True)
    assert ways.transport.state is RACING
    assert ways.link.local == S1
    ways.transport.follow(ways.clock.now, is_connected=True, is_doubtful=False)
    assert ways.transport.state is STREAM
    assert S1 not in ways.transport.take_closings()
    ways.transport.follow(ways.clock.now, is_connected=False, is_doubtful=True, is_lost=True)
    assert ways.transport.state is RACING
    assert S1 in ways.transport.take_closings()


def test_a_cookie_goes_back_by_the_way_it_came() -> None:
    """It is bound to the address the server saw; by any other way it would be worth nothing."""
    ways = Ways()
    ways.link.datagrams_to_send()
    ways.advance(UDP_PATIENCE)
    ways.transport.stream_opened(S1, FAR, ways.clock.now)
    (initiation,) = ways.link.datagrams_to_send()
    assert is_stream(initiation.local)
    construction = ways.link.session._construction
    checker = CookieChecker(construction, SERVER_KEY.public_key, seeded(9))
    source = pack_endpoint(HERE)
    reply = checker.create_reply(bytes(initiation.data), source, ways.clock.now)
    ways.link.receive_cookie(reply, ways.clock.now, S1)
    ways.clock.now += 10.0
    ways.link.session.handle_timer(ways.clock.now)
    (again,) = ways.link.datagrams_to_send()
    assert again.local == S1
    assert checker.has_valid_mac2(bytes(again.data), source, ways.clock.now)


def test_get_timer_only_reads_and_early_timers_are_harmless() -> None:
    ways = Ways().by_stream()
    ways.link.datagrams_to_send()
    timer = ways.transport.get_timer()
    for _ in range(3):
        ways.transport.handle_timer(ways.clock.now)
        assert ways.transport.get_timer() == timer
    assert ways.link.datagrams_to_send() == []
