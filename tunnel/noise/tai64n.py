"""TAI64N timestamps (https://cr.yp.to/libtai/tai64.html): what makes an old initiation useless.

::

    +----------------------------+-----------------------+
    | 2^62 + TAI seconds (8, BE) | nanoseconds (4, BE)   |
    +----------------------------+-----------------------+
"""

from __future__ import annotations

import struct

TIMESTAMP_LENGTH = 12

_TAI64N = struct.Struct(">QI")
# TAI was 10 s ahead of UTC in 1970. Leap seconds since are left out, as WireGuard does: only the
# order of one node's timestamps matters.
_EPOCH = 2**62 + 10
# Timestamps are sent to whoever holds our public key; 16.8 ms tell nothing about our clock that a
# timing attack could use (wireguard-go, tai64n: whitenerMask).
_WHITENED_BITS = 24


def timestamp(unix_seconds: float) -> bytes:
    """12 bytes which compare as the times do; equal for times within 16.8 ms of each other."""
    seconds = int(unix_seconds // 1)
    nanoseconds = min(int((unix_seconds - seconds) * 1e9), 999_999_999)
    return _TAI64N.pack(_EPOCH + seconds, nanoseconds >> _WHITENED_BITS << _WHITENED_BITS)
