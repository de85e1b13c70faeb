"""What carries a node's datagrams to the server: UDP, or a stream where UDP does not pass.

    =========  ====================================  ===========================================
    state      meaning                               left by
    =========  ====================================  ===========================================
    udp        UDP is used, and no stream is open    ``UDP_PATIENCE`` after the start without an
                                                     answer, or the registration in doubt → racing
    racing     nothing answers: streams are opened   a handshake by a stream → stream; the server
               one after the other, and handshakes   answers by the way in use after all → udp or
               go by them and by UDP in turn         stream, whichever that is
    stream     a stream is used; the server is       its answer over UDP → returning; the stream is
               asked over UDP now and then           closed, or the registration in doubt → racing
    returning  registering over UDP; the stream      registered → udp; ``RETURN_PATIENCE`` without
               stays open in reserve                 that → stream
    =========  ====================================  ===========================================

Candidates are TCP and WebSocket addresses, staggered as in RFC 8305 (happy eyeballs); the one that
worked last comes first. A round in which all of them fail is repeated, ever more gently. Peers'
sessions know nothing of this: what is relayed goes on by the other way.

It never opens anything: ``take_openings`` and ``take_closings`` say what the driver is to do, which
answers with `stream_opened` and `stream_closed`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tunnel.core.events import TransportChanged
from tunnel.core.machine import FIRST_STREAM, RandomBytes, draw_number, earliest
from tunnel.core.server_session import ServerSession
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.invitation import ServerUrl, WebSocketUrl, parse_websocket_url
from tunnel.wire.rendezvous import Probe

UDP_PATIENCE = 2.0
"""Seconds in which the server may answer over UDP at the start: four initiations."""
STAGGER = 0.5
"""Seconds from opening one stream to the next, unless it fails before. RFC 8305 §5 has 0.25 for
addresses of one name; here each is another service, and the first mostly works."""
CANDIDATE_PATIENCE = 10.0
"""Seconds from opening a stream to the handshake over it."""
ROUND_DELAYS = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
"""Seconds from a round in which every stream failed to the next."""
ASK_DELAYS = (1.0, 3.0, 7.0, 15.0, 25.0)
"""Seconds between questions over UDP while a stream is used; the last one goes on."""
ASK_SPACING = 3.0
"""The same at least, whatever else seems a reason to ask."""
RETURN_PATIENCE = 2.0
MAX_ASKED = 16
WEBSOCKET_TARGET = "/punchtun"


class TransportState(enum.Enum):
    UDP = "udp"
    RACING = "racing"
    STREAM = "stream"
    RETURNING = "returning"


class StreamRoute(NamedTuple):
    """Where a stream to the server may be opened."""

    host: str
    port: int
    websocket: WebSocketUrl | None = None
    """None: plain TCP, with lengths."""

    @property
    def kind(self) -> str:
        return "tcp" if self.websocket is None else "websocket"


class Opening(NamedTuple):
    """A stream that the driver is to open."""

    number: int
    route: StreamRoute


def stream_routes(url: ServerUrl) -> tuple[StreamRoute, ...]:
    """Where the server of that URL may be reached by a stream: where the URL says, else TCP on the
    number of its UDP port, and a WebSocket on 443 or 80, which proxies let pass."""
    routes = [StreamRoute(url.host, url.tcp_port or url.port)]
    if url.websocket is not None:
        sockets = [parse_websocket_url(url.websocket)]
    else:
        sockets = [
            WebSocketUrl(True, url.host, 443, WEBSOCKET_TARGET),
            WebSocketUrl(False, url.host, 80, WEBSOCKET_TARGET),
        ]
    routes += [StreamRoute(socket.host, socket.port, socket) for socket in sockets]
    return tuple(routes)


@dataclass
class _Candidate:
    route: StreamRoute
    expires_at: float
    is_open: bool = False


class Transport:
    def __init__(
        self, link: ServerSession, routes: Sequence[StreamRoute], random_bytes: RandomBytes
    ) -> None:
        self.state = TransportState.UDP
        self._link = link
        self._routes = list(routes)
        self._random_bytes = random_bytes
        self._numbers = FIRST_STREAM
        self._streams: dict[int, _Candidate] = {}
        """Asked for, and not known to be closed."""
        self._waiting: list[StreamRoute] = []
        """Still to be opened in this round."""
        self._rounds = 0
        self._next_at: float | None = None
        """When the next stream is opened, or the next round begins."""
        self._doubt_at: float | None = None
        self._has_started = False
        self._ask_at: float | None = None
        self._asks = 0
        self._asked_at = float("-inf")
        self._asked: dict[int, Endpoint] = {}
        self._return_until: float | None = None
        self._reserve = 0
        self._told = "udp"
        self._wants_registration = False
        self._openings: list[Opening] = []
        self._closings: list[int] = []
        self._events: list[TransportChanged] = []

    # What the owner asks

    @property
    def kind(self) -> str:
        """What is used: udp, tcp or websocket."""
        stream = self._streams.get(self._link.local)
        return "udp" if stream is None else stream.route.kind

    @property
    def is_udp_blocked(self) -> bool:
        """Whether the server answers by a stream, and not over UDP."""
        return self.state is TransportState.STREAM

    def take_openings(self) -> list[Opening]:
        openings, self._openings = self._openings, []
        return openings

    def take_closings(self) -> list[int]:
        """Streams to close; nothing more is to be told of them."""
        closings, self._closings = self._closings, []
        return closings

    def take_events(self) -> list[TransportChanged]:
        events, self._events = self._events, []
        return events

    def take_wants_registration(self) -> bool:
        """Whether the node should register, by the way there is now."""
        wants, self._wants_registration = self._wants_registration, False
        return wants

    # Commands

    def start(self, now: float) -> None:
        """The server's endpoints are known, or its name does not resolve."""
        if self.state is TransportState.UDP and not self._has_started:
            patience = UDP_PATIENCE if self._link.endpoints else 0.0
            if self._doubt_at is None or patience == 0.0:
                self._doubt_at = now + patience

    def ask_udp(self, now: float) -> None:
        """The network may have changed: does UDP pass now?"""
        if self.state is TransportState.STREAM and now - self._asked_at >= ASK_SPACING:
            self._asks = 0
            self._ask(now)

    def follow(
        self, now: float, *, is_connected: bool, is_doubtful: bool, is_lost: bool = False
    ) -> None:
        """What the registration has come to: the server answers by the way in use; it should have,
        but does not yet; it is given up."""
        if is_connected:
            self._has_started, self._doubt_at = True, None
        is_fine = is_connected and not is_doubtful and not is_lost
        if self.state is TransportState.UDP:
            if is_doubtful or is_lost:
                self._race(now)
        elif self.state is TransportState.RACING:
            if is_fine:
                self._settle(now, "it answers again")
        elif self.state is TransportState.STREAM:
            if is_lost:
                self._close(self._link.local)
            if is_doubtful or is_lost:
                self._race(now)
        elif is_fine and not self._link.is_on_stream:
            self._settle(now, "UDP passes again")

    # From the driver

    def stream_opened(self, number: int, endpoint: Endpoint, now: float) -> None:
        """A stream that was asked for is ready for datagrams; `endpoint` is its other end."""
        stream = self._streams.get(number)
        if stream is None or self.state is not TransportState.RACING:
            self._close(number)
            return
        stream.is_open = True
        self._link.add_stream(number, endpoint, now)

    def stream_closed(self, number: int, now: float) -> bool:
        """It could not be opened, or has ended. True: it was the one in use."""
        stream = self._streams.pop(number, None)
        was_used = self._link.local == number
        self._link.remove_stream(number)
        if stream is None:
            return False
        if self.state is TransportState.RACING:
            self._next_at = now if self._waiting else self._next_at
            self._plan_round(now)
        elif was_used:
            self._race(now)
        return was_used

    # From the network

    def note_handshake(self, now: float) -> None:
        """Keys have been agreed by the way that the link now uses."""
        self._has_started, self._doubt_at = True, None
        if self._link.is_on_stream:
            if self.state is not TransportState.STREAM:
                self._settle(now, "UDP does not pass")
        elif self.state is TransportState.STREAM:
            self._return(now)
        elif self.state is TransportState.RACING:
            self._settle(now, "it answers again")

    def receive_echo(self, transaction: int, now: float) -> bool:
        """Whether it answers a question over UDP; if so, the node goes back there."""
        endpoint = self._asked.pop(transaction, None)
        if endpoint is None:
            return False
        if self.state is TransportState.STREAM:
            number = self._link.local
            self._link.use_udp(endpoint)
            self._return(now, number)
        return True

    # The clock

    def get_timer(self) -> float | None:
        times = [self._doubt_at, self._next_at, self._ask_at, self._return_until]
        if self.state is TransportState.RACING:
            times += [s.expires_at for n, s in self._streams.items() if n != self._link.local]
        return earliest(times)

    def handle_timer(self, now: float) -> None:
        if self._doubt_at is not None and now >= self._doubt_at:
            self._race(now)
        if self.state is TransportState.RACING:
            self._handle_race(now)
        elif self.state is TransportState.STREAM:
            if self._ask_at is not None and now >= self._ask_at:
                self._ask(now)
        elif self._return_until is not None and now >= self._return_until:
            self._return_until = None
            if self._reserve in self._link.streams:
                self._link.use_stream(self._reserve)
                self._enter_stream(now)
                self._wants_registration = True
            else:
                self._race(now)

    # Inside

    def _race(self, now: float) -> None:
        self.state = TransportState.RACING
        self._doubt_at = self._ask_at = self._return_until = None
        self._rounds = 0
        self._waiting = list(self._routes)
        self._next_at = now if self._waiting else None
        self._handle_race(now)

    def _handle_race(self, now: float) -> None:
        for number, stream in list(self._streams.items()):
            if number != self._link.local and now >= stream.expires_at:
                self._close(number)
        if self._next_at is not None and now >= self._next_at:
            self._next_at = None
            if not self._waiting:
                self._waiting = list(self._routes)
            self._open(self._waiting.pop(0), now)
            if self._waiting:
                self._next_at = now + STAGGER
        self._plan_round(now)

    def _plan_round(self, now: float) -> None:
        """The next round, when this one has come to nothing."""
        is_trying = any(number != self._link.local for number in self._streams)
        if self._next_at is None and self._routes and not is_trying:
            delay = ROUND_DELAYS[min(self._rounds, len(ROUND_DELAYS) - 1)]
            self._rounds += 1
            self._next_at = now + delay * (1 + self._random_bytes(1)[0] / 510)

    def _open(self, route: StreamRoute, now: float) -> None:
        number, self._numbers = self._numbers, self._numbers + 1
        self._streams[number] = _Candidate(route, now + CANDIDATE_PATIENCE)
        self._openings.append(Opening(number, route))

    def _close(self, number: int) -> None:
        self._streams.pop(number, None)
        self._link.remove_stream(number)
        self._closings.append(number)

    def _settle(self, now: float, cause: str) -> None:
        """The way in use it is; what else was being opened is not needed."""
        self._next_at = self._return_until = None
        self._waiting = []
        for number in list(self._streams):
            if number != self._link.local:
                self._close(number)
        before, self._told = self._told, self.kind
        if self._link.is_on_stream:
            self._enter_stream(now)
            route = self._streams[self._link.local].route
            self._routes.sort(key=lambda other: other != route)
        else:
            self.state = TransportState.UDP
            self._ask_at = None
        if before != self._told:
            self._events.append(TransportChanged(before, self._told, cause))

    def _enter_stream(self, now: float) -> None:
        if self.state is not TransportState.RETURNING:
            self._asks = 0
        self.state = TransportState.STREAM
        self._plan_asking(now)

    def _return(self, now: float, reserve: int | None = None) -> None:
        self.state = TransportState.RETURNING
        self._reserve = next(iter(self._link.streams), 0) if reserve is None else reserve
        self._ask_at = None
        self._return_until = now + RETURN_PATIENCE
        self._wants_registration = True

    def _ask(self, now: float) -> None:
        """A probe: its answer comes over UDP or not at all, and until it does, the server goes on
        sending by the stream."""
        self._asked_at = now
        for endpoint in self._link.endpoints:
            transaction = draw_number(self._random_bytes)
            if self._link.send(Probe(transaction, 0), now, endpoint):
                self._asked[transaction] = endpoint
        while len(self._asked) > MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._plan_asking(now)

    def _plan_asking(self, now: float) -> None:
        """A little later at random, so that nodes that lost UDP together do not ask together."""
        delay = ASK_DELAYS[min(self._asks, len(ASK_DELAYS) - 1)]
        self._asks += 1
        self._ask_at = now + delay * (1 + self._random_bytes(1)[0] / 1275)
