"""One segment of a train, and bundles: payloads of frames that hold IP packets.

::

    0      1      2          4            4 + h
    +------+------+----------+------------+-------------+
    | 0x30 | last | size (2) | headers    | segment     |      a segment of a train
    +------+------+----------+------------+-------------+

    +-------------+-------------+---
    | IP packet   | IP packet   | ... | 0 ...                  a bundle, of one or more
    +-------------+-------------+---        A zero byte where a packet would begin: padding.

A train is one superpacket (`wire.virtio`), cut every `size` bytes. `headers` are the IP and TCP or
UDP headers of the superpacket as it was, the same bytes in each frame; `segment` is `size` bytes
long, in the last frame maybe shorter. The place of the segment in the superpacket is in the frame's
header (`wire.transport`); `last` is the greatest. So each frame stands for a packet by itself,
whatever becomes of the others, and `wire.segment` says for which.

In both the top bit of a packet's first byte (0xC5 for 0x45, 0xE0 for 0x60) says that its checksum
is left to whoever takes it out of the tunnel; in a train it always is. In a bundle only that of TCP
or UDP right behind the IP header can be left. The tag of the frame protects the content meanwhile.
`last` and `size` are big-endian, as what follows them.
"""

from __future__ import annotations

from tunnel.errors import Malformed
from tunnel.wire.checksum import Buffer, complete_checksum
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.segment import (
    CHECKSUM_FIELDS,
    HEADER_LENGTHS,
    TCP,
    cut_headers,
    declared_length,
    transport_of,
)

TRAIN = 0x30
TRAIN_OVERHEAD = 4
"""Bytes by which a segment's payload is longer than the packet it stands for. A path's MTU is
probed with as many more (`core.mtu_discovery`)."""
MAX_SEGMENTS = 256
LEFT = 0x80
"""In a packet's first byte: its checksum is left."""


def pack_train(last: int, size: int, headers: bytes) -> bytes:
    """What each frame of the train begins with. `headers`: of the superpacket, checksum left."""
    return (
        bytes((TRAIN, last)) + size.to_bytes(2, "big") + bytes((headers[0] | LEFT,)) + headers[1:]
    )


def parse_train(payload: Buffer) -> tuple[int, int, bytes]:
    """The place of the train's last segment, the segments' size, and the superpacket's headers, the
    first byte as IP has it. They say of as many segments. Raises Malformed."""
    if len(payload) <= TRAIN_OVERHEAD or payload[0] != TRAIN or not payload[4] & LEFT:
        raise Malformed("train header")
    size = int.from_bytes(payload[2:4], "big")
    packet = bytearray(payload[TRAIN_OVERHEAD:])
    packet[0] &= ~LEFT
    protocol, start, end = transport_of(packet)
    if not 0 < len(packet) - end <= size:
        raise Malformed("segment length")
    last = payload[1]
    if not last * size < declared_length(packet, protocol, start) - end <= (last + 1) * size:
        raise Malformed("superpacket length")
    return last, size, bytes(packet[:end])


def packet_of(payload: Buffer, place: int) -> bytes:
    """The IP packet, complete, that the frame at `place` stands for. Raises Malformed."""
    last, size, headers = parse_train(payload)
    protocol, start, end = transport_of(headers)
    segment = payload[TRAIN_OVERHEAD + end :]
    is_last = place == last
    rest = declared_length(headers, protocol, start) - end - last * size
    if place > last or len(segment) != (rest if is_last else size):
        raise Malformed("place in the train")
    packet = cut_headers(headers, place, is_last=is_last, size=size, payload_length=len(segment))
    packet += segment
    field = start + CHECKSUM_FIELDS[protocol]
    complete_checksum(packet, start, field, may_be_zero=last > 0 and protocol == TCP)
    return bytes(packet)


def split_bundle(payload: Buffer) -> list[bytes]:
    """The IP packets, complete, of a bundle. Raises Malformed, also if only the last is bad."""
    packets = []
    rest = memoryview(payload)
    while rest and rest[0]:
        packet = bytearray(rest)
        is_left = packet[0] & LEFT
        packet[0] &= ~LEFT
        length = parse_ip_header(packet).length
        del packet[length:]
        if is_left:
            start, field = find_left(packet)
            complete_checksum(packet, start, field)
        packets.append(bytes(packet))
        rest = rest[length:]
    return packets


def find_left(packet: Buffer) -> tuple[int, int]:
    """Where in a bundle's packet, first byte as IP has it, the header begins whose checksum is
    left, and where in the packet the checksum belongs. Raises Malformed."""
    if packet[0] >> 4 == 4:
        start, protocol = (packet[0] & 15) * 4, packet[9]
    else:
        start, protocol = 40, packet[6]
    if protocol not in HEADER_LENGTHS or start + HEADER_LENGTHS[protocol] > len(packet):
        raise Malformed("segment of neither TCP nor UDP")
    return start, start + CHECKSUM_FIELDS[protocol]
