"""Transport data: one sealed frame (WireGuard white paper §5.4.6, with one byte of ours).

::

    0      1       2     4             8             16
    +------+-------+-----+-------------+-------------+---------------------------+
    | 4    | place | 0 0 | receiver(4) | counter (8) | sealed payload, tag       |
    +------+-------+-----+-------------+-------------+---------------------------+

The place is the frame's index in its train, 0 for all that is no train. The tag has 16 or 32 bytes
and covers the header as well: ``tunnel/noise/frame_cipher.py``. An empty payload is a keep-alive.
"""

from __future__ import annotations

import struct

from tunnel.errors import Malformed

TRANSPORT = 4
HEADER = struct.Struct("<BBHIQ")
HEADER_LENGTH = HEADER.size
TAG_LENGTH = 16
"""Bytes of the shortest tag."""
LONGEST_TAG = 32
TRANSPORT_MINIMUM = HEADER_LENGTH + TAG_LENGTH
"""Bytes by which a frame is longer than its payload, at least."""


_PLACE = 1


def pack_header(receiver: int, counter: int, place: int = 0) -> bytes:
    return HEADER.pack(TRANSPORT, place, 0, receiver, counter)


def parse_header(datagram: bytes) -> tuple[int, int]:
    """The receiver index and the counter. Raises Malformed if no frame can follow."""
    if len(datagram) < TRANSPORT_MINIMUM:
        raise Malformed("transport length")
    kind, _, reserved, receiver, counter = HEADER.unpack_from(datagram)
    if kind != TRANSPORT or reserved:
        raise Malformed("transport type")
    return receiver, counter


def parse_place(datagram: bytes) -> int:
    """The frame's index in its train, 0 to 255, of what :func:`parse_header` accepts."""
    return datagram[_PLACE]
