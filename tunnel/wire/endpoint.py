"""Endpoints: an IP address and a UDP port, nothing else.

::

    0                   16      18
    +-------------------+-------+
    | address (16)      | port  |     IPv4 as ::ffff:a.b.c.d; port big-endian (RFC 4291 §2.5.5.2)
    +-------------------+-------+
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple

from tunnel.errors import Malformed

ENDPOINT_LENGTH = 18
_V4_MAPPED = bytes(10) + b"\xff\xff"


class Endpoint(NamedTuple):
    """An IP address in canonical text form (never IPv4-mapped IPv6) and a UDP port."""

    host: str
    port: int

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


@lru_cache(maxsize=4096)
def pack_endpoint(endpoint: Endpoint) -> bytes:
    """The 18-byte form of `endpoint`. ValueError if its host is no IP address (a local mistake)."""
    packed = ipaddress.ip_address(endpoint.host).packed
    if len(packed) == 4:
        packed = _V4_MAPPED + packed
    return packed + endpoint.port.to_bytes(2, "big")


def unpack_endpoint(data: bytes) -> Endpoint:
    """The endpoint in `data` (exactly 18 bytes). Raises Malformed on another length."""
    if len(data) != ENDPOINT_LENGTH:
        raise Malformed("endpoint length")
    address, port = bytes(data[:16]), int.from_bytes(data[16:18], "big")
    if address[:12] == _V4_MAPPED:
        return Endpoint(str(ipaddress.IPv4Address(address[12:])), port)
    return Endpoint(str(ipaddress.IPv6Address(address)), port)
