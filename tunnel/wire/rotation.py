"""Rotation: a member asks one that may invite for a certificate of a new key, inside their session.

::

    request  | 13 | 0 0 0  | new key (32) | proof (32) |
    answer   | 14 | status | length (2) | certificate (length) | revocation (140) |

The session says which key is to be replaced. The proof, which only the two can derive, shows that
the new key's private half is there. Status 0 is granted: the certificate is of the new key, and the
revocation of the old one, with the new one as its successor. With any other status nothing follows
the length, which is 0.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from tunnel.errors import Malformed
from tunnel.wire.revocation import REVOCATION_LENGTH, Revocation, parse_revocation

ROTATION_REQUEST = 13
ROTATION_ANSWER = 14

_REQUEST = struct.Struct("<B3x32s32s")
_ANSWER = struct.Struct("<BBH")


class RotationStatus(enum.IntEnum):
    GRANTED = 0
    NO_INVITER = 1
    """Whoever was asked holds no signing key."""
    TAKEN = 2
    """Another key has taken the place of the old one already."""


class RotationRequest(NamedTuple):
    key: bytes
    proof: bytes

    def pack(self) -> bytes:
        return _REQUEST.pack(ROTATION_REQUEST, self.key, self.proof)


class RotationAnswer(NamedTuple):
    status: RotationStatus
    certificate: bytes = b""
    revocation: Revocation | None = None

    def pack(self) -> bytes:
        head = _ANSWER.pack(ROTATION_ANSWER, self.status, len(self.certificate))
        end = b"" if self.revocation is None else self.revocation.pack()
        return head + self.certificate + end


def parse_rotation_request(payload: bytes) -> RotationRequest:
    """Longer than known is accepted. Raises Malformed."""
    if len(payload) < _REQUEST.size or payload[0] != ROTATION_REQUEST:
        raise Malformed("rotation request")
    return RotationRequest(*_REQUEST.unpack_from(payload)[1:])


def parse_rotation_answer(payload: bytes) -> RotationAnswer:
    """Longer than known is accepted. Raises Malformed."""
    if len(payload) < _ANSWER.size or payload[0] != ROTATION_ANSWER:
        raise Malformed("rotation answer")
    _, status, length = _ANSWER.unpack_from(payload)
    if status not in RotationStatus._value2member_map_:
        raise Malformed("rotation answer")
    if status != RotationStatus.GRANTED:
        return RotationAnswer(RotationStatus(status))
    at = _ANSWER.size + length
    if len(payload) < at + REVOCATION_LENGTH or length == 0:
        raise Malformed("rotation answer")
    revocation = parse_revocation(payload[at : at + REVOCATION_LENGTH])
    return RotationAnswer(RotationStatus.GRANTED, payload[_ANSWER.size : at], revocation)
