"""Endpoints and the socket addresses they are for the system: as Python has them, and raw.

A raw one is a ``struct sockaddr_in`` or, on a socket for IPv6, ``sockaddr_in6``; `family` in host
byte order, the rest big-endian::

    0        2      4                8                16
    +--------+------+----------------+----------------+
    | family | port | IPv4           | 0              |
    +--------+------+----------------+----------------+

    0        2      4           8                24         28
    +--------+------+-----------+----------------+----------+
    | family | port | flow (0)  | IPv6           | scope    |    IPv4 as ::ffff:a.b.c.d
    +--------+------+-----------+----------------+----------+
"""

from __future__ import annotations

import socket
import struct

from tunnel.drivers.udp_errors import SockAddress
from tunnel.wire.endpoint import Endpoint

_ADDRESSES = 4096
"""Converted addresses remembered, each way."""


class Addresses:
    """Converts for one socket. Remembers, since most datagrams come from, and go to, few."""

    def __init__(self, *, is_ipv6: bool) -> None:
        self.is_ipv6 = is_ipv6
        """Whether the socket reaches IPv6 endpoints as well."""
        self._sources: dict[SockAddress, Endpoint] = {}
        self._destinations: dict[Endpoint, SockAddress] = {}
        self._raw_sources: dict[bytes, Endpoint] = {}
        self._raw_destinations: dict[SockAddress, bytes] = {}
        self.raw_length = 28 if is_ipv6 else 16
        """Bytes of a raw address."""

    def source(self, address: SockAddress) -> Endpoint:
        """The endpoint of an address as Python has it. A link-local one loses its interface, so it
        cannot be answered."""
        return self._sources.get(address) or self._convert_source(address)

    def raw_source(self, address: bytes) -> Endpoint:
        """The endpoint of a raw address."""
        return self._raw_sources.get(address) or self._convert_raw_source(address)

    def raw_destination(self, address: SockAddress) -> bytes:
        """What `destination` returned, raw."""
        return self._raw_destinations.get(address) or self._convert_raw_destination(address)

    def destination(self, endpoint: Endpoint) -> SockAddress | None:
        """None: not an address this socket reaches. Names are not looked up: that would block."""
        return self._destinations.get(endpoint) or self._convert_destination(endpoint)

    def _convert_source(self, address: SockAddress) -> Endpoint:
        host = address[0].removeprefix("::ffff:")
        endpoint = Endpoint(host if "." in host else address[0], address[1])
        if len(self._sources) >= _ADDRESSES:
            self._sources.clear()
        self._sources[address] = endpoint
        return endpoint

    def _convert_raw_source(self, address: bytes) -> Endpoint:
        port = int.from_bytes(address[2:4], "big")
        if self.is_ipv6:
            host = socket.inet_ntop(socket.AF_INET6, address[8:24])
        else:
            host = socket.inet_ntop(socket.AF_INET, address[4:8])
        if len(self._raw_sources) >= _ADDRESSES:
            self._raw_sources.clear()
        endpoint = self._raw_sources[bytes(address)] = self.source((host, port))
        return endpoint

    def _convert_raw_destination(self, address: SockAddress) -> bytes:
        host, port = address[:2]
        if self.is_ipv6:
            packed = socket.inet_pton(socket.AF_INET6, host)
            raw = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16sI", port, 0, packed, 0)
        else:
            packed = socket.inet_aton(host)
            raw = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, packed)
        if len(self._raw_destinations) >= _ADDRESSES:
            self._raw_destinations.clear()
        self._raw_destinations[address] = raw
        return raw

    def _convert_destination(self, endpoint: Endpoint) -> SockAddress | None:
        address: SockAddress
        if not 0 <= endpoint.port <= 0xFFFF:
            return None
        try:
            if endpoint.is_ipv6:
                socket.inet_pton(socket.AF_INET6, endpoint.host)
                if not self.is_ipv6:
                    return None
                address = (endpoint.host, endpoint.port, 0, 0)
            else:
                socket.inet_pton(socket.AF_INET, endpoint.host)
                host = f"::ffff:{endpoint.host}" if self.is_ipv6 else endpoint.host
                address = (host, endpoint.port)
        except (OSError, ValueError):
            return None
        if len(self._destinations) >= _ADDRESSES:
            self._destinations.clear()
        self._destinations[endpoint] = address
        return address
