"""Candidates and the announcement that carries them.

::

    candidate, 19 bytes
    +----------+---------------+
    | kind (1) | endpoint (18) |
    +----------+---------------+

    announcement (sealed for the network; the server stores it unread)
    +-----+--------------+------------+-------------+-------------+-----------+----------------+
    | 1   | instance (4) | issued (8) | length (2)  | certificate | count (1) | candidates ... |
    +-----+--------------+------------+-------------+-------------+-----------+----------------+

`instance` is drawn anew at each start of the node, so that peers notice a restart; `issued` is in
microseconds of the announcer's wall clock, so that an older announcement never replaces a newer one
of the same instance.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import NamedTuple

from tunnel.errors import Malformed
from tunnel.wire.endpoint import ENDPOINT_LENGTH, Endpoint, pack_endpoint, unpack_endpoint

CANDIDATE_LENGTH = 1 + ENDPOINT_LENGTH
MAX_CANDIDATES = 32
"""More than this in one message is refused: a peer must not make us spray."""

_HEAD = struct.Struct("<BIQH")
_VERSION = 1


class CandidateKind(enum.IntEnum):
    """RFC 8445 §4, and kinds it has no name for."""

    HOST = 1
    SERVER_REFLEXIVE = 2
    PEER_REFLEXIVE = 3
    PORT_MAPPED = 4
    PREDICTED = 5
    RELAYED = 6
    ALTERNATE_REFLEXIVE = 7
    """Where the server's other port sees the announcer, if elsewhere than the first does: the
    mapping varies, and the first one may be the exception."""

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", "-")


class Candidate(NamedTuple):
    kind: CandidateKind
    endpoint: Endpoint


class Announcement(NamedTuple):
    instance: int
    issued: int
    certificate: bytes
    candidates: tuple[Candidate, ...]

    def pack(self) -> bytes:
        head = _HEAD.pack(_VERSION, self.instance, self.issued, len(self.certificate))
        return head + self.certificate + pack_candidates(self.candidates)


def pack_candidates(candidates: Sequence[Candidate]) -> bytes:
    """Count and candidates. ValueError when there are more than MAX_CANDIDATES."""
    if len(candidates) > MAX_CANDIDATES:
        raise ValueError(f"{len(candidates)} candidates, at most {MAX_CANDIDATES}")
    packed = [bytes([kind]) + pack_endpoint(endpoint) for kind, endpoint in candidates]
    return bytes([len(candidates)]) + b"".join(packed)


def parse_candidates(data: bytes) -> tuple[Candidate, ...]:
    """Candidates from count to end; unknown kinds are skipped (a newer peer may know more)."""
    if not data or data[0] > MAX_CANDIDATES or len(data) != 1 + data[0] * CANDIDATE_LENGTH:
        raise Malformed("candidates length")
    candidates = []
    for at in range(1, len(data), CANDIDATE_LENGTH):
        endpoint = unpack_endpoint(data[at + 1 : at + CANDIDATE_LENGTH])
        if endpoint.port == 0:
            raise Malformed("candidate port")
        if data[at] in CandidateKind._value2member_map_:
            candidates.append(Candidate(CandidateKind(data[at]), endpoint))
    return tuple(candidates)


def parse_announcement(data: bytes) -> Announcement:
    if len(data) < _HEAD.size:
        raise Malformed("announcement length")
    version, instance, issued, length = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise Malformed("announcement version")
    rest = data[_HEAD.size :]
    if len(rest) < length:
        raise Malformed("announcement length")
    return Announcement(instance, issued, rest[:length], parse_candidates(rest[length:]))
