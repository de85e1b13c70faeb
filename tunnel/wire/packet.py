"""IP packets, as far as a router needs to read them (RFC 791 §3.1, RFC 8200 §3).

::

    IPv4  | 4.ihl | tos | total length (2) | ...              | source (4) at 12 | destination (4) |
    IPv6  | 6.... | ... | payload length (2) at 4 | ...       | source (16) at 8 | destination (16)|
"""

from __future__ import annotations

from typing import NamedTuple

from tunnel.errors import Malformed


class IpHeader(NamedTuple):
    source: bytes
    """4 or 16 bytes, network order."""
    destination: bytes
    length: int
    """Of the whole packet in bytes; what follows is padding."""


def parse_ip_header(packet: bytes | bytearray | memoryview) -> IpHeader:
    if len(packet) < 20:
        raise Malformed("packet length")
    version = packet[0] >> 4
    if version == 4:
        length = int.from_bytes(packet[2:4], "big")
        if not 20 <= (packet[0] & 15) * 4 <= length <= len(packet):
            raise Malformed("IPv4 length")
        return IpHeader(bytes(packet[12:16]), bytes(packet[16:20]), length)
    if version == 6:
        length = 40 + int.from_bytes(packet[4:6], "big")
        if not 40 <= length <= len(packet):
            raise Malformed("IPv6 length")
        return IpHeader(bytes(packet[8:24]), bytes(packet[24:40]), length)
    raise Malformed("IP version")
