"""Longest-prefix routes: which peer a packet is for, and which peer may have sent it."""

from __future__ import annotations

import ipaddress
from typing import Generic, TypeVar

from tunnel.wire.certificate import Network

T = TypeVar("T")

MAX_FOUND = 4096


class RoutingTable(Generic[T]):
    """Prefix → peer, IPv4 and IPv6 (cryptokey routing, WireGuard white paper §2).

    One dictionary per prefix length in use: a look-up costs as many probes as there are lengths,
    and a mesh has one or two.
    """

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, dict[int, T]]] = {4: {}, 16: {}}
        self._lengths: dict[int, list[int]] = {4: [], 16: []}
        self._found: dict[bytes, T | None] = {}
        """Look-ups since the last change: 0.05 µs instead of 0.6."""

    def add(self, network: Network, target: T) -> None:
        """Route `network` to `target`, instead of whom it was routed to before."""
        self._found.clear()
        size = 4 if network.version == 4 else 16
        table = self._tables[size].setdefault(network.prefixlen, {})
        table[int(network.network_address) >> (size * 8 - network.prefixlen)] = target
        self._lengths[size] = sorted(self._tables[size], reverse=True)

    def remove_target(self, target: T) -> None:
        """Forget every route to `target`."""
        self._found.clear()
        for size, tables in self._tables.items():
            for table in tables.values():
                for key in [key for key, value in table.items() if value is target]:
                    del table[key]
            self._lengths[size] = sorted((p for p, t in tables.items() if t), reverse=True)

    def get(self, network: Network) -> T | None:
        """Whom exactly that prefix is routed to."""
        size = 4 if network.version == 4 else 16
        table = self._tables[size].get(network.prefixlen, {})
        return table.get(int(network.network_address) >> (size * 8 - network.prefixlen))

    def find(self, address: bytes) -> T | None:
        """The target with the longest prefix that holds `address` (4 or 16 bytes)."""
        try:
            return self._found[address]
        except KeyError:
            pass
        if len(self._found) >= MAX_FOUND:  # A scan of a subnet behind a peer.
            self._found.clear()
        found = self._found[address] = self._search(address)
        return found

    def _search(self, address: bytes) -> T | None:
        size = len(address)
        bits = size * 8
        number = int.from_bytes(address, "big")
        tables = self._tables[size]
        for length in self._lengths[size]:
            found = tables[length].get(number >> (bits - length))
            if found is not None:
                return found
        return None


def host_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Network:
    """The prefix that holds `address` alone."""
    return ipaddress.ip_network(address)
