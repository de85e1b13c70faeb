"""Who is a member no more: a set that only grows, of statements signed by the network's key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tunnel.errors import AuthenticationFailed
from tunnel.noise.keys import PublicKey, SigningKey, VerifyKey
from tunnel.noise.primitives import constant_time_equal
from tunnel.noise.sealing import derive_key
from tunnel.wire.invitation import REVOKED_LENGTH
from tunnel.wire.revocation import (
    DIGEST_LENGTH,
    DIGESTS_LENGTH,
    GROUPS,
    NO_SUCCESSOR,
    SIGNED_PREFIX,
    Revocation,
    group_of,
    parse_revocation,
)

MAX_REVOCATIONS = 1024
"""As many as a network has nodes at most, at the server. A statement has 140 bytes."""


def sign_revocation(
    key: PublicKey, wall_time: float, signing_key: SigningKey, successor: bytes = NO_SUCCESSOR
) -> Revocation:
    unsigned = Revocation(key.data, int(wall_time), successor=successor)
    return replace(unsigned, signature=signing_key.sign(SIGNED_PREFIX + unsigned.signed_part()))


class Revocations:
    """Each is verified before it is kept, and there is one for a key: of several the one without a
    successor, or else with the smallest, so that all nodes come to the same."""

    def __init__(self, network: VerifyKey) -> None:
        self._network = network
        self._by_key: dict[bytes, Revocation] = {}
        self.digests = bytes(DIGESTS_LENGTH)
        """Of the keys, by group: the same in all nodes that know the same."""
        self.announced: set[bytes] = set()
        """Beginnings of keys that are revoked, as whoever has let us in says: before the signed
        statements are here, and of no use to anybody else."""

    def __contains__(self, key: bytes) -> bool:
        """Whether that X25519 key is revoked. Its bytes count, never a hash of anything signed."""
        return key in self._by_key or key[:REVOKED_LENGTH] in self.announced

    def __iter__(self) -> Iterator[Revocation]:
        """In order of their keys."""
        return iter([self._by_key[key] for key in sorted(self._by_key)])

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def is_full(self) -> bool:
        """Whether no more are kept."""
        return len(self._by_key) >= MAX_REVOCATIONS

    def get(self, key: bytes) -> Revocation | None:
        return self._by_key.get(key)

    def latest(self) -> list[bytes]:
        """The keys, those that were revoked last first."""
        ordered = sorted(self._by_key.values(), key=lambda each: (-each.revoked, each.key))
        return [revocation.key for revocation in ordered]

    def add(self, revocation: Revocation) -> bool:
        """Keep it; whether it is news: of another key, or of one whose successor is no more what
        was said. Raises AuthenticationFailed: the network did not sign it, or
        there are too many."""
        known = self._by_key.get(revocation.key)
        if known is not None and revocation.successor >= known.successor:
            return False
        self._network.verify(SIGNED_PREFIX + revocation.signed_part(), revocation.signature)
        if known is None and self.is_full:
            raise AuthenticationFailed("too many revocations")
        self._by_key[revocation.key] = revocation
        self._bring_up_to_date(group_of(revocation.key))
        return True

    def differing(self, digests: bytes) -> list[Revocation]:
        """Those among which are all that somebody with these digests does not know."""
        same = {
            group
            for group in range(GROUPS)
            if constant_time_equal(_part(digests, group), _part(self.digests, group))
        }
        return [revocation for revocation in self if group_of(revocation.key) not in same]

    def _bring_up_to_date(self, group: int) -> None:
        said = [each.key + each.successor for each in self if group_of(each.key) == group]
        digest = derive_key(b"revocations", *said)[:DIGEST_LENGTH]
        start = group * DIGEST_LENGTH
        self.digests = self.digests[:start] + digest + self.digests[start + DIGEST_LENGTH :]


def recall_revocations(network: VerifyKey, packed: Iterable[bytes]) -> Revocations:
    """Those that were kept. Others than this network's, in which the machine was before, do not
    count, nor those beyond MAX_REVOCATIONS. Raises Malformed."""
    revocations = Revocations(network)
    for each in packed:
        try:
            revocations.add(parse_revocation(each))
        except AuthenticationFailed:
            continue
    return revocations


def _part(digests: bytes, group: int) -> bytes:
    return digests[group * DIGEST_LENGTH : (group + 1) * DIGEST_LENGTH]
