"""What Linux puts before each packet of a TUN interface with IFF_VNET_HDR (virtio 1.2 §5.1.6).

::

    0        1          2             4              6             8               10
    +--------+----------+-------------+--------------+-------------+---------------+-----------+
    | flags  | gso type | headers (2) | segment (2)  | start (2)   | field (2)     | packet …  |
    +--------+----------+-------------+--------------+-------------+---------------+-----------+

Native byte order. A packet with a gso type is a *superpacket*: `headers` bytes of headers, and a
payload to be cut every `segment` bytes. With flag 1 its checksum is left: it covers everything from
`start`, and belongs `field` bytes behind that.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

VIRTIO = struct.Struct("=BBHHHH")
VIRTIO_LENGTH = VIRTIO.size
CHECKSUM_LEFT = 1
GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP = 0, 1, 4, 5
GSO_ECN = 0x80
"""Or-ed to a TCP type: the first segment has CWR set, the others have not (RFC 3168 §6.1.2)."""
NO_VIRTIO = bytes(VIRTIO_LENGTH)
"""A plain packet, complete."""


class Virtio(NamedTuple):
    flags: int
    gso_type: int
    headers: int
    segment: int
    start: int
    field: int

    def pack(self) -> bytes:
        return VIRTIO.pack(*self)


def parse_virtio(header: bytes | bytearray | memoryview) -> Virtio:
    return Virtio(*VIRTIO.unpack_from(header))
