"""The headers of frames that follow each other, as one number.

::

    header    4 | place | 0 0 | receiver (4) | counter (8)         16 bytes, little-endian

    of a train       F, F + S, F + 2 S, ...       S: the next counter and the next place
    of single ones   F, F + T, F + 2 T, ...       T: the next counter

Written one behind the other they are the number F × (1 + B + B² + ...) + S × (B + 2 B² + ...) with
B = 2^128, and Python calculates with numbers of a thousand bytes in a fraction of a microsecond. 45
headers are made in 4 µs (field by field 5.6) and compared in 3 µs (6).
"""

from __future__ import annotations

from struct import Struct

from tunnel.dataplane.aead import Area
from tunnel.wire.train import MAX_SEGMENTS
from tunnel.wire.transport import HEADER_LENGTH

_BITS = 8 * HEADER_LENGTH
_PLACE, _COUNTER = 1 << 8, 1 << 64
# Of as many headers as there can be; of fewer, it is the lower digits.
_FIRSTS = sum(1 << number * _BITS for number in range(MAX_SEGMENTS))
_NUMBERS = sum(number << number * _BITS for number in range(MAX_SEGMENTS))


class Headers:
    """Of `count` frames, MAX_SEGMENTS at most, that lie `stride` bytes apart."""

    def __init__(self, stride: int, count: int) -> None:
        gap, one = f"{stride - HEADER_LENGTH}x", f"{HEADER_LENGTH}s"
        self._apart = Struct(gap.join([one] * count))
        self._together = Struct(one * count)
        self._length = HEADER_LENGTH * count
        digits = (1 << count * _BITS) - 1
        numbers = _NUMBERS & digits
        self._firsts, self._steps = _FIRSTS & digits, numbers * (_COUNTER + _PLACE)
        self.places = numbers * _PLACE
        """By how much those of single frames are less than those of a train."""
        self.last_place = _PLACE << (count - 1) * _BITS
        """What the place in the last header counts."""

    def of_train(self, first: int) -> int:
        """That begins with the header `first`."""
        return first * self._firsts + self._steps

    def put_train(self, frames: Area, first: int) -> None:
        """From the beginning of `frames` on."""
        together = self.of_train(first).to_bytes(self._length, "little")
        self._apart.pack_into(frames, 0, *self._together.unpack(together))

    def take(self, area: Area, offset: int) -> bytes:
        """Those from `offset` on, one behind the other."""
        return b"".join(self._apart.unpack_from(area, offset))
