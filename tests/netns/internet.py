"""The internet of the lab: one router with a cable to every public machine."""

from __future__ import annotations

from .cleanup import Cleanup
from .host import Attachment, Host
from .machine import Machine
from .namespace import ip_batch

_GATEWAY4 = "192.0.2.1"
_LINK_LOCAL = "fe80::1"


class Internet(Machine):
    """Routes between public addresses (/32 and /128, one cable each), and drops all others.

    It is one hop: a packet between two public machines has its TTL decremented once.
    """

    def __init__(self, cleanup: Cleanup) -> None:
        forwarding = {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1}
        super().__init__("internet", cleanup, sysctls=forwarding)
        self._routes: dict[str, list[str]] = {}
        lines = ["link set lo up", f"addr add {_GATEWAY4}/32 dev lo"]
        ip_batch(lines, namespace=self.namespace)

    def plug_in(self, host: Host, address: str | None, address6: str | None) -> Attachment:
        """`address` is needed: nothing assigns public addresses here."""
        if address is None:
            raise ValueError(f"{host.name}: a machine on the internet needs a public address")
        lines = [
            f"link add name {host.name} type veth peer name {host.uplink} netns {host.namespace}",
            f"link set dev {host.name} up",
            f"addr add {_LINK_LOCAL}/64 dev {host.name} nodad",
            f"route add {address}/32 dev {host.name}",
        ]
        if address6:
            lines.append(f"route add {address6}/128 dev {host.name}")
        ip_batch(lines, namespace=self.namespace)
        return Attachment(address, 32, _GATEWAY4, address6, 128, _LINK_LOCAL)

    def add_address(self, host: Host, address: str) -> None:
        """One more IPv4 address for a machine on the internet."""
        ip_batch([f"addr add {address}/32 dev {host.uplink}"], namespace=host.namespace)
        ip_batch([f"route add {address}/32 dev {host.name}"], namespace=self.namespace)

    def route6(self, prefix: str, host: Host) -> None:
        """Send an IPv6 prefix to a machine that has an IPv6 address here."""
        line = f"route add {prefix} via {host.ip6} dev {host.name} onlink"
        ip_batch([line], namespace=self.namespace)

    def unplug(self, host: Host) -> None:
        """The routes go with the cable."""

    def readdress(self, host: Host, address: str) -> Attachment:
        lines = [
            f"route add {address}/32 dev {host.name}",
            f"route del {host.ip4}/32 dev {host.name}",
        ]
        ip_batch(lines, namespace=self.namespace)
        return Attachment(address, 32, _GATEWAY4, None, 128, None)
