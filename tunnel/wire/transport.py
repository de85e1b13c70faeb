"""Transport data: one sealed frame (WireGuard white paper §5.4.6).

::

    0      1          4             8                16
    +------+----------+-------------+----------------+------------------------+
    | 4    | 0 0 0    | receiver(4) | counter (8)    | sealed payload, tag 16 |
    +------+----------+-------------+----------------+------------------------+

The nonce of the AEAD is 4 zero bytes and the counter. An empty payload is a keep-alive.
"""

from __future__ import annotations

import struct

from tunnel.errors import Malformed

TRANSPORT = 4
HEADER = struct.Struct("<IIQ")
HEADER_LENGTH = HEADER.size
TAG_LENGTH = 16
TRANSPORT_MINIMUM = HEADER_LENGTH + TAG_LENGTH
"""Bytes by which a frame is longer than its payload."""


def pack_header(receiver: int, counter: int) -> bytes:
    return HEADER.pack(TRANSPORT, receiver, counter)


def parse_header(datagram: bytes) -> tuple[int, int]:
    """The receiver index and the counter. Raises Malformed if no frame can follow."""
    if len(datagram) < TRANSPORT_MINIMUM:
        raise Malformed("transport length")
    kind, receiver, counter = HEADER.unpack_from(datagram)
    if kind != TRANSPORT:
        raise Malformed("transport type")
    return receiver, counter
