"""The rendezvous server: who is where, introductions, relay, STUN. Trusted with nothing else.

All it keeps is soft: a node that is silent for ``LIFETIME`` is forgotten, and after a restart nodes
register again, and joiners ask again. Strangers get no answer (STUN excepted): the handshake needs
the server's public key and the access token, and what fails is dropped with a counted reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

from tunnel.core.admission import Admission
from tunnel.core.configuration import ServerConfig
from tunnel.core.handshakes import CookieDemanded, HandshakeReceiver
from tunnel.core.indices import IndexTable
from tunnel.core.join_exchange import JoinExchange
from tunnel.core.machine import RandomBytes, Transmit, WallClock, earliest, is_stream
from tunnel.core.mailbox import Mailbox
from tunnel.core.pairing import introduce_pair
from tunnel.core.probe_answers import ProbeAnswers, echoed, wall_microseconds
from tunnel.core.ratelimit import KeyedRateLimit
from tunnel.core.registrant import Registrant
from tunnel.core.relay import Relay, RelayRefused
from tunnel.core.relay_allowance import RelayAllowance, RelayUse
from tunnel.core.server_session import SERVER_TIMES, server_construction, server_preshared_key
from tunnel.core.server_status import describe_networks
from tunnel.core.session import Session
from tunnel.core.stream_table import StreamTable
from tunnel.core.stun_answers import StunAnswers
from tunnel.core.vantage import Vantage
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.wire.check import UNOBSERVED
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import INITIATION
from tunnel.wire.relay import RELAY
from tunnel.wire.rendezvous import (
    Acknowledge,
    Challenge,
    Echo,
    FromServer,
    Gone,
    Grant,
    Introduce,
    Leave,
    Moved,
    Probe,
    Proof,
    Redeem,
    RefusalReason,
    Refused,
    Register,
    Registered,
    parse_from_node,
)
from tunnel.wire.stun import is_stun
from tunnel.wire.transport import TRANSPORT, parse_header

LIFETIME = 240.0
"""Seconds of silence after which a node is forgotten: twice its longest keep-alive interval."""
INTRODUCE_LIMIT = (2.0, 6.0)
"""A second, and at once: introductions of one pair that it asks for."""
REFUSAL_SIZE = 52
"""Bytes of a frame that holds *refused* with a time."""
UNREGISTERED_LIFETIME = 30.0
"""The same for one that has a session but no registration, such as a joiner."""


class RendezvousServer:
    def __init__(
        self, config: ServerConfig, *, now: float, random_bytes: RandomBytes, wall_clock: WallClock
    ) -> None:
        self.config = config
        self.drops: Counter[str] = Counter()
        self.relay = Relay(random_bytes, config.relay_pairs, config.max_channels)
        self.streams = StreamTable(config.max_streams, config.max_streams_per_source)
        self.introductions = 0
        self._random_bytes = random_bytes
        self._wall_clock = wall_clock
        self._indices: IndexTable[Session] = IndexTable(random_bytes)
        self._construction = server_construction(config.access_token)
        self._handshakes = HandshakeReceiver(self._construction, config.static, random_bytes)
        self._preshared = server_preshared_key(config.access_token)
        self._registrants: dict[bytes, Registrant] = {}
        self._networks: dict[bytes, dict[bytes, Registrant]] = {}
        self._introduce_limit = KeyedRateLimit(*INTRODUCE_LIMIT, capacity=65536)
        mailbox = Mailbox(config.max_letters, config.max_nodes)
        self.joins = JoinExchange(self._registrants, mailbox)
        self.stun = StunAnswers()
        self._vantage = Vantage(config.listeners)
        self._probes = ProbeAnswers(self._vantage, wall_clock)
        self._admission = Admission(config)
        self._allowance = RelayAllowance(
            config.relay_rate, config.relay_quota, wall_clock, config.relay_use
        )
        self._outbox: list[Transmit] = []
        self._stream_closings: list[int] = []
        self._timers: list[tuple[float, int, bytes]] = []
        """When to look at a registrant again: (time, tie-break, key)."""
        self._tick = 0

    # From the network

    def receive_datagrams(
        self, datagrams: Sequence[bytes], source: Endpoint, now: float, local: int = 0
    ) -> list[bytes]:
        """Always returns []: the server has no packets of its own."""
        for datagram in datagrams:
            try:
                self._receive(datagram, source, now, local)
            except RelayRefused as refused:
                self.drops[str(refused)] += 1
                if len(datagram) >= REFUSAL_SIZE:  # No answer is longer than the question.
                    self._refuse_relay(refused.owner, refused.reason, now)
            except (Malformed, AuthenticationFailed) as error:
                self.drops[str(error)] += 1
            except CookieDemanded as demand:
                self._outbox.append(Transmit(demand.datagram, source, None, local))
                self.drops["initiation: cookie demanded"] += 1
        return []

    def stream_opened(self, number: int, source: Endpoint, now: float) -> None:
        """A stream was accepted. Whether it stays is told by `take_closings`."""
        if not self.streams.open(number, source, now):
            self._stream_closings.append(number)

    def stream_forwarded(self, number: int, source: Endpoint) -> None:
        """A proxy on this machine opened it, for somebody at `source`."""
        self.streams.rename(number, source)

    def stream_closed(self, number: int, reason: str, now: float) -> None:
        """It has ended. The node may come back by another; until then nothing is sent to it."""
        owner = self.streams.close(number)
        if owner is not None:
            owner.leave_stream(number)

    def take_closings(self) -> list[int]:
        """Streams to close; nothing more is to be told of them."""
        closings, self._stream_closings = self._stream_closings, []
        return closings + self.streams.take_closings()

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        transmits, self._outbox = self._outbox, []
        return transmits

    # The clock

    def get_timer(self) -> float | None:
        return earliest([self._timers[0][0] if self._timers else None, self.streams.get_timer()])

    def handle_timer(self, now: float) -> None:
        self.streams.handle_timer(now)
        self.joins.mailbox.expire(now)
        while self._timers and self._timers[0][0] <= now:
            at, _, key = heappop(self._timers)
            registrant = self._registrants.get(key)
            if registrant is not None and registrant.attend_at == at:
                registrant.attend_at = None
                self._attend(registrant, now)

    # What the owner asks

    def status(self, now: float) -> dict[str, Any]:
        return {
            "nodes": self._admission.nodes,
            "sessions": len(self._registrants),
            "networks": len(self._networks),
            "channels": len(self.relay),
            "streams": len(self.streams),
            "streams_refused": self.streams.refused,
            "letters": len(self.joins.mailbox),
            "letters_refused": self.joins.mailbox.refused,
            "introductions": self.introductions,
            "relayed_datagrams": self.relay.forwarded_datagrams,
            "relayed_bytes": self.relay.forwarded_bytes,
            "networks_over_quota": self._allowance.over_quota,
            "stun_answers": self.stun.count,
            "drops": dict(self.drops),
            **describe_networks(self._networks, self.relay.tally, now),
        }

    def take_relay_use(self) -> RelayUse | None:
        """What the driver is to keep for the next start, if it has changed."""
        return self._allowance.take_use()

    # Inside

    def _receive(self, datagram: bytes, source: Endpoint, now: float, local: int) -> None:
        kind = datagram[0] if datagram else 0
        if kind == RELAY:
            relayed = self.relay.forward(datagram, source, now, local, self._allowance)
            self._outbox.append(relayed)
        elif kind == TRANSPORT:
            self._receive_frame(datagram, source, now, local)
        elif is_stun(datagram) and not is_stream(local):
            answer = self.stun.answer(datagram, source, now)
            self._outbox.append(Transmit(answer, source, None, local))
        elif kind == INITIATION:
            self._receive_initiation(datagram, source, now, local)
        else:
            raise Malformed("unknown type")

    def _receive_initiation(
        self, datagram: bytes, source: Endpoint, now: float, local: int
    ) -> None:
        place = self.streams.source_at(source, local)
        is_wary = not is_stream(local) and self._admission.is_wary(place)
        received = self._handshakes.receive(datagram, source, now, is_wary=is_wary)
        key = received.remote_static.data
        registrant = self._registrants.get(key)
        is_new = registrant is None
        if registrant is None:
            session = Session(
                construction=self._construction,
                static=self.config.static,
                remote_static=received.remote_static,
                preshared=self._preshared,
                indices=self._indices,
                random_bytes=self._random_bytes,
                wall_clock=self._wall_clock,
                times=SERVER_TIMES,
                may_initiate=False,
            )
            rate = self.config.relay_rate_per_node
            registrant = Registrant(received.remote_static, session, rate, now)
            self._admission.admit(registrant, place)
        response = registrant.session.receive_initiation(received, now)
        if response is None:
            copy = registrant.repeat_response(datagram, source)
            if copy is None:
                raise AuthenticationFailed("initiation replayed")
            self._outbox.append(Transmit(copy, source, None, local))
            return
        if not is_stream(local):
            registrant.note_response(datagram, response, source)
        registrant.sequence = -1  # It may be a new process, which counts from the start.
        if is_new:
            self._registrants[key] = registrant
            self._schedule(registrant, now + UNREGISTERED_LIFETIME)
        self._outbox.append(Transmit(response, source, None, local))

    def _receive_frame(self, datagram: bytes, source: Endpoint, now: float, local: int) -> None:
        receiver, counter = parse_header(datagram)
        session = self._indices.get(receiver)
        if session is None:
            raise AuthenticationFailed("unknown receiver")
        payload = session.open(receiver, counter, datagram, now)
        registrant = self._registrants[session.remote_static.data]
        registrant.last_heard = now
        if not is_stream(local):
            registrant.return_route.note_frame(receiver, source, len(datagram))
        registrant.forget_response()
        message = parse_from_node(payload) if payload else None
        if is_stream(local):
            self._note_stream(registrant, source, local, now)
        elif local % 2 == 0 and not isinstance(message, Probe):
            self._note_endpoint(registrant, source, local, now)
        self._challenge(registrant, now)
        if message is None:
            return
        if isinstance(message, Probe):
            answers = self._probes.answer(registrant, message, len(payload), source, local, now)
            for packed, number in answers:
                self._send_packed(registrant, packed, now, source, number)
            self._attend(registrant, now)
        elif isinstance(message, Echo):
            registrant.rtt = message.rtt or registrant.rtt
            self._send(registrant, echoed(message.transaction, source, local), now, source, local)
            self.joins.hand_over(registrant, now, is_back=False)
            for peer in registrant.take_missed():
                self._introduce_again(registrant, Introduce(peer), now)
        elif isinstance(message, Register):
            self._register(registrant, message, source, local, now)
        elif isinstance(message, Acknowledge):
            registrant.acknowledge(message.serial)
            self.joins.mailbox.acknowledge(registrant.key.data, message.serial)
            self._attend(registrant, now)
        elif isinstance(message, Proof):
            if registrant.return_route.receive_token(message.token):
                registrant.hasten_notices(now)
                self._attend(registrant, now)
        elif isinstance(message, Introduce):
            self._introduce_again(registrant, message, now)
        elif isinstance(message, Redeem):
            answer = self.joins.redeem(registrant, message, source, now)
            if answer is not None:
                self._send(registrant, answer, now)
        elif isinstance(message, Grant):
            self.joins.grant(registrant, message, now)
        elif isinstance(message, Leave):
            self._forget(registrant, now)
        for notified in self.joins.take_notified():
            self._attend(notified, now)

    def _challenge(self, registrant: Registrant, now: float) -> None:
        """Ask for proof that it receives where we see it, if there is need."""
        target = registrant.endpoint
        if target is None or registrant.stream is not None:
            return
        token = registrant.return_route.challenge(target, now, self._random_bytes)
        if token is not None:
            self._send(registrant, Challenge(token), now)

    def _refuse_relay(self, registrant: Registrant, reason: RefusalReason, now: float) -> None:
        if registrant.may_be_refused(reason, now):
            is_quota = reason is RefusalReason.RELAY_QUOTA
            until = int(self._allowance.ends_at) if is_quota else None
            self._send(registrant, Refused(reason, 0, until), now)

    def _note_stream(
        self, registrant: Registrant, source: Endpoint, local: int, now: float
    ) -> None:
        """Raises AuthenticationFailed if the stream is another's."""
        self.streams.claim(local, registrant, now)
        # What was overtaken says where the node was, not where it is.
        if not registrant.session.was_late:
            registrant.use_stream(source, local)

    def _note_endpoint(
        self, registrant: Registrant, source: Endpoint, local: int, now: float
    ) -> None:
        was_on_stream = registrant.stream is not None
        if was_on_stream and registrant.session.was_late:
            return
        registrant.stream = None
        registrant.locals[source.is_ipv6] = local
        before = registrant.endpoints.get(source.is_ipv6)
        if before == source:
            return
        registrant.endpoints[source.is_ipv6] = source
        if len(registrant.endpoints) == 1:
            registrant.is_main_ipv6 = source.is_ipv6
        if before is None and not was_on_stream:
            return
        # Its mapping moved: tell the peers before they find out the hard way.
        for peer in self._peers_of(registrant):
            peer.notify(Moved(peer.next_serial(), registrant.key.data, source), now)
            self._attend(peer, now)

    def _register(
        self, registrant: Registrant, message: Register, source: Endpoint, way: int, now: float
    ) -> None:
        is_new = registrant.network != message.network
        if not is_new and message.sequence < registrant.sequence:
            raise AuthenticationFailed("registration older than the one held")
        if is_new:
            self._leave_network(registrant, now)
            members = len(self._networks.get(message.network, ()))
            refusal = self._admission.refuse_registration(registrant, message.network, members)
            if refusal is not None:
                self._send(registrant, Refused(refusal, 0), now, source, way)
                raise AuthenticationFailed(f"registration: {refusal.words}")
            self._networks.setdefault(message.network, {})[registrant.key.data] = registrant
            registrant.network = message.network
            self._admission.register(registrant, message.network)
        if registrant.stream is None:
            registrant.is_main_ipv6 = source.is_ipv6
        registrant.rtt = message.rtt or registrant.rtt
        is_first = registrant.sequence < 0
        has_news = message.announcement != registrant.announcement
        registrant.announcement = message.announcement
        registrant.sequence = message.sequence
        is_on_stream = registrant.stream is not None
        local = registrant.locals.get(source.is_ipv6, 0)
        registered = Registered(
            message.sequence,
            UNOBSERVED if is_on_stream else source,
            self.config.alternate_port,
            int(LIFETIME),
            None if is_on_stream else self._vantage.alternate(local),
            wall_microseconds(self._wall_clock),
        )
        self._send(registrant, registered, now)
        if is_stream(way) or registrant.return_route.is_proven(source):
            self._admission.move(registrant, self.streams.source_at(source, way))
        if self.config.relay and self._allowance.is_used_up(message.network, now):
            self._refuse_relay(registrant, RefusalReason.RELAY_QUOTA, now)
        if has_news:
            for peer in self._peers_of(registrant):
                self._introduce(registrant, peer, now)
                self._attend(peer, now)
        if is_first:
            self.joins.hand_over(registrant, now, is_back=True)
        self._attend(registrant, now)

    def _introduce_again(self, registrant: Registrant, message: Introduce, now: float) -> None:
        network = self._networks.get(registrant.network or b"", {})
        peer = network.get(message.peer)
        if peer is None or peer is registrant:
            gone = Gone(registrant.next_serial(), message.peer)
            registrant.notify(gone, now)
        elif self._introduce_limit.take(registrant.key.data + message.peer, now):
            self._introduce(registrant, peer, now)
            self._attend(peer, now)
        self._attend(registrant, now)

    def _introduce(self, one: Registrant, other: Registrant, now: float) -> None:
        if self.config.relay and not self.relay.open_channel(one, other):
            for node in (one, other):
                self._refuse_relay(node, RefusalReason.RELAY_PAIRS, now)
        introduce_pair(one, other, now)
        self.introductions += 1

    def _peers_of(self, registrant: Registrant) -> list[Registrant]:
        network = self._networks.get(registrant.network or b"", {})
        return [peer for peer in network.values() if peer is not registrant]

    def _leave_network(self, registrant: Registrant, now: float) -> None:
        for peer in self._peers_of(registrant):
            peer.notify(Gone(peer.next_serial(), registrant.key.data), now)
            # Not attended to: it may be overdue itself, and would be forgotten from within this.
            self._send_due(peer, now)
        self.relay.close_channels(registrant)
        if registrant.network is not None:
            self.joins.mailbox.note_departure(registrant.key.data, now)
            network = self._networks[registrant.network]
            network.pop(registrant.key.data, None)
            self._admission.unregister(registrant)
            if not network:
                del self._networks[registrant.network]
                self._admission.end_network(registrant.network)
        registrant.network = None
        registrant.announcement = b""

    def _forget(self, registrant: Registrant, now: float) -> None:
        self._leave_network(registrant, now)
        if registrant.stream is not None:
            self.streams.end(registrant.stream[1])
        registrant.session.close()
        if self._registrants.pop(registrant.key.data, None) is not None:
            self._admission.forget(registrant)

    def _attend(self, registrant: Registrant, now: float) -> None:
        """Send the notices that are due; forget the node if it has been silent too long."""
        if registrant.key.data not in self._registrants:
            return
        lifetime = UNREGISTERED_LIFETIME if registrant.network is None else LIFETIME
        if now >= registrant.last_heard + lifetime:
            self._forget(registrant, now)
            return
        self._send_due(registrant, now)

    def _send_due(self, registrant: Registrant, now: float) -> None:
        lifetime = UNREGISTERED_LIFETIME if registrant.network is None else LIFETIME
        due = registrant.take_due_notices(now)
        if registrant.has_postponed:
            self._challenge(registrant, now)
        for packed in due:
            self._send_packed(registrant, packed, now)
        for packed, source, local in registrant.take_due_answers(now):
            self._send_packed(registrant, packed, now, source, local)
        timer = registrant.get_timer()
        expiry = registrant.last_heard + lifetime
        self._schedule(registrant, expiry if timer is None else min(timer, expiry))

    def _schedule(self, registrant: Registrant, at: float) -> None:
        if registrant.attend_at is not None and registrant.attend_at <= at:
            return
        registrant.attend_at = at
        self._tick += 1
        heappush(self._timers, (at, self._tick, registrant.key.data))

    def _send(
        self,
        registrant: Registrant,
        message: FromServer,
        now: float,
        endpoint: Endpoint | None = None,
        local: int | None = None,
    ) -> None:
        self._send_packed(registrant, message.pack(), now, endpoint, local)

    def _send_packed(
        self,
        registrant: Registrant,
        payload: bytes,
        now: float,
        endpoint: Endpoint | None = None,
        local: int | None = None,
    ) -> None:
        target = endpoint or registrant.endpoint
        datagram = registrant.session.seal(payload, now) if target else None
        if target and datagram:
            number = registrant.local if local is None else local
            self._outbox.append(Transmit(datagram, target, None, number))
