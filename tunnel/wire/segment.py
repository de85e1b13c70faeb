"""Segments: what becomes of a superpacket's headers when its payload is cut.

Linux does it in tcp_gso_segment, __udp_gso_segment and inet_gso_segment.

::

    IPv4   total length (2) at 2 | identification (2) at 4 | checksum (2) at 10    + place of it
    IPv6   payload length (2) at 4
    TCP    sequence number (4) at 4     + place × size
           flags at 13                  FIN and PSH only in the last, CWR only in the first
           checksum (2) at 16
    UDP    length (2) at 4 | checksum (2) at 6

All else is the same in every segment. This is the plain version, the specification of the one that
``dataplane`` has for whole trains.
"""

from __future__ import annotations

from tunnel.errors import Malformed
from tunnel.wire.checksum import Buffer, checksum, complete_checksum, sum_words
from tunnel.wire.virtio import (
    CHECKSUM_LEFT,
    GSO_ECN,
    GSO_NONE,
    GSO_TCP4,
    GSO_TCP6,
    GSO_UDP,
    Virtio,
    parse_virtio,
)

TCP, UDP = 6, 17
CHECKSUM_FIELDS = {TCP: 16, UDP: 6}
"""Where in its header each has its checksum."""
HEADER_LENGTHS = {TCP: 20, UDP: 8}
"""Bytes, without options."""
_LARGEST = 65_535
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_FRAGMENT = 0x3F
"""IPv4, byte 6: more fragments, or an offset; its lower half is the next byte."""
_EXTENSIONS = (0, 43, 60)
"""IPv6: hop-by-hop options, routing, destination options (RFC 8200 §4)."""


def transport_of(packet: Buffer) -> tuple[int, int, int]:
    """The transport protocol of an IP packet that is TCP or UDP, where its header begins, and where
    its payload does. Raises Malformed: something else, or a fragment."""
    if len(packet) < 28:
        raise Malformed("segment headers")
    version = packet[0] >> 4
    if version == 4:
        start, protocol = (packet[0] & 15) * 4, packet[9]
        if start < 20 or packet[6] & _FRAGMENT or packet[7]:
            raise Malformed("segment of a fragment")
    elif version == 6:
        start, protocol = 40, packet[6]
        while protocol in _EXTENSIONS and start + 8 <= len(packet):
            start, protocol = start + 8 + 8 * packet[start + 1], packet[start]
    else:
        raise Malformed("IP version")
    if protocol == UDP:
        payload = start + 8
    elif protocol == TCP and len(packet) > start + 12:
        payload = start + (packet[start + 12] >> 4) * 4
        if payload < start + 20:
            raise Malformed("TCP header length")
    else:
        raise Malformed("segment of neither TCP nor UDP")
    if payload > len(packet):
        raise Malformed("segment headers")
    return protocol, start, payload


def declared_length(headers: Buffer, protocol: int, start: int) -> int:
    """The whole length of the superpacket, as its headers have it; `protocol` and `start` as
    `transport_of` gives them. Raises Malformed if IP and UDP do not agree on it."""
    if headers[0] >> 4 == 4:
        length = headers[2] << 8 | headers[3]
    else:
        length = 40 + (headers[4] << 8 | headers[5])
    if protocol == UDP and start + (headers[start + 4] << 8 | headers[start + 5]) != length:
        raise Malformed("superpacket length")
    return length


