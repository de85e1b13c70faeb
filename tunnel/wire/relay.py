"""Relay envelope: a datagram for the other node of a channel, as TURN's ChannelData (RFC 8656 §12).

::

    0      1          4            8
    +------+----------+------------+------------------------------+
    | 5    | 0 0 0    | channel(4) | handshake message or frame   |
    +------+----------+------------+------------------------------+

The server knows the channel, checks that the datagram came from the endpoint its owner registered
from, writes the other side's channel number over it and passes it on. It never looks further.
"""

from __future__ import annotations

import struct

from tunnel.errors import Malformed

RELAY = 5
RELAY_HEADER = struct.Struct("<II")
RELAY_HEADER_LENGTH = RELAY_HEADER.size
"""Bytes by which a datagram is longer when it is relayed."""


def pack_relay(channel: int, datagram: bytes) -> bytes:
    return RELAY_HEADER.pack(RELAY, channel) + datagram


def parse_relay(datagram: bytes) -> tuple[int, bytes]:
    """The channel and what it carries (never empty)."""
    if len(datagram) <= RELAY_HEADER_LENGTH:
        raise Malformed("relay length")
    kind, channel = RELAY_HEADER.unpack_from(datagram)
    if kind != RELAY:
        raise Malformed("relay type")
    return channel, bytes(datagram[RELAY_HEADER_LENGTH:])
