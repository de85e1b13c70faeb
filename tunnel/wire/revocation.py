"""Revocations: what the network's signing key says of a member that is one no more, and how peers
tell each other, inside their session.

::

    revocation  | 1 | 0 0 0 | revoked (8) | key (32) | successor (32) | signature (64) | 140 bytes

    digest      | 11 | flags | 0 0 | digests of the revoked keys (8 each, 16 of them) |
    list        | 12 | count | 0 0 | revocations (140 each) ... |

`revoked` is in Unix seconds, and for people only. `key` is the X25519 key of the member: whatever
certificate names it is void for ever. `successor` is the key that the same member has instead;
zeros: it is a member no more. The signature (Ed25519) covers ``"punchtun revocation"`` and
everything before it.

A digest stands for all revoked keys that begin with the same four bits (the high ones of the first
byte), in order, each with its successor; zeros stand for none. Flag 1: the receiver is to answer
with its own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from tunnel.errors import Malformed

REVOCATION_DIGEST = 11
REVOCATION_LIST = 12

SIGNED_PREFIX = b"punchtun revocation"
REVOCATION_LENGTH = 140
NO_SUCCESSOR = bytes(32)
DIGEST_LENGTH = 8
GROUPS = 16
DIGESTS_LENGTH = GROUPS * DIGEST_LENGTH
MOST_LISTED = 4
"""Revocations in one list, which then fits into a frame on any path."""

_SIGNED = struct.Struct("<B3xQ32s32s")
_DIGEST = struct.Struct(f"<BBxx{DIGESTS_LENGTH}s")
_LIST = struct.Struct("<BBxx")
_WANTS_ANSWER = 1


@dataclass(frozen=True, slots=True)
class Revocation:
    key: bytes
    """The X25519 public key that is revoked."""
    revoked: int
    """Unix seconds."""
    signature: bytes = b""
    successor: bytes = NO_SUCCESSOR
    """The key that takes its place, if the member has rotated its key."""

    def signed_part(self) -> bytes:
        """The bytes the signature covers, without SIGNED_PREFIX."""
        return _SIGNED.pack(1, self.revoked, self.key, self.successor)

    def pack(self) -> bytes:
        return self.signed_part() + self.signature


class RevocationDigest(NamedTuple):
    """These keys I know as revoked."""

    digests: bytes
    """128 bytes."""
    wants_answer: bool = False

    def pack(self) -> bytes:
        flags = _WANTS_ANSWER if self.wants_answer else 0
        return _DIGEST.pack(REVOCATION_DIGEST, flags, self.digests)


class RevocationList(NamedTuple):
    """Some that you seem not to know."""

    revocations: tuple[Revocation, ...]
    """At most MOST_LISTED."""

    def pack(self) -> bytes:
        head = _LIST.pack(REVOCATION_LIST, len(self.revocations))
        return head + b"".join(revocation.pack() for revocation in self.revocations)


def group_of(key: bytes) -> int:
    """Which of the digests stands for it."""
    return key[0] >> 4


def parse_revocation(data: bytes) -> Revocation:
    """The revocation in `data`, whose signature the caller has yet to verify. Raises Malformed."""
    if len(data) != REVOCATION_LENGTH:
        raise Malformed("revocation length")
    if data[:4] != b"\x01\0\0\0":
        # They would be signed for and not be read.
        raise Malformed("revocation version")
    _, revoked, key, successor = _SIGNED.unpack_from(data)
    return Revocation(key, revoked, bytes(data[_SIGNED.size :]), successor)


def parse_revocation_digest(payload: bytes) -> RevocationDigest:
    """Longer than known is accepted. Raises Malformed."""
    if len(payload) < _DIGEST.size or payload[0] != REVOCATION_DIGEST:
        raise Malformed("revocation digest")
    _, flags, digests = _DIGEST.unpack_from(payload)
    return RevocationDigest(digests, bool(flags & _WANTS_ANSWER))


def parse_revocation_list(payload: bytes) -> RevocationList:
    """Longer than known is accepted. Raises Malformed."""
    if len(payload) < _LIST.size or payload[0] != REVOCATION_LIST:
        raise Malformed("revocation list")
    _, count = _LIST.unpack_from(payload)
    end = _LIST.size + count * REVOCATION_LENGTH
    if not 0 < count <= MOST_LISTED or len(payload) < end:
        raise Malformed("revocation list")
    starts = range(_LIST.size, end, REVOCATION_LENGTH)
    return RevocationList(
        tuple(parse_revocation(payload[start : start + REVOCATION_LENGTH]) for start in starts)
    )