def cut_headers(
    headers: Buffer, place: int, *, is_last: bool, size: int, payload_length: int
) -> bytearray:
    """The headers of a run of segments, `payload_length` bytes, that begins with the one at `place`
    in a superpacket that was cut every `size` bytes. `is_last`: the run ends where that ended.

    `headers` are those of the superpacket, which `transport_of` accepts, and nothing behind them.
    The checksum is left, in both. Raises Malformed if they are not so, or too long with the run.
    """
    cut = bytearray(headers)
    protocol, start, end = transport_of(headers)
    if end != len(headers):
        raise Malformed("segment headers")
    if end + payload_length > _LARGEST:
        raise Malformed("segment length")
    length = end - start + payload_length
    if cut[0] >> 4 == 4:
        before = int.from_bytes(cut[2:4], "big") - start
        number = int.from_bytes(cut[4:6], "big") + place
        cut[2:4] = (start + length).to_bytes(2, "big")
        cut[4:6] = (number & 0xFFFF).to_bytes(2, "big")
        cut[10:12] = b"\0\0"
        cut[10:12] = checksum(cut[:start]).to_bytes(2, "big")
    else:
        before = 40 + int.from_bytes(cut[4:6], "big") - start
        cut[4:6] = (start - 40 + length).to_bytes(2, "big")
    if protocol == TCP:
        sequence = int.from_bytes(cut[start + 4 : start + 8], "big") + place * size
        cut[start + 4 : start + 8] = (sequence & 0xFFFFFFFF).to_bytes(4, "big")
        if not is_last:
            cut[start + 13] &= ~(_FIN | _PSH)
        if place:
            cut[start + 13] &= ~_CWR
    else:
        cut[start + 4 : start + 6] = length.to_bytes(2, "big")
    field = start + CHECKSUM_FIELDS[protocol]
    # Of what is summed there only the length has changed.
    total = (int.from_bytes(cut[field : field + 2], "big") + length - before) % 0xFFFF or 0xFFFF
    cut[field : field + 2] = total.to_bytes(2, "big")
    return cut


def describe_run(
    headers: Buffer, size: int, payload_length: int, transport: tuple[int, int, int] | None = None
) -> Virtio:
    """What goes before a run of segments whose headers `cut_headers` made: a superpacket again, or
    if it is one segment, a plain packet whose checksum is left. `transport`: what `transport_of`
    says of them, to whom it is known."""
    protocol, start, end = transport or transport_of(headers)
    field = CHECKSUM_FIELDS[protocol]
    if payload_length <= size:
        return Virtio(CHECKSUM_LEFT, GSO_NONE, end, 0, start, field)
    if protocol == UDP:
        kind = GSO_UDP
    else:
        kind = GSO_TCP4 if headers[0] >> 4 == 4 else GSO_TCP6
        if headers[start + 13] & _CWR:
            kind |= GSO_ECN
    return Virtio(CHECKSUM_LEFT, kind, end, size, start, field)


def cut_superpacket(header: Buffer, packet: Buffer) -> list[bytes]:
    """The packets that `packet` stands for, complete, when `header` was before it: as they would
    have left the kernel for a card that can do nothing itself. Raises Malformed."""
    virtio = parse_virtio(header)
    if virtio.gso_type == GSO_NONE:
        return [_completed(packet, virtio)]
    protocol, start, end = transport_of(packet)
    if protocol == UDP:
        is_right = virtio.gso_type == GSO_UDP
    else:
        is_right = virtio.gso_type & ~GSO_ECN == (GSO_TCP4 if packet[0] >> 4 == 4 else GSO_TCP6)
    if not is_right:
        raise Malformed("gso type")
    size = virtio.segment
    if not size:
        raise Malformed("segment size")
    if declared_length(packet, protocol, start) != len(packet):
        raise Malformed("superpacket length")
    headers, payload = bytearray(packet[:end]), packet[end:]
    if len(payload) <= size:
        return [_completed(packet, virtio)]
    field = start + CHECKSUM_FIELDS[protocol]
    if not virtio.flags & CHECKSUM_LEFT:
        if protocol == UDP:
            raise Malformed("checksum of a UDP superpacket")
        headers[field : field + 2] = _sum_pseudo_header(packet, start).to_bytes(2, "big")
    last = (len(payload) - 1) // size
    packets = []
    for place in range(last + 1):
        part = payload[place * size : (place + 1) * size]
        cut = cut_headers(
            headers, place, is_last=place == last, size=size, payload_length=len(part)
        )
        whole = cut + part
        complete_checksum(whole, start, field, may_be_zero=protocol == TCP)
        packets.append(bytes(whole))
    return packets


def _sum_pseudo_header(packet: Buffer, start: int) -> int:
    """Of TCP. Linux does so when it cuts what nobody has begun to sum."""
    addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
    return sum_words(bytes(addresses) + (len(packet) - start).to_bytes(4, "big") + bytes((0, TCP)))


def _completed(packet: Buffer, virtio: Virtio) -> bytes:
    if not virtio.flags & CHECKSUM_LEFT:
        return bytes(packet)
    field = virtio.start + virtio.field
    if not virtio.start < field + 2 <= len(packet):
        raise Malformed("checksum field")
    whole = bytearray(packet)
    complete_checksum(whole, virtio.start, field)
    return bytes(whole)
