"""The answer to a packet too big for the way ahead (RFC 792, RFC 1191 §4, RFC 4443 §3.2).

::

    IPv4  | IP header (20), protocol 1  | 3 | 4 | checksum (2) | 0 0 | MTU (2) | the packet ... |
    IPv6  | IP header (40), next is 58  | 2 | 0 | checksum (2) | MTU (4)       | the packet ... |

The packet is quoted up to 576 and 1280 bytes in all.
"""

from __future__ import annotations

import ipaddress
import struct

from tunnel.wire.checksum import checksum

IPV6_MINIMUM_MTU = 1280
"""RFC 8200 §5: what every link must carry. Nobody may be told less."""

_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_ERRORS4 = frozenset(bytes([kind]) for kind in (3, 4, 5, 11, 12))
_QUOTED4, _QUOTED6 = 576 - 28, 1280 - 48


def answer_too_big(packet: bytes, mtu: int) -> bytes | None:
    """An ICMP error from the packet's destination to its source, saying `mtu` bytes.

    None where none may be sent (RFC 1122 §3.2.2, RFC 4443 §2.4e): to what is an error itself, a
    later fragment, sent to or from a group or nobody, or fit to be fragmented or carried anyway.
    """
    if packet[0] >> 4 == 4:
        return _answer4(packet, mtu)
    return _answer6(packet, max(mtu, IPV6_MINIMUM_MTU))


def _answer4(packet: bytes, mtu: int) -> bytes | None:
    header_length = (packet[0] & 15) * 4
    flags = int.from_bytes(packet[6:8], "big")
    source, destination = packet[12:16], packet[16:20]
    is_error = packet[9] == 1 and packet[header_length : header_length + 1] in _ERRORS4
    if not flags & 0x4000 or flags & 0x1FFF or is_error or len(packet) <= mtu:
        return None
    if not all(_is_single(ipaddress.IPv4Address(a)) for a in (source, destination)):
        return None
    quoted = packet[:_QUOTED4]
    icmp = struct.pack(">BBHHH", 3, 4, 0, 0, mtu) + quoted
    icmp = icmp[:2] + checksum(icmp).to_bytes(2, "big") + icmp[4:]
    # Type of service 0xc0, "internetwork control": RFC 1812 §4.3.2.5.
    head = _IPV4.pack(0x45, 0xC0, 20 + len(icmp), 0, 0, 64, 1, 0, destination, source)
    return bytes(head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + icmp)


def _answer6(packet: bytes, mtu: int) -> bytes | None:
    source, destination = packet[8:24], packet[24:40]
    is_error = packet[6] == 58 and len(packet) > 40 and packet[40] < 128
    if is_error or len(packet) <= mtu:
        return None
    if not all(_is_single(ipaddress.IPv6Address(a)) for a in (source, destination)):
        return None
    icmp = struct.pack(">BBHI", 2, 0, 0, mtu) + packet[:_QUOTED6]
    pseudo = destination + source + struct.pack(">II", len(icmp), 58)
    icmp = icmp[:2] + checksum(pseudo + icmp).to_bytes(2, "big") + icmp[4:]
    head = _IPV6.pack(6 << 28, len(icmp), 58, 64, destination, source)
    return bytes(head + icmp)


def _is_single(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not (address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255")
