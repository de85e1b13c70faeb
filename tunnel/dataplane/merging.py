"""Equal datagrams of one UDP flow in a bundle become one superpacket, for the kernel to cut again.

::

    bundle        H0 S0 S0 | H1 S1 S1 | H2 S2 S2 | ...      H  IP and UDP headers
    merged     V  H0 S0 S0 S1 S1 S2 S2 ...                  V  virtio header

    bundles       H0 S0 S0 | H1 S1 S1   gap   H2 S2 S2 | H3 S3 S3   gap   ...

A write to the TUN interface costs 2 µs and the way up to the socket as much again. This costs 6 µs
for any number of datagrams, and at the socket the kernel cuts once. Merged are neighbours whose
headers differ in nothing but checksum and identification, and that may not be fragmented, so that
nobody needs the latter (RFC 6864 §4): what the kernel makes of them is what was sent.

Several bundles together save more writes: of 64 bytes each datagram takes 0.5 µs instead of 0.7, of
1300, of which one fills a bundle, 1.5 instead of 3.1, and 1/47 of a write.
"""

from __future__ import annotations

from struct import Struct

from tunnel.dataplane.aead import Area
from tunnel.dataplane.sealing import LARGEST_PACKET, keep
from tunnel.wire.segment import UDP
from tunnel.wire.train import LEFT
from tunnel.wire.virtio import CHECKSUM_LEFT, GSO_UDP, VIRTIO, VIRTIO_LENGTH

LEAST = 3
"""Datagrams. Two are written as fast as they are merged."""
MOST = 64
"""Linux: UDP_MAX_SEGMENTS, 128 since 6.9. It refuses a superpacket of more."""
_IPV4, _IPV6 = 0x45 | LEFT, 0x60 | LEFT
_WHOLE = 0x40
"""IPv4, byte 6: don't fragment, and no fragment."""


class Merger:
    def __init__(self, opened: Area) -> None:
        """`opened`: where the bundles are; it keeps its length."""
        self._opened = opened
        self._shapes: dict[tuple[int, int, int, int, int], Struct] = {}

    def merge(self, at: int, end: int) -> tuple[int, int, int, int] | None:
        """As many packets as are alike, from the one at `at` of a bundle that ends by `end`: where
        their superpacket begins, virtio header included, where it ends, how many they are, and
        where the next packet begins. None: fewer than LEAST; then nothing has changed."""
        found = self._look(at, end)
        if found is None:
            return None
        around, length = found
        count = min(MOST, (end - at) // length)
        merged = self._merge(at, around, length, count, 1, 0) if count >= LEAST else None
        return merged and (*merged, at + merged[2] * length)

    def merge_bundles(
        self, at: int, length: int, stride: int, count: int
    ) -> tuple[int, int, int, int] | None:
        """All packets of as many bundles as one superpacket may hold, of `count` that are `length`
        bytes long each and lie `stride` bytes apart, if they are alike. As `merge`, but for the
        last, the number of bundles: at least two."""
        found = self._look(at, at + length)
        if found is None:
            return None
        around, packet = found
        each, rest = divmod(length, packet)
        most = min(MOST, (LARGEST_PACKET - around) // (packet - around))
        bundles = min(count, most // each)
        if rest or bundles < 2 or bundles * each < LEAST:
            return None
        merged = self._merge(at, around, packet, each, bundles, stride - length)
        return merged and (*merged, bundles)

    def _look(self, at: int, end: int) -> tuple[int, int] | None:
        """Bytes of the headers of the packet at `at`, and of all of it, if others can be merged
        with it."""
        opened = self._opened
        first = opened[at]
        if first == _IPV4 and end - at >= 28:
            length = opened[at + 2] << 8 | opened[at + 3]
            around = 28
            if opened[at + 9] != UDP or opened[at + 6] != _WHOLE or opened[at + 7]:
                return None
        elif first & 0xF0 == _IPV6 and end - at >= 48:
            length = 40 + (opened[at + 4] << 8 | opened[at + 5])
            around = 48
            if opened[at + 6] != UDP:
                return None
        else:
            return None
        udp_length = opened[at + around - 4] << 8 | opened[at + around - 3]
        if not around < length <= end - at or udp_length != length - around + 8:
            return None
        return around, length

    def _merge(
        self, at: int, around: int, length: int, each: int, bundles: int, gap: int
    ) -> tuple[int, int, int] | None:
        """Packets as alike as the first: of one bundle as many as there are of `each`, of several
        all or none."""
        opened, size = self._opened, length - around
        shape = around, size, each, bundles, gap
        fields = (self._shapes.get(shape) or self._compile(shape)).unpack_from(opened, at)
        if around == 28:
            alike = _count_alike(fields[0::4], fields[1::4], fields[2::4])
            payloads = fields[3::4]
        else:
            alike = _count_alike(fields[0::2])
            payloads = fields[1::2]
        if alike < LEAST or (bundles > 1 and alike < each * bundles):
            return None
        _lengthen(opened, at, around, (alike - 1) * size)
        opened[at + around : at + around + alike * size] = b"".join(payloads[:alike])
        begin = at - VIRTIO_LENGTH
        VIRTIO.pack_into(opened, begin, CHECKSUM_LEFT, GSO_UDP, around, size, around - 8, 6)
        return begin, at + around + alike * size, alike

    def _compile(self, shape: tuple[int, int, int, int, int]) -> Struct:
        around, size, each, bundles, gap = shape
        # What has to be the same: all but identification and checksums, which are skipped.
        headers = "4s2x4s2x14s2x" if around == 28 else "46s2x"
        together = f"{headers}{size}s" * each
        return keep(self._shapes, shape, Struct("=" + f"{gap}x".join([together] * bundles)))


def _lengthen(opened: Area, at: int, around: int, more: int) -> None:
    """By so many bytes: the IP and UDP headers of a packet, and the sums that hold their lengths
    (RFC 1624). 2 µs; `cut_headers` does the same for any headers in 6."""
    if around == 28:
        opened[at] = 0x45
        _add(opened, at + 2, more)
        checksum = ~(opened[at + 10] << 8 | opened[at + 11]) & 0xFFFF
        checksum = ~((checksum + more - 1) % 0xFFFF + 1)
        opened[at + 10 : at + 12] = (checksum & 0xFFFF).to_bytes(2, "big")
    else:
        opened[at] &= ~LEFT
        _add(opened, at + 4, more)
    udp = at + around - 8
    _add(opened, udp + 4, more)
    left = opened[udp + 6] << 8 | opened[udp + 7]
    opened[udp + 6 : udp + 8] = ((left + more - 1) % 0xFFFF + 1).to_bytes(2, "big")


def _add(opened: Area, at: int, more: int) -> None:
    length = (opened[at] << 8 | opened[at + 1]) + more
    opened[at : at + 2] = length.to_bytes(2, "big")


def _count_alike(*fields: tuple[bytes, ...]) -> int:
    """How many packets from the first on have the same values as it."""
    count = len(fields[0])
    for values in fields:
        first = values[0]
        if values[:count] != (first,) * count:
            count = next(i for i, value in enumerate(values) if value != first)
    return count
