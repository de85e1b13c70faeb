"""A packet in several frames, for a path that it would not fit through whole.

The payload of a frame, told from an IP packet and from a check by its first byte.

::

    fragment    | 0x10 | number (1) | 0 0 | packet (4) | part of the packet ... |

`number` counts from 0; its top bit marks the last. `packet` is the same in all fragments of a
packet, and another in the next.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tunnel.errors import Malformed

FRAGMENT = 0x10
MAX_FRAGMENTS = 128

_HEADER = struct.Struct("<BBHI")
_LAST = 0x80


class Fragment(NamedTuple):
    packet: int
    number: int
    is_last: bool
    part: bytes

    def pack(self) -> bytes:
        number = self.number | (_LAST if self.is_last else 0)
        return _HEADER.pack(FRAGMENT, number, 0, self.packet) + self.part


def parse_fragment(payload: bytes) -> Fragment:
    """Raises Malformed. A part is never empty."""
    if len(payload) <= _HEADER.size:
        raise Malformed("fragment length")
    kind, number, _, packet = _HEADER.unpack_from(payload)
    if kind != FRAGMENT:
        raise Malformed("fragment kind")
    return Fragment(packet, number & ~_LAST, bool(number & _LAST), bytes(payload[_HEADER.size :]))


def split_packet(content: bytes, limit: int, packet: int) -> list[bytes]:
    """Fragments no longer than `limit` bytes each, header included, and about as long as each
    other, so that none of them is lost for its length where another would not be."""
    room = limit - _HEADER.size
    count = -(-len(content) // room)
    if count > MAX_FRAGMENTS:
        raise ValueError(f"{len(content)} bytes do not fit into {MAX_FRAGMENTS} times {limit}")
    length = -(-len(content) // count)
    return [
        Fragment(packet, number, number == count - 1, content[start : start + length]).pack()
        for number, start in enumerate(range(0, len(content), length))
    ]
