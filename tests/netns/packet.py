"""IPv4 packets as a router handles them: endpoints replaced, errors answered, fragments joined.

Only what a NAT of the lab needs: UDP, and the ICMP errors about it (RFC 791, 768, 792).
"""

from __future__ import annotations

import struct

from tunnel.wire.endpoint import Endpoint

ICMP, UDP = 1, 17
DESTINATION_UNREACHABLE, TIME_EXCEEDED = 3, 11
FRAGMENTATION_NEEDED = 4
"""The code of `DESTINATION_UNREACHABLE` that carries an MTU (RFC 1191)."""
_QUOTED = 548
"""Of the packet an error is about: as much as fits into 576 bytes (RFC 1812 section 4.3.2.3)."""
_MAX_PENDING = 64
"""Packets that may be joined at the same time."""
_hosts: dict[bytes, str] = {}
_packed: dict[str, bytes] = {}


def host(address: bytes) -> str:
    """Four bytes as text."""
    known = _hosts.get(address)
    if known is None:
        known = _hosts[bytes(address)] = ".".join(map(str, address))
    return known


def pack_host(text: str) -> bytes:
    known = _packed.get(text)
    if known is None:
        known = _packed[text] = bytes(map(int, text.split(".")))
    return known


def checksum(data: bytes | bytearray | memoryview) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) & 1:
        data = bytes(data) + b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Packet:
    """An IPv4 packet that is going to be changed, in its own buffer."""

    __slots__ = ("data", "header")

    def __init__(self, data: bytearray) -> None:
        """ValueError if it is no whole IPv4 packet."""
        if len(data) < 20 or data[0] >> 4 != 4:
            raise ValueError("no IPv4 packet")
        self.data = data
        self.header = (data[0] & 15) * 4
        """Its length; what follows is the payload."""
        if self.header < 20 or len(data) < self.header + (0 if self.is_later_fragment else 8):
            raise ValueError("cut short")

    @property
    def protocol(self) -> int:
        return self.data[9]

    @property
    def ttl(self) -> int:
        return self.data[8]

    @ttl.setter
    def ttl(self, ttl: int) -> None:
        self.data[8] = ttl

    @property
    def may_be_fragmented(self) -> bool:
        return not self.data[6] & 0x40

    @property
    def is_fragment(self) -> bool:
        return bool(self.data[6] & 0x3F or self.data[7])

    @property
    def is_later_fragment(self) -> bool:
        """A fragment without the ports."""
        return bool(self.data[6] & 0x1F or self.data[7])

    @property
    def source(self) -> Endpoint:
        at = self.header
        return Endpoint(host(bytes(self.data[12:16])), self.data[at] << 8 | self.data[at + 1])

    @property
    def destination(self) -> Endpoint:
        at = self.header
        port = self.data[at + 2] << 8 | self.data[at + 3]
        return Endpoint(host(bytes(self.data[16:20])), port)

    def replace_source(self, endpoint: Endpoint) -> None:
        """Of a UDP packet, its checksum included. `finish` is still to be called."""
        self._replace(12, self.header, endpoint)

    def replace_destination(self, endpoint: Endpoint) -> None:
        self._replace(16, self.header + 2, endpoint)

    def finish(self) -> None:
        """Set the checksum of the header."""
        data, end = self.data, self.header
        data[10:12] = b"\0\0"
        data[10:12] = checksum(data[:end]).to_bytes(2, "big")

    def _replace(self, address_at: int, port_at: int, endpoint: Endpoint) -> None:
        data, at = self.data, self.header + 6
        old = data[address_at : address_at + 4] + data[port_at : port_at + 2]
        data[address_at : address_at + 4] = pack_host(endpoint.host)
        data[port_at : port_at + 2] = endpoint.port.to_bytes(2, "big")
        # An ICMP error may quote eight bytes of UDP, but no fewer: its checksum is there.
        former = data[at] << 8 | data[at + 1]
        if former:
            new = data[address_at : address_at + 4] + data[port_at : port_at + 2]
            total = (former ^ 0xFFFF) + sum(struct.unpack(">HHH", new))
            total += 3 * 0xFFFF - sum(struct.unpack(">HHH", old))  # RFC 1624, equation 3
            total = (total >> 16) + (total & 0xFFFF)
            changed = ~(total + (total >> 16)) & 0xFFFF
            data[at : at + 2] = (changed or 0xFFFF).to_bytes(2, "big")


def icmp_error(
    about: bytes | bytearray, source: str, kind: int, code: int, mtu: int = 0, ttl: int = 64
) -> bytes:
    """The packet with which a router, at `source`, tells the sender of `about` of its end."""
    quoted = bytes(about[:_QUOTED])
    body = struct.pack(">BBHHH", kind, code, 0, 0, mtu) + quoted
    body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
    length = 20 + len(body)
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0xC0, length, 0, 0, ttl, ICMP, 0, pack_host(source), about[12:16]
    )
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + body


def quoted_packet(packet: Packet) -> Packet | None:
    """A copy of the UDP packet that an ICMP error is about; None if it is about something else."""
    start = packet.header + 8
    if packet.data[packet.header] not in (DESTINATION_UNREACHABLE, TIME_EXCEEDED):
        return None
    try:
        quoted = Packet(packet.data[start:])
    except ValueError:
        return None
    return None if quoted.protocol != UDP or quoted.is_later_fragment else quoted


def replace_quoted(packet: Packet, quoted: Packet) -> None:
    """Put the quoted packet back, with the checksums of both. `packet.finish` is still to come."""
    quoted.finish()
    at = packet.header
    packet.data[at + 8 :] = quoted.data
    packet.data[at + 2 : at + 4] = b"\0\0"
    packet.data[at + 2 : at + 4] = checksum(packet.data[at:]).to_bytes(2, "big")


class Reassembly:
    """Joins the fragments of packets (RFC 791 section 3.2), a bounded number at a time."""

    def __init__(self) -> None:
        self._pending: dict[bytes, dict[int, bytes]] = {}
        self._totals: dict[bytes, int] = {}

    def add(self, packet: Packet) -> Packet | None:
        """The whole packet, when this was the last fragment missing."""
        data = packet.data
        key = bytes(data[4:6] + data[9:10] + data[12:20])
        offset = (data[6] & 0x1F) << 11 | data[7] << 3
        length = int.from_bytes(data[2:4], "big") - packet.header
        parts = self._pending.setdefault(key, {})
        # The first brings its header along.
        start = packet.header if offset else 0
        parts[offset] = bytes(data[start : packet.header + length])
        if not data[6] & 0x20:
            self._totals[key] = offset + length
        if len(self._pending) > _MAX_PENDING:
            self._forget(next(iter(self._pending)))
        first, total = parts.get(0), self._totals.get(key)
        if first is None or total is None:
            return None
        header = (first[0] & 15) * 4
        whole = bytearray(first)
        while len(whole) - header < total:
            part = parts.get(len(whole) - header)
            if not part:
                return None
            whole += part
        self._forget(key)
        whole[2:4] = len(whole).to_bytes(2, "big")
        whole[6:8] = b"\0\0"
        return Packet(whole)

    def _forget(self, key: bytes) -> None:
        self._pending.pop(key, None)
        self._totals.pop(key, None)
