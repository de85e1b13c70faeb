"""Handshake messages: those of the WireGuard white paper §5.4.2–5.4.7, and in each of the first two
one byte of ours, which is 0 there.

::

    initiation, 148 bytes
    +---+-------+-----+-----------+----------------+----------------+----------------+------+------+
    | 1 | offer | 0 0 | sender(4) | ephemeral (32) | static (32+16) | timestamp      | mac1 | mac2 |
    |   |       |     |           |                | sealed         | (12+16) sealed | (16) | (16) |
    +---+-------+-----+-----------+----------------+----------------+----------------+------+------+

    response, 92 bytes
    +---+--------+-----+-----------+-------------+----------------+------------+------+------+
    | 2 | choice | 0 0 | sender(4) | receiver(4) | ephemeral (32) | empty (16) | mac1 | mac2 |
    +---+--------+-----+-----------+-------------+----------------+------------+------+------+

    cookie reply, 64 bytes
    +------+----------+-------------+------------+------------------------+
    | 3    | 0 0 0    | receiver(4) | nonce (24) | cookie (16+16) sealed  |
    +------+----------+-------------+------------+------------------------+

The offer is a set of bits, the ciphers that the initiator can use for frames beside
ChaCha20-Poly1305; the choice is the number of the one that the responder takes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tunnel.errors import Malformed

INITIATION = 1
RESPONSE = 2
COOKIE_REPLY = 3

INITIATION_LENGTH = 148
RESPONSE_LENGTH = 92
COOKIE_REPLY_LENGTH = 64
MAC_LENGTH = 16

OFFER_AEGIS = 0x01
"""Bit of the offer: AEGIS-128L."""
CHOICE_CHACHA = 0
CHOICE_AEGIS = 1

_INITIATION = struct.Struct("<BBHI32s48s28s16s16s")
_RESPONSE = struct.Struct("<BBHII32s16s16s16s")
_COOKIE_REPLY = struct.Struct("<II24s32s")

NO_MAC = bytes(MAC_LENGTH)


class Initiation(NamedTuple):
    """First message, from the initiator."""

    sender: int
    ephemeral: bytes
    static: bytes
    timestamp: bytes
    mac1: bytes = NO_MAC
    mac2: bytes = NO_MAC
    offer: int = 0

    def pack(self) -> bytes:
        return _INITIATION.pack(INITIATION, self.offer, 0, *self[:-1])


class Response(NamedTuple):
    """Second message, from the responder."""

    sender: int
    receiver: int
    ephemeral: bytes
    empty: bytes
    mac1: bytes = NO_MAC
    mac2: bytes = NO_MAC
    choice: int = CHOICE_CHACHA

    def pack(self) -> bytes:
        return _RESPONSE.pack(RESPONSE, self.choice, 0, *self[:-1])


class CookieReply(NamedTuple):
    """What a loaded responder answers instead: come again with this cookie in mac2."""

    receiver: int
    nonce: bytes
    cookie: bytes

    def pack(self) -> bytes:
        return _COOKIE_REPLY.pack(COOKIE_REPLY, *self)


def parse_initiation(datagram: bytes) -> Initiation:
    if len(datagram) != INITIATION_LENGTH:
        raise Malformed("initiation length")
    kind, offer, reserved, *fields = _INITIATION.unpack(datagram)
    if kind != INITIATION or reserved:
        raise Malformed("initiation type")
    return Initiation._make((*fields, offer))


def parse_response(datagram: bytes) -> Response:
    if len(datagram) != RESPONSE_LENGTH:
        raise Malformed("response length")
    kind, choice, reserved, *fields = _RESPONSE.unpack(datagram)
    if kind != RESPONSE or reserved:
        raise Malformed("response type")
    return Response._make((*fields, choice))


def parse_cookie_reply(datagram: bytes) -> CookieReply:
    if len(datagram) != COOKIE_REPLY_LENGTH:
        raise Malformed("cookie reply length")
    kind, *fields = _COOKIE_REPLY.unpack(datagram)
    if kind != COOKIE_REPLY:
        raise Malformed("cookie reply type")
    return CookieReply(*fields)
