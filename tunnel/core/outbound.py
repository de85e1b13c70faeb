"""Which way things leave: frames by the routes of a peer's traversal, handshakes by any that may be
open, what goes by the relay in an envelope to the server."""

from __future__ import annotations

from collections.abc import Iterable

from tunnel.core.announcer import Announcer
from tunnel.core.machine import Transmit
from tunnel.core.path import RELAYED
from tunnel.core.peer import Peer
from tunnel.core.registration import Registration
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.relay import pack_relay

FIRST_IP = 0x40
"""Least first byte of an IP packet."""
MAX_GUESSES = 8
"""Endpoints that a handshake without relay is sent to."""


class Outbound:
    def __init__(self, registration: Registration, announcer: Announcer) -> None:
        self._registration = registration
        self._announcer = announcer
        self._transmits: list[Transmit] = []

    def take_transmits(self) -> list[Transmit]:
        transmits, self._transmits = self._transmits, []
        return transmits

    def add(self, transmits: Iterable[Transmit]) -> None:
        self._transmits += transmits

    def send(self, peer: Peer, payload: bytes, now: float) -> bool:
        """Seal and send by the traversal's routes. False: no keys or no way yet."""
        if not peer.traversal.routes(now):
            return False
        frame = peer.session.seal(payload, now)
        if frame is None:
            return False
        for endpoint in peer.traversal.take_routes(len(frame), now):
            self.emit(peer, frame, endpoint)
        if payload and payload[0] >= FIRST_IP:
            peer.recent.append((now, frame))
        return True

    def send_again(self, peer: Peer, frames: Iterable[bytes], now: float) -> None:
        """Frames sealed before, by the routes there are now."""
        for frame in frames:
            for endpoint in peer.traversal.routes(now):
                self.emit(peer, frame, endpoint)

    def send_checks(self, peer: Peer, now: float) -> None:
        for endpoint, payload in peer.traversal.take_checks():
            frame = peer.session.seal(payload, now)
            if frame is not None:
                self.emit(peer, frame, endpoint)

    def send_handshakes(self, peer: Peer, now: float) -> None:
        for datagram in peer.session.take_datagrams():
            routes = list(peer.traversal.routes(now))
            if RELAYED in routes and not self._registration.is_connected:
                routes.remove(RELAYED)
            for endpoint in routes or self.guess_endpoints(peer):
                self.emit(peer, datagram, endpoint)

    def emit(self, peer: Peer, datagram: bytes, endpoint: Endpoint) -> None:
        """Send what is sealed already, to an endpoint or RELAYED."""
        if endpoint != RELAYED:
            self._transmits.append(Transmit(datagram, endpoint))
            return
        server = self._registration.link.endpoint
        if server is not None and peer.channel:
            self._transmits.append(Transmit(pack_relay(peer.channel, datagram), server))

    def guess_endpoints(self, peer: Peer) -> list[Endpoint]:
        """Without relay and path: what the peer announced, and where it was before."""
        known = [Candidate(CandidateKind.HOST, endpoint) for endpoint in peer.known_endpoints]
        remembered = [candidate.endpoint for candidate in self._announcer.admit(known)]
        return list(dict.fromkeys(peer.traversal.candidates + remembered))[:MAX_GUESSES]
