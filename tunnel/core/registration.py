"""The node's side of the rendezvous protocol.

============  =====================================  =====================================
state         meaning                                left by
============  =====================================  =====================================
UNREACHABLE   no keys, or the server stopped         a completed handshake → REGISTERING
              answering, or it refuses us;
              handshakes go on for ever
REGISTERING   keys, but the newest announcement is   ``registered`` → CONNECTED; no answer
              not acknowledged                       to ``MAX_TRIES``, ``refused`` → UNREACHABLE
CONNECTED     echoes come back                       ``MAX_TRIES`` unanswered → UNREACHABLE
============  =====================================  =====================================
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from tunnel.constants import KEEPALIVE_INTERVAL
from tunnel.core.events import Event, MappingMoved, RelayRefused, ServerLost, ServerRegistered
from tunnel.core.machine import RandomBytes, Transmit, earliest
from tunnel.core.refusals import OF_RELAY, StandingRefusal, take_refusal
from tunnel.core.server_echoes import ServerEchoes
from tunnel.core.server_session import ServerSession
from tunnel.core.transport import Transport
from tunnel.wire.check import UNOBSERVED
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import Response
from tunnel.wire.rendezvous import (
    Acknowledge,
    Challenge,
    Echo,
    Echoed,
    FromNode,
    FromServer,
    Introduce,
    Leave,
    Probe,
    Proof,
    RefusalReason,
    Refused,
    Register,
    Registered,
)

MAX_TRIES = 5
FIRST_RETRY = 0.5
MAX_RETRY = 5.0
"""Seconds to wait for the first answer, at least and at most, whatever the round trip."""
COMPLAIN_AFTER = 5.0
"""Seconds without any answer at the start after which the server counts as lost."""
RECONNECT_DELAYS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
REFUSED_RETRY = 30.0
"""Seconds, up to twice as long, until one that is refused asks again."""
INTRODUCE_SPACING = 1.0
REFRESH_SPACING = 0.02
MAX_ASKS = 8
"""Keep-alives at which an endpoint of the server that stays silent is asked where it sees us: a
firewall may let through the first port only."""
STREAM_KEEPALIVE = 20.0
"""Seconds between echoes on a stream at most: proxies close what is silent for 30 or 60."""
SUSPECT_KEYS_AFTER = 2
"""Unanswered echoes after which keys are agreed anew beside them: the server may have restarted."""


class RegistrationState(enum.Enum):
    UNREACHABLE = "unreachable"
    REGISTERING = "registering"
    CONNECTED = "connected"


class Registration:
    def __init__(
        self,
        link: ServerSession,
        network_tag: bytes,
        random_bytes: RandomBytes,
        transport: Transport | None = None,
    ) -> None:
        self.link = link
        self.transport = transport or Transport(link, (), random_bytes)
        self.state = RegistrationState.UNREACHABLE
        self.observed: dict[tuple[int, bool], Endpoint] = {}
        """(listener, IPv6?) → where that listener of the server sees us."""
        self.witnesses: dict[Endpoint, Endpoint] = {}
        """Endpoint of the server, other than the one we register with → where that sees us, since
        our mapping last moved."""
        self.alternate_port: int | None = None
        self.clock_offset: float | None = None
        """Seconds that our wall clock was ahead of the server's when it registered us last."""
        self.refusal: StandingRefusal | None = None
        """Why the server does not register us."""
        self._relay_refusal: StandingRefusal | None = None
        self.keepalive_interval = KEEPALIVE_INTERVAL
        self._network_tag = network_tag
        self._random_bytes = random_bytes
        self._announcement: bytes | None = None
        self._sequence = 0
        self._echoes = ServerEchoes(random_bytes)
        self._registering_since = 0.0
        self._tries = 0
        self._asks_left = MAX_ASKS
        self._next_at: float | None = None
        self._reconnects = 0
        self._refreshed_at = float("-inf")
        self._introduced_at: dict[bytes, float] = {}
        self._events: list[Event] = []
        self._handshakes_seen = 0
        self._complain_at: float | None = None
        self._is_told = False
        """Whether the owner's last news is that the server is there."""

    # What the owner asks

    @property
    def is_connected(self) -> bool:
        return self.state is RegistrationState.CONNECTED

    @property
    def rtt(self) -> float | None:
        """Seconds. The handshake's, in which both ends made keys, counts only until an answer that
        costs nothing has come."""
        rtt = self._echoes.rtt
        return self.link.session.handshake_rtt if rtt is None else rtt

    def relay_refusal(self, now: float) -> StandingRefusal | None:
        """What the server does not relay for our network, and why."""
        refusal = self._relay_refusal
        server_time = self.link.wall_clock() - (self.clock_offset or 0.0)
        return refusal if refusal is not None and refusal.stands(now, server_time) else None

    def is_relay_cut(self, now: float) -> bool:
        """Whether nothing comes through the relay, of some pairs or of all."""
        refusal = self.relay_refusal(now)
        return refusal is not None and refusal.reason is not RefusalReason.RELAY_RATE

    @property
    def main_observed(self) -> Endpoint | None:
        """Where the server sees the address family we reach it by."""
        endpoint = self.link.endpoint
        if endpoint is None or self.link.is_on_stream:
            return None
        return self.observed.get((0, endpoint.is_ipv6))

    @property
    def is_udp_blocked(self) -> bool:
        """Whether the server answers by a stream, and not over UDP: no pair can be punched."""
        return self.transport.is_udp_blocked

    def reflexive_endpoints(self) -> list[Endpoint]:
        return [endpoint for (listener, _), endpoint in self.observed.items() if listener == 0]

    def alternate_endpoints(self) -> list[Endpoint]:
        """Where the server's second port sees us, if elsewhere than the first."""
        return [
            endpoint
            for (listener, is_ipv6), endpoint in self.observed.items()
            if listener == 1 and endpoint != self.observed.get((0, is_ipv6))
        ]

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return [*self.transport.take_events(), *events]

    def datagrams_to_send(self) -> list[Transmit]:
        return self.link.datagrams_to_send()

    # Commands

    def set_endpoints(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Where the server's name points to; starts the first handshake."""
        self.link.set_endpoints(endpoints)
        if self._complain_at is None and self._handshakes_seen == 0:
            self._complain_at = now + COMPLAIN_AFTER
        if self.state is not RegistrationState.UNREACHABLE and self.link.endpoint is None:
            self._lose(now, "its address has changed")
        elif self.state is RegistrationState.UNREACHABLE and endpoints:
            self.link.session.restart_handshake(now)
        self.transport.start(now)

    def stream_opened(self, number: int, endpoint: Endpoint, now: float) -> None:
        """A stream that the transport asked for is ready for datagrams."""
        self.transport.stream_opened(number, endpoint, now)

    def stream_closed(self, number: int, reason: str, now: float) -> None:
        """It could not be opened, or has ended."""
        was_used = self.transport.stream_closed(number, now)
        if was_used and self.state is not RegistrationState.UNREACHABLE:
            self._lose(now, f"the stream to it has ended: {reason}")

    def announce(self, sealed: bytes, now: float) -> None:
        """What the server shall hand to peers from now on."""
        self._announcement = sealed
        self._sequence += 1
        if self.state is not RegistrationState.UNREACHABLE:
            self.state = RegistrationState.REGISTERING
            self._tries = 0
            self._register(now)

    def refresh(self, now: float) -> None:
        """Let the server see our mapping now: after a network change, or in doubt."""
        self.transport.ask_udp(now)
        if self.state is RegistrationState.CONNECTED and self._next_at is not None:
            # Not counted as a try: several refreshes within a round trip are no sign of a loss.
            if now - self._refreshed_at >= REFRESH_SPACING:
                self._refreshed_at = now
                self._send_main_echo(now)
                self._next_at = min(self._next_at, now + self._retry_delay())
        elif self.state is RegistrationState.UNREACHABLE and self.link.has_ways:
            self._reconnects = 0
            self.link.session.restart_handshake(now)

    def ask_others(self, now: float) -> None:
        """Let the server's other endpoints see us again: it costs some 200 bytes for each."""
        if self.state is RegistrationState.CONNECTED:
            self._asks_left = MAX_ASKS
            for endpoint in self._others():
                self._ask_other(endpoint, now)

    def note_unreachable(self, now: float) -> None:
        """ICMP says that the server is not there. It is asked, once a second at most."""
        if self.state is RegistrationState.CONNECTED and now - self._refreshed_at >= 1.0:
            self.refresh(now)

    def introduce(self, peer: bytes, now: float) -> None:
        """Ask for an introduction to `peer`, at most one a second."""
        if now - self._introduced_at.get(peer, float("-inf")) >= INTRODUCE_SPACING:
            self._introduced_at[peer] = now
            self.send(Introduce(peer), now)

    def send(self, message: FromNode, now: float) -> bool:
        return self.state is not RegistrationState.UNREACHABLE and self.link.send(message, now)

    def close(self, now: float) -> None:
        """Say good-bye; nothing more is to be asked of this."""
        self.send(Leave(), now)
        self.state = RegistrationState.UNREACHABLE

    # From the network

    def receive_response(
        self, response: Response, source: Endpoint, now: float, local: int = 0
    ) -> None:
        self.link.receive_response(response, source, now, local)
        self.transport.note_handshake(now)
        self._check_keys(now)
        self.transport.take_wants_registration()  # Just done.

    def receive(self, message: FromServer, now: float) -> FromServer | None:
        """Take what concerns the registration; notices are acknowledged and handed back."""
        if isinstance(message, Registered):
            self._receive_registered(message, now)
        elif isinstance(message, Echoed):
            self._receive_echoed(message, now)
        elif isinstance(message, Challenge):
            self.link.send(Proof(message.token), now)
        elif isinstance(message, Refused):
            self._receive_refused(message, now)
        else:
            serial = getattr(message, "serial", None)
            if serial is not None:
                self.link.send(Acknowledge(serial), now)
            return message
        self._follow(now)
        return None

    # The clock

    def get_timer(self) -> float | None:
        times = [self.link.session.get_timer(), self._next_at, self._complain_at]
        times.append(self.transport.get_timer())
        return earliest(times)

    def handle_timer(self, now: float) -> None:
        self.transport.handle_timer(now)
        self._follow(now)
        self._handle_timer(now)
        self._follow(now)

    def _handle_timer(self, now: float) -> None:
        self.link.session.handle_timer(now)
        if self._complain_at is not None and now >= self._complain_at:
            self._complain_at = None
            self._events.append(ServerLost("no answer yet; wrong URL, or UDP is blocked?"))
            self._schedule_reconnect(now)
        if self._next_at is None or now < self._next_at:
            return
        if self.state is RegistrationState.UNREACHABLE:
            self._next_at = None
            if self.link.has_ways:
                self.link.session.restart_handshake(now)
                self._schedule_reconnect(now)
        elif self._tries >= MAX_TRIES or not self.link.session.is_established(now):
            self._lose(now)
        elif self.state is RegistrationState.REGISTERING:
            self._register(now)
        else:
            self._echo(now)

    # Inside

    def _follow(self, now: float) -> None:
        if self.transport.take_wants_registration():
            # By another way than before: the server is to see it, and answer there.
            self.state = RegistrationState.REGISTERING
            self._tries = 0
            self._register(now)
        is_silent = self.state is RegistrationState.UNREACHABLE and self.refusal is None
        is_lost = is_silent and self._handshakes_seen > 0
        is_doubtful = is_lost or (
            self.state is not RegistrationState.UNREACHABLE and self._tries > SUSPECT_KEYS_AFTER
        )
        self.transport.follow(
            now, is_connected=self.is_connected, is_doubtful=is_doubtful, is_lost=is_lost
        )

    def _check_keys(self, now: float) -> None:
        session = self.link.session
        if session.handshakes == self._handshakes_seen:
            return
        self._handshakes_seen = session.handshakes
        self._complain_at = None
        # Also after a rekey: whoever agrees on keys may have restarted and know nothing of us.
        self.state = RegistrationState.REGISTERING
        self._tries = 0
        self._reconnects = 0
        self._next_at = None
        if self._announcement is not None:
            self._register(now)

    def _register(self, now: float) -> None:
        if self._announcement is None:
            return
        register = Register(
            self._sequence, self._rtt_in_microseconds(), self._network_tag, self._announcement
        )
        self.link.send(register, now)
        self._next_at = now + self._retry_delay()
        self._tries += 1
        self._registering_since = now

    def _retry_delay(self) -> float:
        patience = min(max(FIRST_RETRY, 3 * (self.rtt or 0.0)), MAX_RETRY)
        return float(patience * 1.5**self._tries)

    def _echo(self, now: float) -> None:
        self._send_main_echo(now)
        self._next_at = now + self._retry_delay()
        self._tries += 1
        if self._tries == SUSPECT_KEYS_AFTER:
            self.link.session.restart_handshake(now)

    def _send_main_echo(self, now: float) -> None:
        if self.link.endpoint is not None:
            self._send_echo(self.link.endpoint, now, is_main=True)

    def _send_echo(self, endpoint: Endpoint, now: float, *, is_main: bool) -> None:
        transaction = self._echoes.begin(endpoint, now, is_main=is_main)
        to = None if is_main and self.link.is_on_stream else endpoint
        self.link.send(Echo(transaction, self._rtt_in_microseconds()), now, to)

    def _rtt_in_microseconds(self) -> int:
        """As the field holds it: a server that answers very late must not end us."""
        return min(round((self.rtt or 0.0) * 1e6), 0xFFFFFFFF)

    def _probe_others(self, now: float) -> None:
        """Ask the server's second port, its other address family, and its second address, where
        they see us, unless they have said so."""
        missing = [endpoint for endpoint in self._others() if endpoint not in self.witnesses]
        if not missing or self._asks_left <= 0:
            return
        self._asks_left -= 1
        for endpoint in missing:
            self._ask_other(endpoint, now)

    def _others(self) -> list[Endpoint]:
        main = self.link.endpoint
        if main is None or self.link.is_on_stream:
            return []
        others = [e for e in self.link.endpoints if e.is_ipv6 != main.is_ipv6]
        if self.alternate_port:
            reached = [main, *(e for e in others if e in self.witnesses)]
            others += [Endpoint(e.host, self.alternate_port) for e in reached]
        return others if self.link.alternate is None else [*others, self.link.alternate]

    def _ask_other(self, endpoint: Endpoint, now: float) -> None:
        if endpoint == self.link.alternate:
            # A probe: an echo would tell the server that we register there from now on.
            transaction = self._echoes.begin(endpoint, now, is_main=False)
            self.link.send(Probe(transaction, 0), now, endpoint)
        else:
            self._send_echo(endpoint, now, is_main=False)

    def _receive_registered(self, message: Registered, now: float) -> None:
        self.alternate_port = message.alternate_port or None
        self.link.set_alternate(message.alternate)
        if message.sequence != self._sequence or self.state is not RegistrationState.REGISTERING:
            return
        if self.link.endpoint is None:
            return
        self.state = RegistrationState.CONNECTED
        if self._tries == 1:  # Else it is not known which one is answered (RFC 6298 §3).
            self._echoes.note_rtt(now - self._registering_since)
        self.refusal = self._relay_refusal = None
        if message.wall_time is not None:
            # It left the server half a round trip ago, of which it makes no odds.
            self.clock_offset = self.link.wall_clock() - message.wall_time / 1e6
        before = self.main_observed or UNOBSERVED
        self._note_main(message.observed, now)
        if not self._is_told or before != message.observed:
            self._is_told = True
            self._events.append(ServerRegistered(self.link.endpoint, message.observed))
        self._tries = 0
        self._next_at = now + self._interval()
        self._probe_others(now)

    def _receive_refused(self, message: Refused, now: float) -> None:
        refusal = take_refusal(message, now)
        if refusal is None:
            return
        words = refusal.words
        if refusal.reason in OF_RELAY:
            before = self.relay_refusal(now)
            self._relay_refusal = refusal
            if before is None or before.reason is not refusal.reason:
                self._events.append(RelayRefused(words.code, words.reason, words.fix))
        elif self.state is RegistrationState.REGISTERING:
            before, self.refusal = self.refusal, refusal
            if before is None or before.reason is not refusal.reason:
                self._events.append(ServerLost(f"it refuses us: {words.reason}"))
            self.state = RegistrationState.UNREACHABLE
            self._is_told = False
            self._tries = 0
            self._echoes.clear()
            self._next_at = now + REFUSED_RETRY * (1 + self._random_bytes(1)[0] / 255)

    def _receive_echoed(self, message: Echoed, now: float) -> None:
        if self.transport.receive_echo(message.transaction, now):
            return
        sent = self._echoes.end(message.transaction, now)
        if sent is None:
            return
        if not sent.is_main:
            self.witnesses[sent.endpoint] = message.observed
            if sent.endpoint != self.link.alternate:
                self.observed[(message.listener, sent.endpoint.is_ipv6)] = message.observed
            return
        self._note_main(message.observed, now)
        if self.state is RegistrationState.CONNECTED:
            self._tries = 0
            self._next_at = now + self._interval()
            self._probe_others(now)

    def _note_main(self, observed: Endpoint, now: float) -> None:
        if observed == UNOBSERVED:
            self.observed.clear()  # By a stream: where UDP was seen before is of no use.
            return
        before = self.observed.get((0, observed.is_ipv6))
        if before is not None and before != observed:
            self._events.append(MappingMoved(before, observed))
            self.observed.clear()
            self.witnesses.clear()
            self._asks_left = MAX_ASKS
            self.observed[(0, observed.is_ipv6)] = observed
            self._probe_others(now)
        self.observed[(0, observed.is_ipv6)] = observed

    def _interval(self) -> float:
        """Up to a tenth shorter, so that nodes that started together do not stay together."""
        interval = self.keepalive_interval
        if self.link.is_on_stream:
            interval = min(interval, STREAM_KEEPALIVE)
        return interval * (1 - self._random_bytes(1)[0] / 2550)

    def _lose(self, now: float, reason: str = "it does not answer") -> None:
        self.state = RegistrationState.UNREACHABLE
        self.refusal = None
        self._is_told = False
        self._events.append(ServerLost(reason))
        self._tries = 0
        self._echoes.clear()
        self.link.session.restart_handshake(now)
        self._schedule_reconnect(now)

    def _schedule_reconnect(self, now: float) -> None:
        """The session repeats initiations by itself for 90 s; this begins again after that."""
        delay = RECONNECT_DELAYS[min(self._reconnects, len(RECONNECT_DELAYS) - 1)]
        self._reconnects += 1
        self._next_at = now + delay * (1 + self._random_bytes(1)[0] / 255)
