"""A machine with one uplink: a server, a node, or the outer side of a router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from .cleanup import Cleanup
from .counters import InterfaceCounters
from .link import End, Link
from .machine import Machine
from .namespace import LabError, ip_batch


class Attachment(NamedTuple):
    """What a network gives to a host plugged into it."""

    ip4: str
    prefix4: int
    gateway4: str
    ip6: str | None
    prefix6: int
    gateway6: str | None


class Network(Protocol):
    """Where a host can be plugged in: the internet, a LAN, a carrier."""

    @property
    def namespace(self) -> str: ...

    def plug_in(self, host: Host, address: str | None, address6: str | None) -> Attachment:
        """Make the far end of the host's link, and the routes to it."""

    def unplug(self, host: Host) -> None:
        """Forget the host's routes; the link is removed by the host."""

    def readdress(self, host: Host, address: str) -> Attachment:
        """Move the routes to the host to another IPv4 address of it."""


class Host(Machine):
    """A machine reached through one interface, its `uplink`."""

    ip4: str
    """Its IPv4 address in the network it is plugged into."""
    ip6: str | None
    """Its IPv6 address there, if that network has IPv6."""

    def __init__(
        self,
        name: str,
        cleanup: Cleanup,
        *,
        uplink: str = "eth0",
        sysctls: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, cleanup, sysctls=sysctls)
        self.uplink = uplink
        """The name of the interface."""
        self._network: Network | None = None
        self._gateways: tuple[str, str | None] = ("", None)
        ip_batch(["link set lo up"], namespace=self.namespace)

    @property
    def link(self) -> Link:
        """The cable it hangs on."""
        return Link(End(self.namespace, self.uplink), End(self._plugged().namespace, self.name))

    def attach(self, network: Network, address: str | None = None, ipv6: str | None = None) -> None:
        """Plug into a network, unplugging from the present one: how a laptop roams."""
        self.detach()
        self._network = network
        given = network.plug_in(self, address, ipv6)
        self.ip4, self.ip6 = given.ip4, given.ip6
        self._gateways = (given.gateway4, given.gateway6)
        lines = [f"addr add {given.ip4}/{given.prefix4} dev {self.uplink}"]
        if given.ip6:
            lines.append(f"addr add {given.ip6}/{given.prefix6} dev {self.uplink} nodad")
        ip_batch([*lines, *self._up()], namespace=self.namespace)

    def detach(self) -> None:
        """Unplug; the interface vanishes. Nothing happens if it is not plugged in."""
        if self._network is not None:
            self._network.unplug(self)
            ip_batch([f"link del {self.uplink}"], namespace=self.namespace)
            self._network = None

    def set_link_up(self, up: bool) -> None:
        """Take the uplink down, with its routes, or bring it up again; addresses stay."""
        lines = self._up() if up else [f"link set dev {self.uplink} down"]
        ip_batch(lines, namespace=self.namespace)

    def change_address(self, address: str) -> None:
        """Get another IPv4 address in the same network; the old one is gone at once."""
        given = self._plugged().readdress(self, address)
        lines = [
            f"addr add {given.ip4}/{given.prefix4} dev {self.uplink}",
            f"addr del {self.ip4}/{given.prefix4} dev {self.uplink}",
            f"route replace default via {given.gateway4} dev {self.uplink} onlink",
        ]
        ip_batch(lines, namespace=self.namespace)
        self.ip4 = given.ip4

    def drop_ipv4(self) -> None:
        """Have no IPv4 any more, as on a network that has none."""
        self.run(["ip", "-4", "addr", "flush", "dev", self.uplink])

    def interface_counters(self, interface: str | None = None) -> InterfaceCounters:
        """Of the uplink, or of another interface of this machine."""
        return super().interface_counters(interface or self.uplink)

    def shape(
        self, *, delay_ms: float = 0.0, loss_percent: float = 0.0, rate: str | None = None
    ) -> None:
        """Shape the uplink, each direction alike; see `Link.shape`."""
        self.link.shape(delay_ms=delay_ms, loss_percent=loss_percent, rate=rate)

    def set_mtu(self, mtu: int, *, too_big_answered: bool = True) -> None:
        """Of the uplink, at both ends; see `Link.set_mtu`."""
        self.link.set_mtu(mtu, too_big_answered=too_big_answered)

    def _up(self) -> list[str]:
        gateway4, gateway6 = self._gateways
        lines = [
            f"link set dev {self.uplink} up",
            f"route replace default via {gateway4} dev {self.uplink} onlink",
        ]
        if gateway6:
            lines.append(f"route replace default via {gateway6} dev {self.uplink} onlink")
        return lines

    def _plugged(self) -> Network:
        if self._network is None:
            raise LabError(f"{self.name} is not plugged into any network")
        return self._network
