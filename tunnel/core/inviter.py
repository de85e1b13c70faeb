"""Letting others in: invitations given out, and join requests answered once the ledger is saved."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tunnel.core.configuration import NodeConfig
from tunnel.core.events import InvitationRedeemed
from tunnel.core.ledger import DEFAULT_EXPIRY, InvitationLedger
from tunnel.core.machine import RandomBytes, WallClock
from tunnel.core.peer import Peer
from tunnel.core.revocations import Revocations
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.keys import PublicKey
from tunnel.wire.invitation import JoinStatus, JoinString, parse_join_request
from tunnel.wire.rendezvous import Asked, Grant
from tunnel.wire.revocation import Revocation
from tunnel.wire.rotation import RotationAnswer, RotationRequest


class Inviter:
    """Exists on every node; without a ledger it refuses."""

    def __init__(
        self,
        config: NodeConfig,
        ledger: InvitationLedger | None,
        peers: Iterable[Peer],
        revocations: Revocations,
        random_bytes: RandomBytes,
        wall_clock: WallClock,
    ) -> None:
        self.ledger = ledger
        self.revision = 0
        """Of the ledger, one more with every change: what was saved is named by it."""
        self._saved = 0
        """The revision that is on disk; a ledger that was read from there has none higher."""
        self._config = config
        self._peers = peers
        self._revocations = revocations
        self._random_bytes = random_bytes
        self._wall_clock = wall_clock
        self._pending: dict[bytes, tuple[int, Grant]] = {}
        """Joiner → the answer to what it asked last, and the revision of the ledger that must be on
        disk before that leaves."""
        self._ready: list[Grant] = []
        self._rotations: dict[bytes, tuple[int, RotationAnswer]] = {}
        """Key of a member → the answer to it, and the revision that must be on disk."""

    def invite(
        self,
        name: str,
        address: ipaddress.IPv4Address | None = None,
        expires_in: float = DEFAULT_EXPIRY,
        uses: int = 1,
    ) -> JoinString:
        """A new invitation for `uses` machines; the ledger must be saved before it is shown.

        Raises UsageError, OperatorError; ValueError if this node may not invite.
        """
        if self.ledger is None:
            raise ValueError("this node holds no signing key")
        self._learn(self.ledger)
        invitation = self.ledger.invite(
            name, self._wall_clock(), self._random_bytes, address, expires_in, uses
        )
        self.revision += 1
        own = self._config.static.public_key.data
        return JoinString(own, invitation.token, self._config.server)

    def sign_revocation(self, name: str) -> Revocation:
        """Of the member of that name or key. Changes nothing. Raises UsageError: it is nobody's, or
        of several; ValueError if this node may not revoke."""
        if self.ledger is None:
            raise ValueError("this node holds no signing key")
        self._learn(self.ledger)
        return self.ledger.sign_revocation(name, self._wall_clock())

    def withdraw(self, name: str) -> bool:
        """The invitation that nobody has used, and whether there was one; then the ledger must be
        saved."""
        has_withdrawn = self.ledger is not None and self.ledger.withdraw(name)
        self.revision += has_withdrawn
        return has_withdrawn

    def strike_revoked(self) -> None:
        """From the ledger, all that are revoked; it must be saved before that is relied upon. There
        may be some that it does not know of, if it comes from a backup, or another has revoked."""
        if self.ledger is not None:
            self.revision += self.ledger.strike({each.key for each in self._revocations})

    def receive(self, message: Asked) -> InvitationRedeemed | None:
        """Redeem. With an event to report, the answer waits until the ledger is saved; a refusal,
        or an answer that only repeats what is saved, changes nothing and may go at once.

        Raises Malformed, AuthenticationFailed: no answer then.
        """
        if self.ledger is None:
            raise Malformed("join request to a node that cannot invite")
        if message.joiner in self._revocations:
            raise AuthenticationFailed("join request of a revoked member")
        request = parse_join_request(message.sealed)
        self._learn(self.ledger)
        answer, made = self.ledger.redeem(
            request,
            PublicKey(message.joiner),
            self._wall_clock(),
            self._random_bytes,
            self._revocations.latest(),
        )
        grant = Grant(message.request, message.joiner, answer.pack())
        is_saved = made is None and self.revision <= self._saved
        if answer.status is not JoinStatus.GRANTED or is_saved:
            self._ready.append(grant)
            return None
        if made is not None:
            self.revision += 1
        self._pending[message.joiner] = (self.revision, grant)
        return InvitationRedeemed(made.name if made else "")

    def _learn(self, ledger: InvitationLedger) -> None:
        """Whom other inviters have let in: their names and addresses are given to nobody else; and
        whom they have expelled."""
        ledger.learn([peer.certificate for peer in self._peers])
        self.strike_revoked()

    def rotate(self, request: RotationRequest, old: bytes) -> bool:
        """Give the member with the key `old` another; whether this node may. The answer waits until
        the ledger is saved. Raises AuthenticationFailed: no answer then."""
        if self.ledger is None:
            return False
        self._learn(self.ledger)
        if request.key in self._revocations:
            raise AuthenticationFailed("rotation to a revoked key")
        answer, has_changed = self.ledger.rotate(old, request, self._wall_clock())
        self.revision += has_changed
        self._rotations[old] = (self.revision, answer)
        return True

    def take_rotations(self, revision: int) -> list[tuple[bytes, RotationAnswer]]:
        """As `take_grants`: keys of members, and what they are answered."""
        saved = [old for old, (needed, _) in self._rotations.items() if needed <= revision]
        return [(old, self._rotations.pop(old)[1]) for old in saved]

    def sign_consequences(self) -> list[Revocation]:
        """What else follows from the revocations that are known: see the ledger's."""
        if self.ledger is None:
            return []
        return self.ledger.sign_consequences(self._revocations, self._wall_clock())

    def take_ready(self) -> list[Grant]:
        """Answers that wait for nothing."""
        ready, self._ready = self._ready, []
        return ready

    def note_saved(self, revision: int) -> None:
        """The ledger is on disk as it was at `revision`."""
        self._saved = max(self._saved, revision)

    def take_grants(self, revision: int) -> list[Grant]:
        """Answers that only waited for the ledger to be saved as it was at `revision`. What was
        promised while the disk was being written waits on."""
        saved = [joiner for joiner, (needed, _) in self._pending.items() if needed <= revision]
        return [self._pending.pop(joiner)[1] for joiner in saved]
