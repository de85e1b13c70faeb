"""A member's key is replaced by another, without a new invitation.

The member asks those that may invite, one after the other, in their sessions, until one has
answered with a certificate of the new key and the revocation of the old one:

    =======  ================================================  ===============================
    state    meaning                                           left by
    =======  ================================================  ===============================
    RESTING  nothing is asked                                  ``begin`` → ASKING
    ASKING   the request is repeated, less and less often      an answer → GRANTED or REFUSED
    GRANTED  ``grant`` is to be kept, and used from the next
             start on
    REFUSED  another key has taken the place of ours already:
             somebody else has asked, with our key
    =======  ================================================  ===============================

The inviter keeps its answer, and gives the same one however often it is asked. It does not tell of
the revocation: that is for the member, which does so with its new key. So an answer that gets lost
leaves nobody without a key.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from tunnel.core.events import Event, KeyReplaced, RotationAsked
from tunnel.core.inviter import Inviter
from tunnel.core.machine import WallClock
from tunnel.core.membership import NetworkIdentity, join_key
from tunnel.core.outbound import Outbound
from tunnel.core.peer import Peer
from tunnel.core.ratelimit import KeyedRateLimit
from tunnel.errors import AuthenticationFailed
from tunnel.noise.keys import PrivateKey
from tunnel.wire.certificate import Certificate
from tunnel.wire.revocation import SIGNED_PREFIX, Revocation
from tunnel.wire.rotation import RotationAnswer, RotationRequest, RotationStatus

DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds from one request to the next."""
REQUEST_RATE, REQUEST_BURST = 0.2, 10.0
"""Requests a second that are answered of one peer: each may cost a write to the disk."""
ROTATION_LABEL = b"key rotation"


class RotationState(enum.Enum):
    RESTING = "resting"
    ASKING = "asking"
    GRANTED = "granted"
    REFUSED = "refused"


class RotationGrant(NamedTuple):
    certificate: Certificate
    """Of the new key."""
    revocation: Revocation
    """Of the old one."""


class Rotation:
    def __init__(
        self,
        own: Certificate,
        identity: NetworkIdentity,
        peers: Iterable[Peer],
        inviter: Inviter,
        outbound: Outbound,
        wall_clock: WallClock,
    ) -> None:
        self.state = RotationState.RESTING
        self.grant: RotationGrant | None = None
        self._own = own
        self._identity = identity
        self._peers = peers
        self._inviter = inviter
        self._outbound = outbound
        self._wall_clock = wall_clock
        self._next: PrivateKey | None = None
        self._asked: list[bytes] = []
        """Keys of those asked, the last one last."""
        self._useless: set[bytes] = set()
        """Those that hold no signing key after all."""
        self._tries = 0
        self._ask_at: float | None = None
        self._requests = KeyedRateLimit(REQUEST_RATE, REQUEST_BURST)
        self._events: list[Event] = []

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # The member's side

    def begin(self, new: PrivateKey, now: float) -> None:
        """Ask for a certificate of `new`, which is kept on disk already. Repeating it is
        harmless, and asks at once."""
        if self.state is RotationState.GRANTED:
            return
        self.state, self._next = RotationState.ASKING, new
        self._useless.clear()
        self._tries, self._ask_at = 0, now

    def inviters(self, now: float) -> list[Peer]:
        """Those that can be asked now."""
        return [
            peer
            for peer in self._peers
            if peer.certificate.may_invite
            and peer.key.data not in self._useless
            and peer.has_keys
            and peer.traversal.routes(now)
        ]

    def receive_answer(self, answer: RotationAnswer, peer: Peer) -> None:
        """Raises Malformed or AuthenticationFailed: it is not what was asked for."""
        if self.state is not RotationState.ASKING or peer.key.data not in self._asked:
            raise AuthenticationFailed("rotation answer that was not asked for")
        assert self._next is not None
        if answer.status is RotationStatus.NO_INVITER:
            self._useless.add(peer.key.data)
            return
        if answer.status is RotationStatus.TAKEN:
            self.state, self._ask_at = RotationState.REFUSED, None
            self._events.append(KeyReplaced(peer.name, ""))
            return
        revocation = answer.revocation
        assert revocation is not None
        certificate = self._identity.verify(answer.certificate, self._wall_clock())
        self._identity.key.verify(SIGNED_PREFIX + revocation.signed_part(), revocation.signature)
        new, own = self._next.public_key, self._own
        is_same = (certificate.name, certificate.addresses) == (own.name, own.addresses)
        if certificate.key != new.data or not is_same or certificate.issued != own.issued:
            raise AuthenticationFailed("rotation to another certificate")
        if (revocation.key, revocation.successor) != (own.key, new.data):
            raise AuthenticationFailed("rotation of another key")
        self.grant = RotationGrant(certificate, revocation)
        self.state, self._ask_at = RotationState.GRANTED, None
        self._events.append(KeyReplaced(peer.name, str(new)))

    # The inviter's side

    def receive_request(self, request: RotationRequest, peer: Peer, now: float) -> None:
        """Raises AuthenticationFailed: too many, or of a key that cannot be given."""
        if not self._requests.take(peer.key.data, now):
            raise AuthenticationFailed("too many rotation requests")
        if self._inviter.rotate(request, peer.key.data):
            self._events.append(RotationAsked(peer.name))
        else:
            answer = RotationAnswer(RotationStatus.NO_INVITER)
            self._outbound.send(peer, answer.pack(), now)

    # The clock

    def get_timer(self) -> float | None:
        return self._ask_at

    def handle_timer(self, now: float) -> None:
        if self._ask_at is None or now < self._ask_at:
            return
        inviters = self.inviters(now)
        if not inviters:
            # Nothing is sent: no reason to be slower.
            self._ask_at = now + DELAYS[0]
            return
        self._ask_at = now + DELAYS[min(self._tries, len(DELAYS) - 1)]
        self._tries += 1
        self._ask(min(inviters, key=self._asked_before), now)

    # Inside

    def _asked_before(self, peer: Peer) -> int:
        return self._asked.index(peer.key.data) + 1 if peer.key.data in self._asked else 0

    def _ask(self, peer: Peer, now: float) -> None:
        assert self._next is not None
        key = peer.key.data
        self._asked = [*(each for each in self._asked if each != key), key]
        proof = join_key(ROTATION_LABEL, self._next, peer.key, self._own.key)
        request = RotationRequest(self._next.public_key.data, proof)
        peer.touch()
        self._outbound.send(peer, request.pack(), now)
