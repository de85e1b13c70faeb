"""A node's session with the rendezvous server: one server, several endpoints, one pair of keys.

Where UDP does not pass there are streams as well (``core/transport.py`` decides when). Each
initiation goes by one way only, UDP or one stream, in turn: the server answers where the first
copy comes from, and of a way that is open in one direction only its answer would never come back.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace

from tunnel.core.candidates import is_public
from tunnel.core.indices import IndexTable
from tunnel.core.machine import RandomBytes, Transmit, WallClock, is_stream
from tunnel.core.session import Session, SessionTimes
from tunnel.noise.handshake import PUNCHTUN_SERVER, Construction
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey
from tunnel.noise.sealing import derive_key
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import CookieReply, Response
from tunnel.wire.rendezvous import FromNode, FromServer, parse_from_server
from tunnel.wire.transport import parse_header

SERVER_TIMES = SessionTimes(rekey_after=1800.0, reject_after=2100.0)
"""Hours of introductions are no secret worth a handshake of every node every two minutes: with
100,000 nodes that would be 833 a second, for ever."""
MAX_ENDPOINTS = 8


def server_preshared_key(access_token: bytes) -> PresharedKey:
    """The access token as preshared key: without it no frame opens at either end."""
    return PresharedKey(derive_key(b"server access", access_token))


def server_construction(access_token: bytes) -> Construction:
    """The preshared key enters the response only; so that the server is silent already to an
    initiation that knows its public key but not the token, the token is part of mac1's label."""
    label = derive_key(b"server mac1", access_token)[:8]
    return replace(PUNCHTUN_SERVER, mac1_label=label)


class ServerSession:
    def __init__(
        self,
        *,
        static: PrivateKey,
        server_key: PublicKey,
        access_token: bytes,
        indices: IndexTable[Session],
        random_bytes: RandomBytes,
        wall_clock: WallClock,
    ) -> None:
        self.session = Session(
            construction=server_construction(access_token),
            static=static,
            remote_static=server_key,
            preshared=server_preshared_key(access_token),
            indices=indices,
            random_bytes=random_bytes,
            wall_clock=wall_clock,
            times=SERVER_TIMES,
        )
        self.wall_clock = wall_clock
        self.endpoints: tuple[Endpoint, ...] = ()
        self.endpoint: Endpoint | None = None
        """The one that answered first."""
        self.alternate: Endpoint | None = None
        """A second address of the server, for learning how our NAT behaves and nothing else."""
        """The one that answered first; on a stream, its other end."""
        self.local = 0
        """0: UDP. Else the stream that the session uses."""
        self.streams: dict[int, Endpoint] = {}
        """All that are open: number → other end."""
        self._next_way = 0
        """By which the next initiation goes."""
        self._outbox: list[Transmit] = []

    def set_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        """Where the server's name points to now."""
        self.endpoints = tuple(endpoints)[:MAX_ENDPOINTS]
        if not self.is_on_stream and self.endpoint not in self.endpoints:
            self.endpoint = None

    @property
    def is_on_stream(self) -> bool:
        return is_stream(self.local)

    @property
    def has_ways(self) -> bool:
        """Whether there is anywhere to send a handshake."""
        return bool(self.endpoints or self.streams)

    def is_server(self, source: Endpoint, local: int = 0) -> bool:
        """Whether a datagram from there may be the server's (its second port included)."""
        if is_stream(local):
            return local in self.streams
        if self.alternate is not None and source.host == self.alternate.host:
            return True
        return any(source.host == endpoint.host for endpoint in self.endpoints)

    def set_alternate(self, alternate: Endpoint | None) -> None:
        """What the server says is another address of it. Not if it is of no use to a stranger: a
        server that listens behind a NAT of its own knows its private address only."""
        if alternate is not None:
            known = {endpoint.host for endpoint in self.endpoints}
            is_useful = alternate.port > 0 and alternate.host not in known
            if not is_useful or not is_public(ipaddress.ip_address(alternate.host)):
                alternate = None
        self.alternate = alternate

    def receive_response(
        self, response: Response, source: Endpoint, now: float, local: int = 0
    ) -> None:
        """The way by which it comes is the one in use from now on. Raises AuthenticationFailed."""
        self.session.receive_response(response, now)
        if is_stream(local):
            self.use_stream(local)
        elif source in self.endpoints:
            self.use_udp(source)

    def receive_cookie(self, reply: CookieReply, now: float, local: int = 0) -> None:
        """A cookie is good for the way it came by, so the next initiation goes there. Raises
        AuthenticationFailed."""
        self.session.receive_cookie(reply, now)
        self._next_way = local if is_stream(local) else 0

    def use_udp(self, endpoint: Endpoint) -> None:
        self.endpoint, self.local = endpoint, 0

    def use_stream(self, number: int) -> None:
        """Does nothing if it is not open."""
        if number in self.streams:
            self.endpoint, self.local = self.streams[number], number

    def add_stream(self, number: int, endpoint: Endpoint, now: float) -> None:
        """It is open: try it with a handshake."""
        self.streams[number] = endpoint
        self._next_way = number
        self.session.restart_handshake(now)

    def remove_stream(self, number: int) -> None:
        self.streams.pop(number, None)
        if self.local == number:
            self.endpoint, self.local = None, 0

    def open(self, datagram: bytes, now: float) -> FromServer | None:
        """A message, or None for a keep-alive. Raises Malformed, AuthenticationFailed."""
        receiver, counter = parse_header(datagram)
        payload = self.session.open(receiver, counter, datagram, now)
        return parse_from_server(payload) if payload else None

    def send(
        self,
        message: FromNode,
        now: float,
        endpoint: Endpoint | None = None,
        local: int | None = None,
    ) -> bool:
        """Queue a message; False while there are no keys or nobody has answered yet. With an
        `endpoint` it goes there over UDP."""
        target = endpoint or self.endpoint
        if target is None:
            return False
        datagram = self.session.seal(message.pack(), now)
        if datagram is None:
            return False
        if local is None:
            local = 0 if endpoint else self.local
        self._outbox.append(Transmit(datagram, target, None, local))
        return True

    def datagrams_to_send(self) -> list[Transmit]:
        for datagram in self.session.take_datagrams():
            self._outbox += self._by_next_way(datagram)
        transmits, self._outbox = self._outbox, []
        return transmits

    def _by_next_way(self, datagram: bytes) -> list[Transmit]:
        ways = [*self.streams, *([0] if self.endpoints else [])]
        way = self._next_way if self._next_way in ways else ways[0] if ways else 0
        if ways:
            self._next_way = ways[(ways.index(way) + 1) % len(ways)]
        if is_stream(way):
            return [Transmit(datagram, self.streams[way], None, way)]
        return [Transmit(datagram, endpoint) for endpoint in self.endpoints]
