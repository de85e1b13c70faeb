"""What the server tells a node of others: introductions, moves, departures, joiners that ask."""

from __future__ import annotations

from collections.abc import Sequence

from tunnel.core.announcer import Announcer
from tunnel.core.candidates import merge_observed
from tunnel.core.events import Event, PeerGone
from tunnel.core.inviter import Inviter
from tunnel.core.peer_table import PeerTable
from tunnel.core.registration import Registration
from tunnel.errors import AuthenticationFailed
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import Asked, FromServer, Gone, Introduction, Moved


def observed_hosts(seen: Endpoint, announced: Sequence[Candidate]) -> tuple[str, ...]:
    """The addresses at which guessed ports of a peer may lie: where the server sees it. Of its IPv4
    address, if it is seen by IPv6, there is only its own word."""
    if not seen.is_ipv6:
        return (seen.host,)
    reflexive = CandidateKind.SERVER_REFLEXIVE
    return tuple(c.endpoint.host for c in announced if c.kind is reflexive)


MAX_SETTLE = 3.0
"""Seconds granted at most to a handshake through the relay before punching starts."""


class IntroductionReceiver:
    def __init__(
        self,
        own_key: bytes,
        registration: Registration,
        announcer: Announcer,
        peers: PeerTable,
        inviter: Inviter,
    ) -> None:
        self._own_key = own_key
        self._registration = registration
        self._announcer = announcer
        self._peers = peers
        self._inviter = inviter

    def receive(self, message: FromServer, now: float) -> list[Event]:
        """Raises Malformed, AuthenticationFailed: for what the server only passes on."""
        if isinstance(message, Introduction):
            self._receive_introduction(message, now)
        elif isinstance(message, Moved):
            peer = self._peers.get(message.peer)
            moved = Candidate(CandidateKind.SERVER_REFLEXIVE, message.endpoint)
            if peer is not None:
                if not message.endpoint.is_ipv6:
                    # Ports are guessed at IPv4 addresses; of those this says nothing.
                    peer.observed_hosts = (message.endpoint.host,)
                for candidate in self._announcer.admit([moved]):
                    peer.traversal.note_moved(candidate, now)
        elif isinstance(message, Gone):
            peer = self._peers.get(message.peer)
            if peer is not None:
                peer.is_online, peer.has_left = False, True
                if not peer.session.is_established(now):
                    return [PeerGone(peer.name, "the server no longer hears it")]
        elif isinstance(message, Asked):
            event = self._inviter.receive(message)
            for answer in self._inviter.take_ready():
                self._registration.send(answer, now)
            return [] if event is None else [event]
        return []

    def _receive_introduction(self, message: Introduction, now: float) -> None:
        announcement = self._announcer.open(message)
        peer = self._peers.remember(announcement.certificate, ())
        if announcement.instance in peer.earlier_instances:
            raise AuthenticationFailed("announcement of an earlier process")
        if announcement.instance != peer.instance:
            if peer.instance is not None:
                peer.earlier_instances.append(peer.instance)
                # A new process has no keys. But it may have agreed on some with us already, before
                # this news came: what we hold is replaced when there is something better.
                peer.session.restart_handshake(now)
            peer.instance = announcement.instance
        elif announcement.issued < peer.announced_at:
            raise AuthenticationFailed("announcement older than the one held")
        peer.announced_at = announcement.issued
        peer.is_online, peer.has_left = True, False
        peer.observed_hosts = observed_hosts(message.observed, announcement.candidates)
        peer.announced = merge_observed(announcement.candidates, message.observed)
        peer.traversal.set_candidates(self._announcer.admit(peer.announced))
        is_new = message.channel not in (0, peer.channel)
        self._peers.set_channel(peer, message.channel)
        peer.traversal.set_relay(bool(peer.channel), now, is_new=is_new)
        # Both sides start when the response has reached the initiator and its first frame us.
        settle = 1.5 * (message.peer_rtt / 1e6 + (self._registration.rtt or 0.0))
        is_smaller = self._own_key < message.peer
        peer.introduce(is_smaller, now, message.start / 1000, min(settle, MAX_SETTLE))
