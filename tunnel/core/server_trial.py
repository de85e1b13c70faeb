"""Whether the server answers by one way, tried with a key of its own and without registering.

========  =====================================  ============================================
state     meaning                                left by
========  =====================================  ============================================
idle      not begun                              `start`, or a stream that has opened → trying
trying    handshakes are out                     the response → reached; the stream ends, or
                                                 `give_up` → failed
reached   there are keys
failed    ``reason`` says why
========  =====================================  ============================================
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from tunnel.core.indices import IndexTable
from tunnel.core.machine import RandomBytes, Transmit, WallClock
from tunnel.core.server_session import ServerSession
from tunnel.core.session import Session
from tunnel.core.transport import StreamRoute
from tunnel.noise.keys import PrivateKey, PublicKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import COOKIE_REPLY, RESPONSE, parse_cookie_reply, parse_response
from tunnel.wire.invitation import ServerUrl
from tunnel.wire.rendezvous import FromServer
from tunnel.wire.transport import TRANSPORT


class TrialState(enum.Enum):
    IDLE = "idle"
    TRYING = "trying"
    REACHED = "reached"
    FAILED = "failed"


class ServerTrial:
    def __init__(
        self,
        way: str,
        url: ServerUrl,
        local: int,
        random_bytes: RandomBytes,
        wall_clock: WallClock,
        route: StreamRoute | None = None,
    ) -> None:
        self.way = way
        """For people: "UDP over IPv4" and the like."""
        self.local = local
        """The socket's number, or the stream's."""
        self.route = route
        self.state = TrialState.IDLE
        self.reason = ""
        indices: IndexTable[Session] = IndexTable(random_bytes)
        self.link = ServerSession(
            static=PrivateKey.generate(random_bytes),
            server_key=PublicKey(url.public_key),
            access_token=url.access_token,
            indices=indices,
            random_bytes=random_bytes,
            wall_clock=wall_clock,
        )

    @property
    def is_over(self) -> bool:
        return self.state in (TrialState.REACHED, TrialState.FAILED)

    @property
    def rtt(self) -> float | None:
        return self.link.session.handshake_rtt

    def start(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Over UDP."""
        self.state = TrialState.TRYING
        self.link.set_endpoints(endpoints)
        self.link.session.restart_handshake(now)

    def stream_opened(self, endpoint: Endpoint, now: float) -> None:
        self.link.add_stream(self.local, endpoint, now)

    def fail(self, reason: str) -> None:
        if not self.is_over:
            self.state, self.reason = TrialState.FAILED, reason

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> FromServer | None:
        """Raises Malformed, AuthenticationFailed."""
        local = self.local if self.route is not None else 0
        kind = datagram[0] if datagram else 0
        if kind == RESPONSE:
            self.link.receive_response(parse_response(datagram), source, now, local)
            self.state = TrialState.REACHED
        elif kind == COOKIE_REPLY:
            self.link.receive_cookie(parse_cookie_reply(datagram), now, local)
        elif kind == TRANSPORT:
            return self.link.open(datagram, now)
        return None

    def take_transmits(self) -> list[Transmit]:
        """From its own socket, or by its stream."""
        return [
            transmit._replace(local=transmit.local or self.local)
            for transmit in self.link.datagrams_to_send()
        ]

    def get_timer(self) -> float | None:
        return self.link.session.get_timer() if self.state is TrialState.TRYING else None

    def handle_timer(self, now: float) -> None:
        if self.state is TrialState.TRYING:
            self.link.session.handle_timer(now)
