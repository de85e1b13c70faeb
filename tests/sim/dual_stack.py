"""Nodes with IPv4 behind a NAT and IPv6 behind a firewall, and a server that has both."""

from __future__ import annotations

from tests.sim.nat import Firewall
from tests.sim.theory import Side
from tests.sim.topology import Router
from tests.sim.world import SERVER_ADDRESS, World
from tunnel.core.path import Path

SERVER_V6 = "2001:db8::10"


class DualStack(World):
    """`add` adds a node with both families, or one of them."""

    def __init__(self, seed: int = 1, *, delay: float = 0.01, may_guess: bool = False) -> None:
        super().__init__(seed, delay=delay, may_guess=may_guess)
        self.server_host.attach(SERVER_V6)
        self.server_names = (SERVER_V6, SERVER_ADDRESS)
        self.firewalls: dict[str, Router] = {}
        """Name of a node → what its IPv6 goes through."""

    def add(
        self, name: str, nat: Side = None, *, ipv6: Router | None = None, has_ipv4: bool = True
    ) -> None:
        """`ipv6`: what its IPv6 goes through, if not a firewall of its own. Without IPv4 where
        `has_ipv4` is False; without IPv6 use `add_node`."""
        self.firewalls[name] = ipv6 or self.net.add_router(Firewall(), f"ipv6-{name}")
        self.add_node(name, nat, ipv6=[self.firewalls[name]], has_ipv4=has_ipv4)

    def best(self, name: str, of: str) -> Path:
        found = self.peer(name, of).traversal.best
        assert found is not None
        return found

    def rotate(self, name: str) -> tuple[str, str]:
        """It gets a new privacy address, as every day; the old one is deprecated. (old, new)"""
        host = self.hosts[name]
        old = next(i for i in host.interfaces if ":" in i.address and not i.is_deprecated)
        new = host.attach(behind=self.firewalls[name])
        old.is_deprecated, new.is_temporary = True, True
        self.tell_addresses(name)
        return old.address, new.address

    def expire(self, name: str) -> None:
        """Its deprecated addresses vanish."""
        host = self.hosts[name]
        for interface in list(host.interfaces):
            if interface.is_deprecated:
                host.detach(interface.address)
        self.tell_addresses(name)
