"""A node: demultiplexes what arrives, routes what leaves, and owns registration and peers.

It routes; it contains neither sessions nor punching. Inbound:

1. first byte → handshake, frame, or relay envelope (which holds one of the former);
2. index → session → peer (or the server);
3. payload → IP packet for the TUN interface, or a check for the peer's traversal.

Outbound: IP packet → longest prefix → peer → session seals → the traversal's routes, one or two.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from tunnel.core.announcer import Announcer
from tunnel.core.configuration import LocalInterface, NodeConfig
from tunnel.core.events import (
    Event,
    InvitationRedeemed,
    PeerGone,
    PeerIntroduced,
    PeersChanged,
    PingAnswered,
    RebindWanted,
    ServerRegistered,
)
from tunnel.core.handshakes import CookieDemanded, HandshakeReceiver
from tunnel.core.indices import IndexTable
from tunnel.core.lifetime import LifetimeProbe
from tunnel.core.machine import RandomBytes, Transmit, WallClock
from tunnel.core.membership import InvitationLedger
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.core.peer_table import PeerTable
from tunnel.core.registration import Registration
from tunnel.core.server_session import ServerSession
from tunnel.core.session import Session
from tunnel.core.status import describe_node
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.handshake import PUNCHTUN
from tunnel.noise.keys import PublicKey
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import CallMe, Confirm, GoodBye, Missing, Ping, Pong, parse_check
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import (
    COOKIE_REPLY,
    INITIATION,
    RESPONSE,
    parse_cookie_reply,
    parse_response,
)
from tunnel.wire.invitation import JoinString, parse_join_request
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.relay import RELAY, pack_relay, parse_relay
from tunnel.wire.rendezvous import Asked, Echoed, FromServer, Gone, Grant, Introduction, Moved
from tunnel.wire.transport import TRANSPORT, parse_header

KEEPALIVE_PAYLOAD = b""
SECOND_SOCKET = 1
"""``Transmit.local`` of the socket on which mapping lifetimes are measured."""
FIRST_IP = 0x40
"""Least first byte of an IP packet."""
REBIND_AFTER_FAILURES = 3
REBIND_SPACING = 300.0
"""Seconds to the first rebind; twice as long to each following one."""
MAX_GUESSES = 8
"""Endpoints that a handshake without relay is sent to."""


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
        self.ledger = ledger
        """Only on a node that may invite."""
        self.drops: Counter[str] = Counter()
        """Reason → datagrams and packets dropped for it."""
        self._random_bytes = random_bytes
        self._wall_clock = wall_clock
        self._started_at = now
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
        )
        self._announcer = Announcer(config, random_bytes, wall_clock)
        self.lifetime = LifetimeProbe(random_bytes)
        self._rebind_at = now
        self._rebinds = 0
        self._pending_grants: list[Grant] = []
        self._events: deque[Event] = deque()
        self._outbox: list[Transmit] = []
        for known in config.known_peers:
            try:
                self._remember(known.certificate, known.endpoints)
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
                if self._direct_guesses(peer):
                    peer.session.initiate(now)
        else:
            self.registration.refresh(now)
            self.lifetime.restart(now)
            for peer in self.peers:
                if peer.session.is_established(now):
                    peer.traversal.punch(now, "network changed")
                    peer.traversal.call_peer(now)
        self._collect(now)

    def invite(
        self,
        name: str,
        now: float,
        address: ipaddress.IPv4Address | None = None,
        expires_in: float = 24 * 3600,
    ) -> JoinString:
        """A new invitation; the caller saves the ledger before showing it.

        Raises UsageError; ValueError if this node may not invite.
        """
        if self.ledger is None:
            raise ValueError("this node holds no signing key")
        invitation = self.ledger.invite(
            name, self._wall_clock(), self._random_bytes, address, expires_in
        )
        own = self.config.static.public_key.data
        return JoinString(own, invitation.token, self.config.server)

    def ledger_saved(self, now: float) -> None:
        """The ledger is safe on disk: answer the joiners that waited for it."""
        grants, self._pending_grants = self._pending_grants, []
        for grant in grants:
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
                self._send(peer, GoodBye().pack(), now)
        self.registration.close(now)
        self._collect(now)

    # From the TUN interface

    def send_packets(self, packets: Sequence[bytes], now: float) -> None:
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
            if self._send(peer, packet, now):
                peer.counters.tx_packets += 1
                peer.counters.tx_bytes += len(packet)
            else:
                peer.staged.append(bytes(packet))
                self._wake(peer, now)
        self._collect(now)

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
                self._outbox.append(Transmit(demand.datagram, source))
                self.drops["initiation: cookie demanded"] += 1
        self._collect(now)
        return packets

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        transmits, self._outbox = self._outbox, []
        return transmits

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    # The clock

    def get_timer(self) -> float | None:
        times = [self.registration.get_timer(), self.lifetime.get_timer()]
        times += [peer.get_timer() for peer in self.peers]
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        self.registration.handle_timer(now)
        self.lifetime.handle_timer(now)
        for peer in self.peers:
            peer.handle_timer(now)
        self._consider_rebind(now)
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
        self._emit(peer, response, source)

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
                self._receive_from_server(self.registration.receive(message, now), now)
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
        if session.skipped:
            missing = peer.note_skipped(receiver, counter, now)
            if missing is not None:
                self._send(peer, missing.pack(), now)
        if not payload:
            return
        if payload[0] >= FIRST_IP:
            self._receive_packet(peer, payload, now, packets)
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
            traversal.receive_pong(check, source, now)
        elif isinstance(check, Confirm):
            traversal.receive_confirm(check, source, now)
        elif isinstance(check, Missing):
            for frame in peer.find_sent(check):
                for endpoint in traversal.routes(now):
                    self._emit(peer, frame, endpoint)
        elif isinstance(check, CallMe):
            admitted = self._announcer.admit(check.candidates)
            traversal.receive_call(CallMe(check.start, admitted), now)
        else:
            self._lose_peer(peer, "it said good-bye")

    def _receive_from_server(self, message: FromServer | None, now: float) -> None:
        if isinstance(message, Introduction):
            self._receive_introduction(message, now)
        elif isinstance(message, Moved):
            peer = self.peers.get(message.peer)
            if peer is not None:
                moved = Candidate(CandidateKind.SERVER_REFLEXIVE, message.endpoint)
                for candidate in self._announcer.admit([moved]):
                    peer.traversal.note_moved(candidate, now)
        elif isinstance(message, Gone):
            peer = self.peers.get(message.peer)
            if peer is not None:
                peer.is_online, peer.has_left = False, True
                if not peer.session.is_established(now):
                    self._events.append(PeerGone(peer.name, "the server no longer hears it"))
        elif isinstance(message, Asked):
            self._receive_join_request(message, now)

    def _receive_introduction(self, message: Introduction, now: float) -> None:
        announcement, _ = self._announcer.open(message)
        peer = self._remember(announcement.certificate, ())
        if announcement.instance != peer.instance:
            if peer.instance is not None:
                # A new process has no keys. But it may have agreed on some with us already, before
                # this news came: what we hold is replaced when there is something better.
                peer.session.restart_handshake(now)
            peer.instance = announcement.instance
        elif announcement.issued < peer.announced_at:
            raise AuthenticationFailed("announcement older than the one held")
        peer.announced_at = announcement.issued
        peer.is_online, peer.has_left = True, False
        peer.traversal.set_candidates(self._announcer.admit_introduced(message, announcement))
        self.peers.set_channel(peer, message.channel)
        peer.traversal.set_relay(bool(peer.channel), now)
        # Both sides start when the response has reached the initiator and its first frame us.
        settle = 1.5 * (message.peer_rtt / 1e6 + (self.registration.rtt or 0.0))
        is_smaller = self.config.certificate.key < message.peer
        peer.introduce(is_smaller, now, message.start / 1000, min(settle, 3.0))

    def _receive_join_request(self, message: Asked, now: float) -> None:
        if self.ledger is None:
            raise Malformed("join request to a node that cannot invite")
        request = parse_join_request(message.sealed)
        answer, consumed = self.ledger.redeem(
            request, PublicKey(message.joiner), self._wall_clock(), self._random_bytes
        )
        self._pending_grants.append(Grant(message.request, message.joiner, answer.pack()))
        self._events.append(InvitationRedeemed(consumed.name if consumed else ""))

    # Outbound

    def _send(self, peer: Peer, payload: bytes, now: float) -> bool:
        """Seal and send by the traversal's routes. False: no keys or no way yet."""
        if not peer.traversal.routes(now):
            return False
        frame = peer.session.seal(payload, now)
        if frame is None:
            return False
        for endpoint in peer.traversal.take_routes(len(frame), now):
            self._emit(peer, frame, endpoint)
        if payload and payload[0] >= FIRST_IP:
            peer.recent.append((now, frame))
        return True

    def _emit(self, peer: Peer, datagram: bytes, endpoint: Endpoint) -> None:
        if endpoint == RELAYED:
            server = self.registration.link.endpoint
            if server is not None and peer.channel:
                self._outbox.append(Transmit(pack_relay(peer.channel, datagram), server))
        else:
            self._outbox.append(Transmit(datagram, endpoint))

    def _wake(self, peer: Peer, now: float) -> None:
        """There is something for a peer we have no session with."""
        peer.session.initiate(now)
        if not peer.is_online:
            self.registration.introduce(peer.key.data, now)

    def _collect(self, now: float) -> None:
        """Gather what the parts want sent and reported."""
        self._announce(now)
        for event in self.registration.take_events():
            if isinstance(event, ServerRegistered) and self.lifetime.get_timer() is None:
                self.lifetime.restart(now)
            self._events.append(event)
        self._measure_lifetime(now)
        for peer in self.peers:
            traversal = peer.traversal
            for endpoint, payload in traversal.take_checks():
                frame = peer.session.seal(payload, now)
                if frame is not None:
                    self._emit(peer, frame, endpoint)
            if traversal.take_was_moved():
                # The server does not know yet, nor do the peers that we have nothing to say to.
                self.registration.refresh(now)
                for other in self.peers:
                    other.traversal.echo_now(now)
            if traversal.take_wants_introduction():
                self.registration.refresh(now)
                self.registration.introduce(peer.key.data, now)
            for datagram in peer.session.take_datagrams():
                for endpoint in self._handshake_routes(peer, now):
                    self._emit(peer, datagram, endpoint)
            for transaction, seconds, endpoint in traversal.take_answers():
                way = "relay" if endpoint == RELAYED else str(endpoint)
                self._events.append(PingAnswered(peer.name, transaction, seconds, way))
            self._events.extend(peer.take_events(now))
        # First what tells the server where we are: then it relays what follows.
        self._outbox += self.registration.datagrams_to_send()
        for peer in self.peers:
            for frame in peer.take_unproven(now):
                for endpoint in peer.traversal.routes(now):
                    self._emit(peer, frame, endpoint)

    def _measure_lifetime(self, now: float) -> None:
        for probe in self.lifetime.take_probes():
            self.registration.link.send(probe, now, local=SECOND_SOCKET)
        interval = self.lifetime.keepalive_interval
        if interval != self.registration.keepalive_interval:
            self.registration.keepalive_interval = interval
            for peer in self.peers:
                peer.traversal.keepalive_interval = interval

    def _handshake_routes(self, peer: Peer, now: float) -> list[Endpoint]:
        routes = list(peer.traversal.routes(now))
        if RELAYED in routes and not self.registration.is_connected:
            routes.remove(RELAYED)
        return routes or self._direct_guesses(peer)

    def _direct_guesses(self, peer: Peer) -> list[Endpoint]:
        """Without relay and path: what the peer announced, and where it was before."""
        known = [Candidate(CandidateKind.HOST, endpoint) for endpoint in peer.known_endpoints]
        remembered = [candidate.endpoint for candidate in self._announcer.admit(known)]
        return list(dict.fromkeys(peer.traversal.candidates + remembered))[:MAX_GUESSES]

    def _note_keys(self, peer: Peer, now: float) -> None:
        is_rekey = peer.has_keys
        if not peer.note_keys(now):
            return
        if not is_rekey:
            self._events.append(peer.handshake_event(now))
        if not peer.traversal.routes(now) and self._direct_guesses(peer):
            for endpoint in self._direct_guesses(peer):
                peer.traversal.add_candidate(Candidate(CandidateKind.HOST, endpoint))
            peer.traversal.punch(now, "remembered endpoint")
        # The responder may use the new keys only when it has heard them once (white paper §5.4.5).
        staged, peer.staged = peer.staged, deque(maxlen=peer.staged.maxlen)
        if not staged:
            self._send(peer, KEEPALIVE_PAYLOAD, now)
        for packet in staged:
            if self._send(peer, packet, now):
                peer.counters.tx_packets += 1
                peer.counters.tx_bytes += len(packet)

    def _consider_rebind(self, now: float) -> None:
        """A router that took a peer's check for a stranger's maps our port elsewhere for as long as
        either side keeps sending: only a fresh port is free of that. Nobody who has a direct path
        is disturbed for it."""
        if now < self._rebind_at or not self.config.may_rebind:
            return
        if not self.registration.is_connected or any(p.traversal.best for p in self.peers):
            return
        failing = (p.traversal.failures for p in self.peers if p.state(now) == "relayed")
        if max(failing, default=0) >= REBIND_AFTER_FAILURES:
            self._rebind_at = now + REBIND_SPACING * 2**self._rebinds
            self._rebinds = min(self._rebinds + 1, 6)
            self._events.append(RebindWanted())

    # Membership and candidates

    def _remember(self, packed: bytes, endpoints: Sequence[Endpoint]) -> Peer:
        """Raises Malformed, AuthenticationFailed."""
        count = len(self.peers)
        peer, has_news = self.peers.remember(packed, endpoints)
        if len(self.peers) > count:
            peer.traversal.set_local_candidates(self._announcer.candidates or ())
            peer.traversal.keepalive_interval = self.lifetime.keepalive_interval
            self._events.append(PeerIntroduced(peer.name))
        if has_news:
            self._events.append(PeersChanged())
        return peer

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
        for peer in self.peers:
            peer.traversal.set_local_candidates(candidates)
        main = self.registration.main_observed
        if before is not None and {c.endpoint for c in candidates if c not in before} <= {main}:
            # The server itself saw the only news: it tells the peers without being told.
            return
        self.registration.announce(self._announcer.seal(), now)

    def status(self, now: float) -> dict[str, Any]:
        """A snapshot for people and programs; the format of ``punchtun status --json``."""
        return describe_node(self, now)
