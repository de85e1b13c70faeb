"""What follows from a revocation: the member's session ends, and everybody is told.

When a session comes up both ends tell each other a digest of the revocations they know. Whoever
hears of another one sends what the other may lack and its own digest again, until they are the
same; datagrams get lost, so that is repeated, less and less often. What is new to a node differs
from all that it has heard, and so goes on to all its peers.

A member that is revoked is told so in its session, which then ends. Whoever is told so of itself
passes it on, and is silent from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunnel.core.events import Event, MemberRevoked
from tunnel.core.machine import earliest
from tunnel.core.outbound import Outbound
from tunnel.core.peer import Peer
from tunnel.core.peer_table import PeerTable
from tunnel.core.port_guessing import PortGuessing
from tunnel.core.ratelimit import KeyedRateLimit
from tunnel.core.registration import Registration
from tunnel.core.revocations import Revocations
from tunnel.errors import AuthenticationFailed
from tunnel.noise.keys import PublicKey
from tunnel.wire.certificate import Certificate
from tunnel.wire.revocation import (
    MOST_LISTED,
    NO_SUCCESSOR,
    Revocation,
    RevocationDigest,
    RevocationList,
)

DELAYS = (0.5, 1.0, 3.0, 10.0, 60.0, 600.0)
"""Seconds until a peer that is known, or feared, to lack something is told the same again. The last
goes on: older versions never answer."""
SPACING = DELAYS[0]
MOST_TOLD = 40
"""Revocations told a peer at a time."""
FAREWELLS = 3
"""Copies of its revocation to the member itself: there is no second time."""
LOOK_AFTER = 0.1
"""Seconds from any event to the look whether there is somebody to tell: it may be a way to one."""
LIST_RATE, LIST_BURST = 40.0, 200.0
"""Lists a second taken from one peer: each may cost some signatures' verification."""


@dataclass
class _Exchange:
    """With one peer, in one session."""

    peer: Peer
    heard: bytes | None = None
    """Its digests."""
    told_at: float = float("-inf")
    tries: int = 0
    """How often it was told the same since there was something new on either side."""
    owes_answer: bool = False
    told: int = 0
    """Revocations sent to it: the next are others, until all have had their turn."""
    left: int = 0
    """Those whose turn is to come, without the delay of a repetition."""


