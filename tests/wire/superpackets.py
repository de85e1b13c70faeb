"""Superpackets of every shape, and checksums by another way than the code's."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from random import Random

from hypothesis import strategies as st

from tests.wire.messages import octets, words
from tunnel.wire.train import LEFT, pack_train
from tunnel.wire.virtio import Virtio

TCP, UDP = 6, 17
FIN, SYN, PSH, ACK, URG, ECE, CWR = 0x01, 0x02, 0x08, 0x10, 0x20, 0x40, 0x80
SOURCE4, DESTINATION4 = bytes([10, 8, 0, 2]), bytes([10, 9, 0, 2])
SOURCE6, DESTINATION6 = b"\xfd\x08" + bytes(13) + b"\x02", b"\xfd\x09" + bytes(13) + b"\x02"
LARGEST = 65_535


def add_words(data: bytes | bytearray | memoryview) -> int:
    """The sum of RFC 1071, word by word."""
    padded = bytes(data) + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def is_complete(packet: bytes) -> bool:
    """Whether all lengths of an IP packet with TCP or UDP are its own, and all checksums right."""
    if packet[0] >> 4 == 4:
        start, protocol, addresses = (packet[0] & 15) * 4, packet[9], packet[12:20]
        fits = int.from_bytes(packet[2:4], "big") == len(packet)
        fits = fits and add_words(packet[:start]) == 0xFFFF
    else:
        start, protocol, addresses = 40, packet[6], packet[8:40]
        while protocol not in (TCP, UDP):
            protocol, start = packet[start], start + 8 + 8 * packet[start + 1]
        fits = int.from_bytes(packet[4:6], "big") == len(packet) - 40
    if protocol == UDP:
        field = packet[start + 6 : start + 8]
        fits = fits and int.from_bytes(packet[start + 4 : start + 6], "big") == len(packet) - start
        fits = fits and field != b"\0\0"
    pseudo = addresses + struct.pack(">II", len(packet) - start, protocol)
    return fits and add_words(pseudo + bytes(start % 2) + packet[start:]) == 0xFFFF


@dataclass(frozen=True)
class Superpacket:
    version: int = 4
    protocol: int = TCP
    size: int = 1000
    payload: bytes = b""
    options: bytes = b""
    """Of IPv4, or extension headers of IPv6, each with the kind of the next; multiples of 4 or 8
    bytes."""
    tcp_options: bytes = b""
    flags: int = ACK
    identification: int = 0
    sequence: int = 0
    urgent: int = 0
    ecn: int = 0
    extension: int = 60
    """What the IPv6 header says of the first of `options`."""

    @property
    def start(self) -> int:
        """Where its TCP or UDP header begins."""
        return (20 if self.version == 4 else 40) + len(self.options)

    @property
    def field(self) -> int:
        """Where its checksum is."""
        return self.start + (16 if self.protocol == TCP else 6)

    @property
    def header_length(self) -> int:
        return self.start + (20 + len(self.tcp_options) if self.protocol == TCP else 8)

    @property
    def headers(self) -> bytes:
        """IP and TCP or UDP headers; the checksum is left."""
        length = self.header_length - self.start + len(self.payload)
        if self.protocol == TCP:
            offset = (20 + len(self.tcp_options)) // 4 << 4
            transport = struct.pack(">HHII", 1000, 2000, self.sequence, 77)
            transport += struct.pack(">BBHHH", offset, self.flags, 500, 0, self.urgent)
            transport += self.tcp_options
        else:
            transport = struct.pack(">HHHH", 1000, 2000, length, 0)
        if self.version == 4:
            addresses = SOURCE4 + DESTINATION4
            ip = bytearray([0x40 + self.start // 4, self.ecn])
            ip += struct.pack(">HHH", self.start + length, self.identification, 0x4000)
            ip += bytes([64, self.protocol, 0, 0]) + addresses + self.options
            ip[10:12] = (~add_words(ip) & 0xFFFF).to_bytes(2, "big")
        else:
            addresses = SOURCE6 + DESTINATION6
            following = self.extension if self.options else self.protocol
            ip = bytearray(struct.pack(">I", 6 << 28 | self.ecn << 20 | 0x12345))
            ip += struct.pack(">HBB", self.start - 40 + length, following, 64)
            ip += addresses + self.options
        left = add_words(addresses + struct.pack(">II", length, self.protocol))
        headers = bytearray(ip + transport)
        headers[self.field : self.field + 2] = left.to_bytes(2, "big")
        return bytes(headers)

    @property
    def packet(self) -> bytes:
        return self.headers + self.payload

    @property
    def last(self) -> int:
        """The place of its last segment."""
        return max(0, len(self.payload) - 1) // self.size

    @property
    def gso_type(self) -> int:
        if self.protocol == UDP:
            return 5
        return (1 if self.version == 4 else 4) | (0x80 if self.flags & CWR else 0)

    @property
    def virtio(self) -> bytes:
        end, field = self.header_length, self.field - self.start
        return Virtio(1, self.gso_type, end, self.size, self.start, field).pack()

    @property
    def left(self) -> bytes:
        """The packet as it is in a bundle."""
        return bytes([self.packet[0] | LEFT]) + self.packet[1:]

    @property
    def block(self) -> bytes:
        """What each frame of its train begins with."""
        return pack_train(self.last, self.size, self.headers)

    @property
    def frames(self) -> list[bytes]:
        """The payloads of the frames of its train."""
        return [self.block + self.segment(place) for place in range(self.last + 1)]

    def segment(self, place: int) -> bytes:
        return self.payload[place * self.size : (place + 1) * self.size]


SEEDS = [
    Superpacket(4, TCP, 4, b"ten bytes!", tcp_options=b"\1\1\x08\x0a12345678", flags=0xFF),
    Superpacket(6, TCP, 5, b"ten bytes!"),
    Superpacket(4, UDP, 7, b"ten bytes!", options=b"\1\1\1\0"),
    Superpacket(6, UDP, 9, b"ten bytes!", options=bytes([UDP, 0, 1, 4, 0, 0, 0, 0])),
]
"""One of each kind."""


def extensions(draw: st.DrawFn, protocol: int) -> tuple[int, bytes]:
    """Extension headers of IPv6 and the kind of the first: padding options only."""
    kinds = draw(st.lists(st.sampled_from([0, 43, 60]), max_size=3))
    chain = b""
    for following in [*kinds[1:], protocol][: len(kinds)]:
        units = draw(st.integers(0, 2))
        # PadN over the rest; to a routing header it is type 1, of which no segment is left.
        body = bytes([1, 4 + 8 * units]) + bytes(4 + 8 * units)
        chain += bytes([following, units]) + body
    return (kinds[0] if kinds else protocol), chain


SIZES = st.one_of(st.integers(1, 1500), st.sampled_from([1, 2, 1000, 8900, 30000]))


@st.composite
def superpackets(
    draw: st.DrawFn, *, most: int = 40, sizes: st.SearchStrategy[int] = SIZES
) -> Superpacket:
    """At least two segments and at most `most`, unless they do not fit into 64 KiB."""
    version, protocol = draw(st.sampled_from([4, 6])), draw(st.sampled_from([TCP, UDP]))
    shape = Superpacket(version, protocol)
    if version == 4:
        shape = replace(shape, options=b"\1" * (4 * draw(st.integers(0, 10))))
    else:
        kind, chain = extensions(draw, protocol)
        shape = replace(shape, options=chain, extension=kind)
    if protocol == TCP:
        option = draw(st.one_of(st.just(b""), octets(12), octets(4), octets(40)))
        shape = replace(shape, tcp_options=option)
    size = draw(sizes)
    last = draw(st.integers(1, most - 1))
    length = last * size + draw(st.one_of(st.integers(1, size), st.just(size)))
    length = min(length, LARGEST - shape.header_length)
    return replace(
        shape,
        size=min(size, length),
        payload=Random(draw(words(16))).randbytes(length),
        flags=draw(words(8)),
        identification=draw(st.one_of(words(16), st.just(0xFFFF))),
        sequence=draw(st.one_of(words(32), st.just(0xFFFFFFF0))),
        urgent=draw(st.sampled_from([0, 1, 0xFFFF])),
        ecn=draw(words(2)),
    )
