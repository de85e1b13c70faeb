"""How large a superpacket the kernel should make, so that it is one train."""

from __future__ import annotations

from tunnel.dataplane.train import TRAIN_LENGTH, TRAIN_SEGMENTS
from tunnel.wire.train import TRAIN_OVERHEAD
from tunnel.wire.transport import HEADER_LENGTH

LEGACY_MAXIMUM = 65_536
"""Linux: GSO_LEGACY_MAX_SIZE, what interfaces begin with."""
_IPV6_MTU = 1280
"""Interfaces with less have no IPv6 (RFC 8200 §5)."""
_IPV4_HEADERS, _IPV6_HEADERS = 52, 72
"""IP and TCP with timestamps (RFC 7323), which Linux uses unless it is told not to."""
_SMALLEST_RESERVE, _LARGEST_RESERVE = 192 + 1, 384 + 1
"""Linux: MAX_TCP_HEADER + 1, by its configuration and the processor's cache lines."""


def gso_max_size(mtu: int, tag_length: int = 32) -> int:
    """What to set as the interface's gso_max_size, in bytes, so that a superpacket of TCP with full
    segments has as many as frames fit into one train (45 with an MTU of 1400): with one more, a
    second train would have to be sent for that one. `tag_length`: of the longest tag in use.

    The kernel takes MAX_TCP_HEADER + 1 off it, and cuts what TCP has every so many whole segments
    as still fit. The segments of IPv4 are 20 bytes longer than those of IPv6, and nobody tells how
    large MAX_TCP_HEADER is; the result is the largest for which the number comes out right in
    both, whatever it is. Without timestamps it comes out one lower, in IPv4.

    Smaller segments than that fill trains about as well. The device's gso_max_segs would do the
    same exactly, and do harm: whatever has more segments, a burst of UDP with short ones or what
    is forwarded, the kernel then cuts into single packets. That happens here from this size on.
    """
    frame = HEADER_LENGTH + TRAIN_OVERHEAD + mtu + tag_length
    segments = max(1, min(TRAIN_SEGMENTS, TRAIN_LENGTH // frame))
    headers = _IPV6_HEADERS if mtu >= _IPV6_MTU else _IPV4_HEADERS
    too_much = (segments + 1) * (mtu - headers)
    return min(LEGACY_MAXIMUM, too_much + _SMALLEST_RESERVE - 1)
