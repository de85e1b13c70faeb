"""What arrives: from a datagram to the peer, or the part of the node, that it is for.

1. first byte → handshake, frame, or relay envelope (which holds one of the former);
2. index → session → peer (or the server);
3. payload → IP packet for the TUN interface, or a check for the peer's traversal.
"""

from __future__ import annotations

from collections import deque

from tunnel.core.announcer import Announcer
from tunnel.core.disclosure import Disclosure
from tunnel.core.events import Event, PeerGone
from tunnel.core.expulsion import Expulsion
from tunnel.core.fresh_sockets import FIRST_FRESH
from tunnel.core.handshakes import CookieDemanded, HandshakeReceiver
from tunnel.core.indices import IndexTable
from tunnel.core.introductions import IntroductionReceiver
from tunnel.core.lifetime import LifetimeProbe
from tunnel.core.machine import is_stream
from tunnel.core.nat import NatDiscovery
from tunnel.core.outbound import FIRST_IP, Outbound
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.core.peer_table import PeerTable
from tunnel.core.port_guessing import PortGuessing
from tunnel.core.registration import Registration
from tunnel.core.rotation import Rotation
from tunnel.core.session import Session
from tunnel.core.witness import Witness
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import (
    CallMe,
    Confirm,
    Missing,
    Ping,
    Pong,
    Prediction,
    Seen,
    Where,
    parse_check,
)
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import HAIRPIN, parse_hairpin
from tunnel.wire.fragment import FRAGMENT, parse_fragment
from tunnel.wire.handshake import (
    COOKIE_REPLY,
    INITIATION,
    RESPONSE,
    parse_cookie_reply,
    parse_response,
)
from tunnel.wire.nature import Nature
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.relay import RELAY, pack_relay, parse_relay
from tunnel.wire.rendezvous import Echoed
from tunnel.wire.revocation import RevocationDigest, RevocationList
from tunnel.wire.rotation import RotationAnswer, RotationRequest
from tunnel.wire.train import TRAIN, packet_of, split_bundle
from tunnel.wire.transport import TRANSPORT, parse_header, parse_place

KEEPALIVE_PAYLOAD = b""


