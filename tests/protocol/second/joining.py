"""docs/protocol/membership.md, "Joining": the joiner's side."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import NamedTuple

from tests.protocol.second.membership import Certificate, verify_certificate
from tests.protocol.second.primitives import (
    Refused,
    derive_key,
    exchange,
    open_blob,
    public_of,
    seal_blob,
)


class JoinString(NamedTuple):
    inviter: bytes
    token: bytes
    server_key: bytes
    access_token: bytes
    port: int
    host: str
    options: str


class Admission(NamedTuple):
    network_key: bytes
    network_secret: bytes
    inviter: Certificate
    own: Certificate
    revoked: list[bytes]
    """How their keys begin."""


def parse_join_string(text: str) -> JoinString:
    scheme, _, encoded = "".join(text.split()).partition(":")
    data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    if scheme != "punchtun-join" or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
        raise Refused("mistyped")
    if data[0] not in (1, 2):
        raise Refused("newer")
    inviter, token, key, access, port = struct.unpack_from(">32s16s32s16sH", data, 1)
    host, _, options = data[99:-4].decode("ascii").partition("?")
    return JoinString(inviter, token, key, access, port, host, options)


def make_request(join: JoinString, private: bytes, nonce: bytes) -> bytes:
    shared = exchange(private, join.inviter)
    key = derive_key("join request", shared, join.token)
    return b"\1" + derive_key("invitation id", join.token)[:8] + seal_blob(key, nonce, b"")


def open_answer(
    join: JoinString, private: bytes, answer: bytes, unix_seconds: float
) -> Admission | int:
    """The admission, or the status of a refusal."""
    shared = exchange(private, join.inviter)
    if answer[0] != 1 or answer[1] > 4:
        raise Refused("answer")
    if answer[1]:
        key = derive_key("join refusal", shared, b"")
        if open_blob(key, answer[2:]) != answer[1:2]:
            raise Refused("status")
        return answer[1]
    data = open_blob(derive_key("join answer", shared, join.token), answer[2:])
    network_key, secret = data[:32], data[32:64]
    at, certificates = 64, []
    for _ in range(2):
        (length,) = struct.unpack_from("<H", data, at)
        packed = data[at + 2 : at + 2 + length]
        certificates.append(verify_certificate(packed, network_key, unix_seconds))
        at += 2 + length
    inviter, own = certificates
    beginnings = data[at + 1 :]
    if len(beginnings) != 8 * data[at]:
        raise Refused("revoked keys")
    if own.key != public_of(private):
        raise Refused("another's certificate")
    revoked = [beginnings[i : i + 8] for i in range(0, len(beginnings), 8)]
    return Admission(network_key, secret, inviter, own, revoked)
