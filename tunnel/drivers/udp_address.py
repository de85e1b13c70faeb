"""Endpoints and the socket addresses they are for the system."""

from __future__ import annotations

import socket

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

    def source(self, address: SockAddress) -> Endpoint:
        """The endpoint of an address as Python has it. A link-local one loses its interface, so it
        cannot be answered."""
        return self._sources.get(address) or self._convert_source(address)

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
