"""Which way things leave: frames by the routes of a peer's traversal, handshakes by any that may be
open, what goes by the relay in an envelope to the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tunnel.core.announcer import Announcer
from tunnel.core.check_budget import CheckBudget
from tunnel.core.checks import OPENER, Outgoing
from tunnel.core.machine import Buffer, Transmit
from tunnel.core.path import RELAYED
from tunnel.core.path_mtu import SMALLEST
from tunnel.core.peer import Peer
from tunnel.core.registration import Registration
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import is_padded_ping
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.fragment import FRAGMENT, split_packet
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

    def send(
        self, peer: Peer, payload: bytes, now: float, answers: list[bytes] | None = None
    ) -> bool:
        """Seal and send by the traversal's routes, in fragments where it is too large for one of
        them; what its sender is to be told of that goes into `answers`. False: no keys or no way
        yet."""
        if not peer.traversal.routes(now):
            return False
        if len(payload) > SMALLEST:
            limit = peer.note_large(now)
            if limit is not None and len(payload) > limit:
                parts = split_packet(payload, limit, peer.next_fragmented())
                # If there are keys for the first, there are for the others.
                is_sent = all(self._send_whole(peer, part, now) for part in parts)
                if is_sent and answers is not None:
                    answer = peer.answer_too_big(payload, limit, now)
                    answers += [answer] if answer else []
                return is_sent
        return self._send_whole(peer, payload, now)

    def _send_whole(self, peer: Peer, payload: bytes, now: float) -> bool:
        frame = peer.seal(payload, now)
        if frame is None:
            return False
        for endpoint in peer.traversal.take_routes(len(frame), now):
            self.emit(peer, frame, endpoint, peer.traversal.local_of(endpoint))
        if payload and payload[0] >= FRAGMENT:
            peer.recent.append((now, frame))
        return True

    def send_again(self, peer: Peer, frames: Iterable[bytes], now: float) -> None:
        """Frames sealed before, by the routes there are now."""
        for frame in frames:
            for endpoint in peer.traversal.routes(now):
                self.emit(peer, frame, endpoint, peer.traversal.local_of(endpoint))

    def send_checks(self, peer: Peer, checks: Iterable[Outgoing], now: float) -> None:
        """Seal and send each by its own way, whatever the traversal thinks of it."""
        for endpoint, payload, local, ttl in checks:
            if payload is None:
                self._transmits.append(Transmit(OPENER, endpoint, local=local, ttl=ttl))
                continue
            frame = peer.seal(payload, now)
            if frame is not None:
                is_whole = is_padded_ping(payload)
                self.emit(peer, frame, endpoint, local, dont_fragment=is_whole)

    def send_handshakes(
        self, peer: Peer, budget: CheckBudget, drops: Counter[str], now: float
    ) -> None:
        """Initiations. To endpoints that have proven nothing as many as `budget` admits; the others
        are counted in `drops`."""
        for datagram in peer.session.take_datagrams():
            routes = self._handshake_routes(peer, now)
            for endpoint in budget.admit_initiation(peer, routes, drops, now):
                self.emit(peer, datagram, endpoint, peer.traversal.local_of(endpoint))

    def _handshake_routes(self, peer: Peer, now: float) -> list[Endpoint]:
        """Those of frames; without keys no echo tells whether they are still good, so then, and
        when the first attempt is in vain, the relay too, or where there is none, guesses."""
        routes = list(peer.traversal.routes(now))
        is_urgent = peer.session.has_repeated or not peer.session.is_established(now)
        if is_urgent and peer.traversal.relay is not None and RELAYED not in routes:
            routes.append(RELAYED)
        if RELAYED in routes and not self._registration.is_connected:
            routes.remove(RELAYED)
        is_cut = RELAYED not in routes or self._registration.is_relay_cut(now)
        if not routes or (is_urgent and is_cut):
            routes = list(dict.fromkeys([*routes, *self.guess_endpoints(peer)]))
        return routes

    def emit(
        self,
        peer: Peer,
        datagram: bytes,
        endpoint: Endpoint,
        local: int = 0,
        *,
        dont_fragment: bool = False,
    ) -> None:
        """Send what is sealed already, to an endpoint or RELAYED."""
        to: Endpoint | None = endpoint
        if endpoint == RELAYED:
            link = self._registration.link
            to, local = (link.endpoint if peer.channel else None), link.local
            datagram = pack_relay(peer.channel, datagram)
        if to is not None:
            self._transmits.append(Transmit(datagram, to, local=local, dont_fragment=dont_fragment))

    def wrap(self, peer: Peer, data: Buffer, size: int) -> list[Transmit]:
        """Frames of `size` bytes each but the last, in one buffer, by the relay."""
        link = self._registration.link
        if link.endpoint is None or not peer.channel:
            return []
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        wrapped = [pack_relay(peer.channel, bytes(part)) for part in parts]
        return [Transmit(part, link.endpoint, local=link.local) for part in wrapped]

    def guess_endpoints(self, peer: Peer) -> list[Endpoint]:
        """Without relay and path: what the peer announced, and where it was before."""
        known = [Candidate(CandidateKind.HOST, endpoint) for endpoint in peer.known_endpoints]
        remembered = [candidate.endpoint for candidate in self._announcer.admit(known)]
        return list(dict.fromkeys(peer.traversal.path_table.candidates + remembered))[:MAX_GUESSES]