class Inbound:
    def __init__(
        self,
        *,
        indices: IndexTable[Session],
        handshakes: HandshakeReceiver,
        registration: Registration,
        peers: PeerTable,
        announcer: Announcer,
        introductions: IntroductionReceiver,
        lifetime: LifetimeProbe,
        guessing: PortGuessing,
        disclosure: Disclosure,
        nat: NatDiscovery,
        witness: Witness,
        expulsion: Expulsion,
        rotation: Rotation,
        outbound: Outbound,
    ) -> None:
        self._indices = indices
        self._handshakes = handshakes
        self._registration = registration
        self._peers = peers
        self._announcer = announcer
        self._introductions = introductions
        self._lifetime = lifetime
        self._guessing = guessing
        self._disclosure = disclosure
        self._nat = nat
        self._witness = witness
        self._expulsion = expulsion
        self._rotation = rotation
        self._outbound = outbound
        self._events: list[Event] = []

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def receive(
        self, datagram: bytes, source: Endpoint, now: float, packets: list[bytes], local: int
    ) -> None:
        """Take one datagram in; IP packets for the TUN interface are added to `packets`. Raises
        Malformed, AuthenticationFailed, CookieDemanded."""
        kind = datagram[0] if datagram else 0
        if kind == TRANSPORT:
            self._receive_frame(datagram, source, now, packets, local)
        elif kind == RELAY:
            if not self._registration.link.is_server(source, local):
                raise Malformed("relay envelope not from the server")
            channel, inner = parse_relay(datagram)
            if not self._peers.has_channel(channel) or inner[0] == RELAY:
                raise Malformed("unknown channel")
            try:
                if inner[0] == INITIATION:
                    self._receive_initiation(inner, RELAYED, now, channel)
                else:
                    self.receive(inner, RELAYED, now, packets, 0 if is_stream(local) else local)
            except CookieDemanded as demand:
                # Back through the relay: a relayed peer must be able to come in under load too.
                raise CookieDemanded(pack_relay(channel, demand.datagram)) from None
        elif kind == INITIATION:
            if is_stream(local):
                raise Malformed("initiation on a stream, not in an envelope")
            self._receive_initiation(datagram, source, now)
        elif kind == RESPONSE:
            self._receive_response(datagram, source, now, local)
        elif kind == COOKIE_REPLY:
            reply = parse_cookie_reply(datagram)
            session = self._find_session(reply.receiver)
            if session is self._registration.link.session:
                self._registration.link.receive_cookie(reply, now, local)
            else:
                session.receive_cookie(reply, now)
        elif kind == HAIRPIN:
            if not self._nat.receive_hairpin(parse_hairpin(datagram).token, now):
                raise AuthenticationFailed("hairpin of a stranger")
        else:
            raise Malformed("unknown type")

    def _find_session(self, index: int) -> Session:
        session = self._indices.get(index)
        if session is None:
            raise AuthenticationFailed("unknown receiver")
        return session

    def _receive_initiation(
        self, datagram: bytes, source: Endpoint, now: float, channel: int | None = None
    ) -> None:
        # A cookie is bound to an address; the relay's stands for all that come through it.
        claimed = source if source != RELAYED else self._registration.link.endpoint
        if claimed is None:
            raise Malformed("relayed by no server")
        received = self._handshakes.receive(datagram, claimed, now, channel=channel)
        peer = self._peers.get(received.remote_static.data)
        if peer is None:
            raise AuthenticationFailed("initiation of a stranger")
        response = peer.session.receive_initiation(received, now)
        if response is None:
            raise AuthenticationFailed("initiation replayed")
        self._outbound.emit(peer, response, source, peer.traversal.local_of(source))

    def _receive_response(self, datagram: bytes, source: Endpoint, now: float, local: int) -> None:
        response = parse_response(datagram)
        session = self._find_session(response.receiver)
        if session is self._registration.link.session:
            self._registration.receive_response(response, source, now, local)
            return
        session.receive_response(response, now)
        peer = self._peers.of_session(session)
        peer.touch()
        self._note_keys(peer, now)

    def _receive_frame(
        self, datagram: bytes, source: Endpoint, now: float, packets: list[bytes], local: int
    ) -> None:
        receiver, counter = parse_header(datagram)
        session = self._find_session(receiver)
        if session is self._registration.link.session:
            if not self._registration.link.is_server(source, local):
                raise AuthenticationFailed("server's frame from elsewhere")
            message = self._registration.link.open(datagram, now)
            if isinstance(message, Echoed) and (
                self._lifetime.receive(message.transaction, now)
                or self._guessing.receive_echoed(message.transaction, message.observed, now)
            ):
                return
            if isinstance(message, Echoed) and self._nat.receive(message, source, now):
                return
            if message is not None and (local == 0 or is_stream(local)):
                news = self._registration.receive(message, now)
                if news is not None:
                    self._events.extend(self._introductions.receive(news, now))
            return
        if 0 < local < FIRST_FRESH:
            raise AuthenticationFailed("frame of a peer to another socket")
        peer = self._peers.of_session(session)
        try:
            payload = session.open(receiver, counter, datagram, now)
        except AuthenticationFailed as error:
            if str(error) == "replay":
                peer.counters.duplicates_dropped += 1
            raise
        self.note_frames(peer, receiver, counter, source, now, len(datagram), local)
        if payload:
            self.receive_payload(peer, payload, parse_place(datagram), source, now, packets, local)

    def note_frames(
        self,
        peer: Peer,
        receiver: int,
        counter: int,
        source: Endpoint,
        now: float,
        size: int,
        local: int,
    ) -> None:
        """The peer's session has opened frames, `size` bytes in all, the first with `counter`."""
        peer.note_received(source, now, size, local)
        self._note_keys(peer, now)
        session = peer.session
        if session.skipped or session.was_late:
            missing = peer.note_skipped(receiver, counter, now)
            if missing is not None:
                self._outbound.send(peer, missing.pack(), now)

    def receive_payload(
        self,
        peer: Peer,
        payload: bytes,
        place: int,
        source: Endpoint,
        now: float,
        packets: list[bytes],
        local: int,
    ) -> None:
        """Of a frame that was new. Raises Malformed."""
        kind = payload[0]
        if kind >= FIRST_IP:
            for packet in split_bundle(payload):
                self._receive_packet(peer, packet, now, packets)
        elif kind == TRAIN:
            self._receive_packet(peer, packet_of(payload, place), now, packets)
        elif kind == FRAGMENT:
            whole = peer.reassembler.add(parse_fragment(payload), now)
            if whole is not None:
                self._receive_packet(peer, whole, now, packets)
        else:
            self._receive_check(peer, payload, source, now, local)

    def _receive_packet(self, peer: Peer, packet: bytes, now: float, packets: list[bytes]) -> None:
        header = parse_ip_header(packet)
        if self._peers.routes.find(header.source) is not peer:
            raise AuthenticationFailed("inner source is not the peer's")
        peer.note_activity(now)
        peer.counters.rx_packets += 1
        peer.counters.rx_bytes += header.length
        packets.append(packet[: header.length])

    def _receive_check(
        self, peer: Peer, payload: bytes, source: Endpoint, now: float, local: int
    ) -> None:
        check = parse_check(payload)
        peer.touch()
        traversal = peer.traversal
        if isinstance(check, Ping):
            traversal.receive_ping(check, source, now, local)
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
        elif isinstance(check, Prediction):
            self._receive_prediction(check, peer, source, now)
        elif isinstance(check, Nature):
            self._disclosure.receive(check, peer, now)
        elif isinstance(check, RevocationDigest):
            self._expulsion.receive_digest(check, peer, now)
        elif isinstance(check, RevocationList):
            self._expulsion.receive_list(check, peer, now)
        elif isinstance(check, RotationRequest):
            self._rotation.receive_request(check, peer, now)
        elif isinstance(check, RotationAnswer):
            self._rotation.receive_answer(check, peer)
        else:
            self._lose_peer(peer, "it said good-bye")

    def _receive_prediction(
        self, prediction: Prediction, peer: Peer, source: Endpoint, now: float
    ) -> None:
        if source != RELAYED:
            raise Malformed("prediction not through the relay")
        first = Candidate(CandidateKind.PREDICTED, prediction.first)
        is_own = prediction.first.host in peer.observed_hosts
        is_credible = is_own and self._announcer.admit([first]) != ()
        self._guessing.receive(prediction, peer, is_credible, now)

    def _lose_peer(self, peer: Peer, reason: str) -> None:
        peer.is_online, peer.has_left = False, True
        peer.forget_keys()
        self._events.append(PeerGone(peer.name, reason))

    def _note_keys(self, peer: Peer, now: float) -> None:
        is_rekey = peer.has_keys
        if not peer.note_keys(now):
            return
        if not is_rekey:
            self._events.append(peer.handshake_event(now))
            self._expulsion.greet(peer, now)
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
