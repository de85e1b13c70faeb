"""Who somebody is whose keys are not known, or say nothing: where his datagrams come from."""

from __future__ import annotations

from tunnel.wire.endpoint import Endpoint, pack_endpoint

_V4_MAPPED = bytes(10) + b"\xff\xff"
_V4_LENGTH = 16
_V6_LENGTH = 8
_LOOPBACK_V6 = bytes(15) + b"\x01"
_LOOPBACK_V4 = _V4_MAPPED + b"\x7f"


def source_of(endpoint: Endpoint, v6_length: int = _V6_LENGTH) -> bytes:
    """The key of every limit that is per source: the whole IPv4 address, or the first 64 bits of
    an IPv6 address, all of which one subscriber has (RFC 6177), unless `v6_length` says how many
    bytes of it. An IPv4-mapped IPv6 address is that IPv4 address. ValueError if the host is no IP
    address."""
    packed = pack_endpoint(endpoint)
    return packed[:_V4_LENGTH] if packed.startswith(_V4_MAPPED) else packed[:v6_length]


def is_this_machine(endpoint: Endpoint) -> bool:
    """Whether it is a loopback address: nobody outside can send from there, and a proxy that does
    stands for many."""
    packed = pack_endpoint(endpoint)
    return packed.startswith(_LOOPBACK_V4) or packed[:16] == _LOOPBACK_V6
