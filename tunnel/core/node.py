"""A node: demultiplexes what arrives, routes what leaves, and owns registration and peers.

It routes; it contains neither sessions nor punching. Inbound:

1. first byte → handshake, frame, or relay envelope (which holds one of the former);
2. index → session → peer (or the server);
3. payload → IP packet for the TUN interface, or a check for the peer's traversal.

Outbound: IP packet → longest prefix → peer → session seals → the traversal's routes, one or two.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from tunnel.core.announcer import Announcer
from tunnel.core.configuration import LocalInterface, NodeConfig
from tunnel.core.events import (
    Event,
    PathChanged,
    PeerGone,
    PingAnswered,
    RebindWanted,
    ServerRegistered,
)
from tunnel.core.handshakes import CookieDemanded, HandshakeReceiver
from tunnel.core.indices import IndexTable
from tunnel.core.introductions import IntroductionReceiver
from tunnel.core.inviter import Inviter
from tunnel.core.lifetime import LifetimeProbe
from tunnel.core.machine import RandomBytes, Transmit, WallClock, earliest
from tunnel.core.membership import InvitationLedger
from tunnel.core.outbound import FIRST_IP, Outbound
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.core.peer_table import PeerTable
from tunnel.core.rebind import RebindPolicy
from tunnel.core.registration import Registration
from tunnel.core.server_session import ServerSession
from tunnel.core.session import Session
from tunnel.core.status import describe_node
from tunnel.core.witness import Witness
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.handshake import PUNCHTUN
from tunnel.noise.keys import PublicKey
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import (
    CallMe,
    Confirm,
    GoodBye,
    Missing,
    Ping,
    Pong,
    Seen,
    Where,
    parse_check,
)
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.fragment import FRAGMENT, parse_fragment
from tunnel.wire.handshake import (
    COOKIE_REPLY,
    INITIATION,
    RESPONSE,
    parse_cookie_reply,
    parse_response,
)
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.relay import RELAY, pack_relay, parse_relay
from tunnel.wire.rendezvous import Echoed
from tunnel.wire.transport import TRANSPORT, parse_header

KEEPALIVE_PAYLOAD = b""
SECOND_SOCKET = 1
"""``Transmit.local`` of the socket on which mapping lifetimes are measured."""


class Node:
    def __init__(
        self,
        config: NodeConfig,
        *,
        now: float,
        random_bytes: RandomBytes,
        wall_clock: WallClock,
        ledger: InvitationLedger | None = None,
    ) -> None:
        self.config = config
        self.inviter = Inviter(config, ledger, random_bytes, wall_clock)
        self.drops: Counter[str] = Counter()
        """Reason → datagrams and packets dropped for it."""
        self._indices: IndexTable[Session] = IndexTable(random_bytes)
        self._handshakes = HandshakeReceiver(PUNCHTUN, config.static, random_bytes)
        link = ServerSession(
            static=config.static,
            server_key=PublicKey(config.server.public_key),
            access_token=config.server.access_token,
            indices=self._indices,
            random_bytes=random_bytes,
            wall_clock=wall_clock,
        )
        self.registration = Registration(link, config.identity.tag, random_bytes)
        self.peers = PeerTable(
            static=config.static,
            identity=config.identity,
            indices=self._indices,
            random_bytes=random_bytes,
            wall_clock=wall_clock,
            interface_mtu=config.mtu,
        )
        self._announcer = Announcer(config, random_bytes, wall_clock)
        own_key = config.certificate.key
        self._introductions = IntroductionReceiver(
            own_key, self.registration, self._announcer, self.peers, self.inviter
        )
        self.lifetime = LifetimeProbe(random_bytes)
        self._rebind_policy = RebindPolicy()
        self._events: deque[Event] = deque()
        self._outbound = Outbound(self.registration, self._announcer)
        self._witness = Witness(self.peers, self._announcer)
        for known in config.known_peers:
            try:
                self.peers.remember(known.certificate, known.endpoints)
            except (Malformed, AuthenticationFailed) as error:
                self.drops[f"remembered peer: {error}"] += 1

    # Commands

    def set_server_endpoints(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Where the server's name points to; the node registers there."""
        self.registration.set_endpoints(endpoints, now)
        self._collect(now)

    def network_changed(self, interfaces: Sequence[LocalInterface], port: int, now: float) -> None:
        """To be called at start and whenever local addresses or routes change.

        `interfaces` without loopback, link-local and our own tunnel; `port` is our UDP port.
        """
        is_first = self._announcer.candidates is None
        self._announcer.set_network(interfaces, port)
        self._announce(now)
        if is_first:
            for peer in self.peers:
                if self._outbound.guess_endpoints(peer):
                    peer.session.initiate(now)
        else:
            self.registration.refresh(now)
            self.lifetime.restart(now)
            for peer in self.peers:
                if peer.session.is_established(now):
                    peer.traversal.punch(now, "network changed")
                    peer.traversal.call_peer(now)
        self._collect(now)

    def ledger_saved(self, now: float) -> None:
        """The ledger is safe on disk: answer the joiners that waited for it."""
        for grant in self.inviter.take_grants():
            self.registration.send(grant, now)
        self._collect(now)

    def ping(self, name: str, now: float) -> int | None:
        """An echo to the peer of that name by the way traffic takes now. Its transaction, which a
        PingAnswered event will carry; None if there is no way."""
        peer = self.find_peer(name)
        if peer is None or not peer.session.is_established(now):
            if peer is not None:
                self._wake(peer, now)
                self._collect(now)
            return None
        routes = peer.traversal.routes(now)
        transaction = peer.traversal.ask(routes[0], now) if routes else None
        self._collect(now)
        return transaction

    def find_peer(self, name: str) -> Peer | None:
        """By name, or by tunnel address."""
        return self.peers.find(name)

    def close(self, now: float) -> None:
        """Say good-bye to peers and server. What is then to be sent is the last."""
        for peer in self.peers:
            if peer.session.is_established(now):
                self._outbound.send(peer, GoodBye().pack(), now)
        self.registration.close(now)
        self._collect(now)

    # From the TUN interface

    def send_packets(self, packets: Sequence[bytes], now: float) -> list[bytes]:
        """What is to be answered to their senders: packets too big for the way to a peer."""
        answers: list[bytes] = []
        for packet in packets:
            try:
                header = parse_ip_header(packet)
            except Malformed as error:
                self.drops[f"sent: {error}"] += 1
                continue
            peer = self.peers.routes.find(header.destination)
            if peer is None:
                self.drops["sent: no route"] += 1
                continue
            peer.traversal.note_activity(now)
            if self._outbound.send(peer, packet, now, answers):
                peer.counters.tx_packets += 1
                peer.counters.tx_bytes += len(packet)
            else:
                peer.staged.append(bytes(packet))
                self._wake(peer, now)
        self._collect(now)
        return answers

    # From the network

    def receive_datagrams(
        self, datagrams: Sequence[bytes], source: Endpoint, now: float, local: int = 0
    ) -> list[bytes]:
        """The IP packets that were in them. Never raises for what a remote sent."""
        packets: list[bytes] = []
        for datagram in datagrams:
            try:
                self._receive(datagram, source, now, packets, local)
            except (Malformed, AuthenticationFailed) as error:
                self.drops[str(error)] += 1
            except CookieDemanded as demand:
                self._outbound.add([Transmit(demand.datagram, source)])
                self.drops["initiation: cookie demanded"] += 1
        self._collect(now)
        return packets

    def receive_error(self, endpoint: Endpoint, mtu: int | None, now: float) -> None:
        """ICMP about a datagram of ours to `endpoint`: IP packets larger than `mtu` bytes, or None
        at all, get there. Anybody can forge that: it is a reason to check, nothing more."""
        is_server = self.registration.link.is_server(endpoint)
        if is_server and mtu is None:
            self.registration.note_unreachable(now)
        for peer in self.peers:
            peer.receive_error(endpoint, mtu, now, is_server=is_server)
        self._collect(now)

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        return self._outbound.take_transmits()

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    # The clock

    def get_timer(self) -> float | None:
        times = [self.registration.get_timer(), self.lifetime.get_timer()]
        times += [peer.get_timer() for peer in self.peers]
        return earliest(times)

    def handle_timer(self, now: float) -> None:
        self.registration.handle_timer(now)
        self.lifetime.handle_timer(now)
        for peer in self.peers:
            peer.handle_timer(now)
        may_rebind = self.config.may_rebind and self.registration.is_connected
        if may_rebind and self._rebind_policy.is_due(self.peers, now):
            self._events.append(RebindWanted())
        self._collect(now)

    # Inbound

    def _receive(
        self, datagram: bytes, source: Endpoint, now: float, packets: list[bytes], local: int
    ) -> None:
        kind = datagram[0] if datagram else 0
        if kind == TRANSPORT:
            self._receive_frame(datagram, source, now, packets, local)
        elif kind == RELAY:
            if not self.registration.link.is_server(source):
                raise Malformed("relay envelope not from the server")
            channel, inner = parse_relay(datagram)
            if not self.peers.has_channel(channel) or inner[0] == RELAY:
                raise Malformed("unknown channel")
            try:
                self._receive(inner, RELAYED, now, packets, local)
            except CookieDemanded as demand:
                # Back through the relay: a relayed peer must be able to come in under load too.
                raise CookieDemanded(pack_relay(channel, demand.datagram)) from None
        elif kind == INITIATION:
            self._receive_initiation(datagram, source, now)
        elif kind == RESPONSE:
            self._receive_response(datagram, source, now)
        elif kind == COOKIE_REPLY:
            reply = parse_cookie_reply(datagram)
            self._find_session(reply.receiver).receive_cookie(reply, now)
        else:
            raise Malformed("unknown type")

    def _find_session(self, index: int) -> Session:
        session = self._indices.get(index)
        if session is None:
            raise AuthenticationFailed("unknown receiver")
        return session

    def _receive_initiation(self, datagram: bytes, source: Endpoint, now: float) -> None:
        # A cookie is bound to an address; the relay's stands for all that come through it.
        claimed = source if source != RELAYED else self.registration.link.endpoint
        if claimed is None:
            raise Malformed("relayed by no server")
        received = self._handshakes.receive(datagram, claimed, now)
        peer = self.peers.get(received.remote_static.data)
        if peer is None:
            raise AuthenticationFailed("initiation of a stranger")
        response = peer.session.receive_initiation(received, now)
        if response is None:
            raise AuthenticationFailed("initiation replayed")
        self._outbound.emit(peer, response, source)

    def _receive_response(self, datagram: bytes, source: Endpoint, now: float) -> None:
        response = parse_response(datagram)
        session = self._find_session(response.receiver)
        if session is self.registration.link.session:
            self.registration.receive_response(response, source, now)
            return
        session.receive_response(response, now)
        self._note_keys(self.peers.of_session(session), now)

    def _receive_frame(
        self, datagram: bytes, source: Endpoint, now: float, packets: list[bytes], local: int
    ) -> None:
        receiver, counter = parse_header(datagram)
        session = self._find_session(receiver)
        if session is self.registration.link.session:
            if not self.registration.link.is_server(source):
                raise AuthenticationFailed("server's frame from elsewhere")
            message = self.registration.link.open(datagram, now)
            if isinstance(message, Echoed) and self.lifetime.receive(message.transaction, now):
                return
            if message is not None and local == 0:
                news = self.registration.receive(message, now)
                if news is not None:
                    self._events.extend(self._introductions.receive(news, now))
            return
        if local != 0:
            raise AuthenticationFailed("frame of a peer to another socket")
        peer = self.peers.of_session(session)
        try:
            payload = session.open(receiver, counter, datagram, now)
        except AuthenticationFailed as error:
            if str(error) == "replay":
                peer.counters.duplicates_dropped += 1
            raise
        peer.is_online, peer.has_left = True, False
        peer.traversal.note_received(source, now, len(datagram))
        self._note_keys(peer, now)
        if session.skipped or session.was_late:
            missing = peer.note_skipped(receiver, counter, now)
            if missing is not None:
                self._outbound.send(peer, missing.pack(), now)
        if not payload:
            return
        if payload[0] >= FIRST_IP:
            self._receive_packet(peer, payload, now, packets)
        elif payload[0] == FRAGMENT:
            packet = peer.reassembler.add(parse_fragment(payload), now)
            if packet is not None:
                self._receive_packet(peer, packet, now, packets)
        else:
            self._receive_check(peer, payload, source, now)

    def _receive_packet(self, peer: Peer, payload: bytes, now: float, packets: list[bytes]) -> None:
        header = parse_ip_header(payload)
        if self.peers.routes.find(header.source) is not peer:
            raise AuthenticationFailed("inner source is not the peer's")
        peer.traversal.note_activity(now)
        peer.counters.rx_packets += 1
        peer.counters.rx_bytes += header.length
        packets.append(payload[: header.length])

    def _receive_check(self, peer: Peer, payload: bytes, source: Endpoint, now: float) -> None:
        check = parse_check(payload)
        traversal = peer.traversal
        if isinstance(check, Ping):
            traversal.receive_ping(check, source, now)
        elif isinstance(check, Pong):
            peer.receive_pong(check, source, now)
        elif isinstance(check, Confirm):
            traversal.receive_confirm(check, source, now)
        elif isinstance(check, Missing):
            self._outbound.send_again(peer, peer.find_sent(check), now)
        elif isinstance(check, Where):
            self._witness.answer(check, peer, source, now)
        elif isinstance(check, Seen):
            self._witness.learn(check, peer, now)
        elif isinstance(check, CallMe):
            admitted = self._announcer.admit(check.candidates)
            traversal.receive_call(CallMe(check.start, admitted), now)
        else:
            self._lose_peer(peer, "it said good-bye")

    # Outbound

    def _wake(self, peer: Peer, now: float) -> None:
        """There is something for a peer we have no session with."""
        peer.session.initiate(now)
        if not peer.is_online:
            self.registration.introduce(peer.key.data, now)
            self._witness.ask(peer, now)

    def _collect(self, now: float) -> None:
        """Gather what the parts want sent and reported."""
        self._announce(now)
        for event in self.registration.take_events():
            if isinstance(event, ServerRegistered) and self.lifetime.get_timer() is None:
                self.lifetime.restart(now)
            self._events.append(event)
        self._events.extend(self.peers.take_events())
        self._measure_lifetime(now)
        for peer in self.peers:
            traversal = peer.traversal
            self._outbound.send_checks(peer, now)
            if traversal.take_was_moved():
                # The server does not know yet, nor do the peers that we have nothing to say to.
                self.registration.refresh(now)
                for other in self.peers:
                    other.traversal.echo_now(now)
            if traversal.take_wants_witness():
                self.registration.refresh(now)
            if traversal.take_wants_introduction():
                self.registration.refresh(now)
                self.registration.introduce(peer.key.data, now)
                # The server may have died without anybody noticing yet.
                self._witness.ask(peer, now)
            self._outbound.send_handshakes(peer, now)
            for transaction, seconds, endpoint in traversal.take_answers():
                way = "relay" if endpoint == RELAYED else str(endpoint)
                self._events.append(PingAnswered(peer.name, transaction, seconds, way))
            events = peer.take_events(now)
            self._events.extend(events)
            if not self.registration.is_connected and any(
                isinstance(event, PathChanged) for event in events
            ):
                self._witness.ask_for_all(now)
        for to, endpoint, payload in self._witness.take_messages():
            self._outbound.send_to(to, endpoint, payload, now)
        # First what tells the server where we are: then it relays what follows.
        self._outbound.add(self.registration.datagrams_to_send())
        for peer in self.peers:
            self._outbound.send_again(peer, peer.take_unproven(now), now)

    def _measure_lifetime(self, now: float) -> None:
        for probe in self.lifetime.take_probes():
            self.registration.link.send(probe, now, local=SECOND_SOCKET)
        interval = self.lifetime.keepalive_interval
        if interval != self.registration.keepalive_interval:
            self.registration.keepalive_interval = interval
            self.peers.set_keepalive_interval(interval)

    def _note_keys(self, peer: Peer, now: float) -> None:
        is_rekey = peer.has_keys
        if not peer.note_keys(now):
            return
        if not is_rekey:
            self._events.append(peer.handshake_event(now))
        guesses = [] if peer.traversal.routes(now) else self._outbound.guess_endpoints(peer)
        for endpoint in guesses:
            peer.traversal.add_candidate(Candidate(CandidateKind.HOST, endpoint))
        if guesses:
            peer.traversal.punch(now, "remembered endpoint")
        # The responder may use the new keys only when it has heard them once (white paper §5.4.5).
        staged, peer.staged = peer.staged, deque(maxlen=peer.staged.maxlen)
        if not staged:
            self._outbound.send(peer, KEEPALIVE_PAYLOAD, now)
        for packet in staged:
            if self._outbound.send(peer, packet, now):
                peer.counters.tx_packets += 1
                peer.counters.tx_bytes += len(packet)

    # Membership and candidates

    def _lose_peer(self, peer: Peer, reason: str) -> None:
        peer.is_online, peer.has_left = False, True
        peer.forget_keys()
        self._events.append(PeerGone(peer.name, reason))

    def _announce(self, now: float) -> None:
        """Tell the server, and through it the peers, when our candidates have changed."""
        before = self._announcer.candidates
        if not self._announcer.gather(self.registration.reflexive_endpoints()):
            return
        candidates = self._announcer.candidates or ()
        self.peers.set_local_candidates(candidates)
        main = self.registration.main_observed
        if before is not None and {c.endpoint for c in candidates if c not in before} <= {main}:
            # The server itself saw the only news: it tells the peers without being told.
            return
        self.registration.announce(self._announcer.seal(), now)

    def status(self, now: float) -> dict[str, Any]:
        """A snapshot for people and programs; the format of ``punchtun status --json``."""
        return describe_node(
            self.config, self.registration, self.lifetime, self.peers, self.drops, now
        )