class Expulsion:
    def __init__(
        self,
        own: Certificate,
        revocations: Revocations,
        peers: PeerTable,
        registration: Registration,
        guessing: PortGuessing,
        outbound: Outbound,
    ) -> None:
        self.revocations = revocations
        self.is_expelled = False
        """Whether we are revoked ourselves."""
        self._own = own
        self._peers = peers
        self._registration = registration
        self._guessing = guessing
        self._outbound = outbound
        self._lists = KeyedRateLimit(LIST_RATE, LIST_BURST)
        self._exchanges: dict[bytes, _Exchange] = {}
        self._look_at: float | None = None
        self._events: list[Event] = []

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # Commands

    def recall(self, revocation: Revocation) -> None:
        """One from an earlier run, before there are peers. Raises AuthenticationFailed."""
        self.revocations.add(revocation)
        if revocation.key == self._own.key and not self.is_expelled:
            self._note_own(revocation)

    def carry_out(self, revocation: Revocation, now: float) -> bool:
        """Whether it is news, which it will be to our peers, too. Raises AuthenticationFailed."""
        if not self.revocations.add(revocation):
            return False
        if revocation.key == self._own.key:
            if not self.is_expelled:
                self._leave(revocation, now)
            return True
        peer = self._peers.get(revocation.key)
        if peer is not None:
            self._dismiss(peer, revocation, FAREWELLS, now)
        name, key = peer.name if peer is not None else "", str(PublicKey(revocation.key))
        self._events.append(MemberRevoked(name, key, successor=_name_successor(revocation)))
        for exchange in self._exchanges.values():
            exchange.tries = 0  # Also with the one that told us: it may have more.
        self._look_at = now
        return True

    def greet(self, peer: Peer, now: float) -> None:
        """A session with it has come up."""
        self._exchanges[peer.key.data] = _Exchange(peer)
        self._look_at = now

    def wake(self, now: float) -> None:
        """Something has happened: there may be a way to a peer."""
        self._look_at = earliest((self._look_at, now + LOOK_AFTER))

    # From the network

    def receive_digest(self, digest: RevocationDigest, peer: Peer, now: float) -> None:
        exchange = self._exchanges.setdefault(peer.key.data, _Exchange(peer))
        if digest.digests != exchange.heard:
            exchange.heard, exchange.tries = digest.digests, 0
        exchange.owes_answer |= digest.wants_answer
        self._look_at = now

    def receive_list(self, listed: RevocationList, peer: Peer, now: float) -> None:
        """Raises AuthenticationFailed: the network did not sign one of them, or there are too many.
        Those before it count."""
        if not self._lists.take(peer.key.data, now):
            raise AuthenticationFailed("too many lists of revocations")
        for revocation in listed.revocations:
            self.carry_out(revocation, now)
            if self.is_expelled:
                return

    # The clock

    def get_timer(self) -> float | None:
        return self._look_at

    def handle_timer(self, now: float) -> None:
        if self._look_at is None or now < self._look_at:
            return
        self._look_at = None
        for exchange in self._exchanges.values():
            peer = exchange.peer
            if not peer.has_keys or not peer.traversal.routes(now):
                continue  # When there are, that is an event.
            due_at = self._due_at(exchange)
            if due_at is not None and now >= due_at:
                self._tell(exchange, now)
                due_at = self._due_at(exchange)
            self._look_at = earliest((self._look_at, due_at))

    # Inside

    def _due_at(self, exchange: _Exchange) -> float | None:
        times: list[float | None] = []
        if exchange.owes_answer:
            times.append(exchange.told_at + SPACING)
        if exchange.heard != self.revocations.digests:
            delay = SPACING if exchange.left else DELAYS[min(exchange.tries, len(DELAYS) - 1)]
            times.append(exchange.told_at + delay)
        return earliest(times)

    def _tell(self, exchange: _Exchange, now: float) -> None:
        peer, digests = exchange.peer, self.revocations.digests
        peer.touch()
        lacking = self._choose(exchange)
        for start in range(0, len(lacking), MOST_LISTED):
            part = tuple(lacking[start : start + MOST_LISTED])
            self._outbound.send(peer, RevocationList(part).pack(), now)
        wants_answer = exchange.heard != digests
        # Behind them, so that the answer tells what has arrived.
        self._outbound.send(peer, RevocationDigest(digests, wants_answer).pack(), now)
        exchange.told_at, exchange.owes_answer = now, False
        exchange.tries += wants_answer and not exchange.left

    def _choose(self, exchange: _Exchange) -> Sequence[Revocation]:
        """Some that the peer may lack: others each time."""
        if exchange.heard is None:
            return ()
        lacking = self.revocations.differing(exchange.heard)
        if len(lacking) <= MOST_TOLD:
            exchange.left = 0
            return lacking
        at = exchange.told % len(lacking)
        exchange.told += MOST_TOLD
        exchange.left = max(0, (exchange.left or len(lacking)) - MOST_TOLD)
        return (lacking[at:] + lacking[:at])[:MOST_TOLD]

    def _dismiss(self, peer: Peer, revocation: Revocation, copies: int, now: float) -> None:
        """Send it the revocation, if there is a session, and have done with it."""
        if peer.session.is_established(now):
            payload = RevocationList((revocation,)).pack()
            for _ in range(copies):
                self._outbound.send(peer, payload, now)
        self._exchanges.pop(peer.key.data, None)
        self._guessing.forget(peer, now)
        self._peers.remove(peer)

    def _leave(self, revocation: Revocation, now: float) -> None:
        """It is us. Not all may know it yet; they need not find out by our silence."""
        for peer in list(self._peers):
            self._dismiss(peer, revocation, 1, now)
        self._registration.close(now)
        self._note_own(revocation)

    def _note_own(self, revocation: Revocation) -> None:
        self.is_expelled = True
        self._look_at = None
        key = str(PublicKey(self._own.key))
        successor = _name_successor(revocation)
        self._events.append(MemberRevoked(self._own.name, key, is_own=True, successor=successor))


def _name_successor(revocation: Revocation) -> str:
    if revocation.successor == NO_SUCCESSOR:
        return ""
    return str(PublicKey(revocation.successor))
