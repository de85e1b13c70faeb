"""The machine's interfaces, addresses and routes, through netlink.

pyroute2 runs an asyncio loop of its own inside each call. Under gevent that blocks the hub, for
1–5 ms a call with a handful of routes, and is safe from any greenlet, since no call yields to
another. It is imported by the first call, which takes a tenth of a second.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunnel.core.candidates import HostAddress
from tunnel.drivers.netlink import load_netlink
from tunnel.errors import OperatorError, UsageError

log = logging.getLogger(__name__)

# <linux/if.h>, <linux/if_addr.h>, <linux/rtnetlink.h>
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_IFA_F_TEMPORARY, _IFA_F_NODAD, _IFA_F_DADFAILED = 0x01, 0x02, 0x08
_IFA_F_DEPRECATED, _IFA_F_TENTATIVE = 0x20, 0x40
_RT_TABLE_MAIN, _RTN_UNICAST = 254, 1
_LINK_SCOPE = 253
_SCOPES = {0: "global", 200: "site"}
_NO_IPV6 = (errno.EACCES, errno.ENODEV, errno.EOPNOTSUPP, errno.EAFNOSUPPORT)
"""What adding an IPv6 address says where IPv6 is off."""
_IPV6_MTU = 1280
"""Bytes. Interfaces with less have no IPv6 (RFC 8200 §5)."""


class LocalAddress(NamedTuple):
    """An address of this machine at which another may reach it."""

    host: str
    prefix_length: int
    interface: str
    is_deprecated: bool
    """IPv6: still valid, not to be used for anything new."""
    is_temporary: bool
    """IPv6 privacy address: replaced every day or so."""
    scope: str
    """As the kernel has it: global or site. Private IPv4 and ULA are global too."""


class Route(NamedTuple):
    """Where packets for `prefix` ("10.0.0.0/8") leave."""

    prefix: str
    interface: str


class LocalNetwork(NamedTuple):
    """What a node is told of its machine's network."""

    addresses: tuple[HostAddress, ...] = ()
    routes: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


def configure_interface(
    name: str, addresses: Sequence[str], mtu: int, *, gso_max_size: int | None = None
) -> list[str]:
    """Gives interface `name` its addresses ("10.1.2.3/24", "fd…::1/64") and its MTU (bytes) and
    brings it up. The addresses it has now: IPv6 ones are left out where IPv6 is switched off.
    `gso_max_size` is how many bytes a superpacket may have, 65,536 at most; where the kernel does
    not take it, that is logged. Raises OperatorError."""
    parsed = [_parsed(address) for address in addresses]
    # No link-local address: it would talk (router solicitations, MLD) into the tunnel unasked.
    with contextlib.suppress(OSError):
        Path(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode").write_text("1")
    given = []
    with _netlink(f"configure {name}") as netlink:
        index = _index(name)
        netlink.link("set", index=index, mtu=mtu)
        if gso_max_size is not None:
            _limit_superpackets(netlink, index, name, gso_max_size)
        for address in parsed:
            try:
                _add_address(netlink, index, address)
                given.append(str(address))
            except _netlink_error() as error:
                is_possible = mtu >= _IPV6_MTU and error.code not in _NO_IPV6
                if address.version == 4 or is_possible:
                    raise
                log.warning(
                    "%s gets no IPv6 address %s: IPv6 is off here, see `sysctl "
                    "net.ipv6.conf.all.disable_ipv6`, or needs an MTU of 1280",
                    name,
                    address,
                )
        netlink.link("set", index=index, state="up")
    return given


def add_route(prefix: str, interface: str) -> None:
    """Packets for `prefix` leave through `interface`, from now until it is gone. Nothing changes
    if they do already. Raises OperatorError, also if the prefix belongs to another interface."""
    network = _network(prefix)
    with _netlink(f"route {prefix} through {interface}") as netlink:
        try:
            netlink.route(
                "add",
                dst=str(network),
                oif=_index(interface),
                family=socket.AF_INET if network.version == 4 else socket.AF_INET6,
            )
        except _netlink_error() as error:
            if error.code != errno.EEXIST:
                raise
            holder = next((r.interface for r in local_routes() if r.prefix == str(network)), "")
            if holder != interface:
                raise OperatorError(
                    f"{prefix} is routed through {holder or 'something else'} already: remove "
                    f"that route (`ip route delete {prefix}`) or use another prefix"
                ) from error


def local_addresses(exclude: Collection[str] = ()) -> list[LocalAddress]:
    """Addresses of interfaces that are up and have a carrier, other than those in `exclude`.
    Without loopback, link-local, and IPv6 addresses that are not, or never will be, valid."""
    with _netlink("list addresses") as netlink:
        usable = _IFF_UP | _IFF_LOWER_UP
        names = {
            link["index"]: link.get_attr("IFLA_IFNAME")
            for link in netlink.get_links()
            if link["flags"] & usable == usable
        }
        found = []
        for message in netlink.get_addr():
            name, flags = names.get(message["index"]), message.get_attr("IFA_FLAGS") or 0
            host = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            is_ipv6, scope = message["family"] == socket.AF_INET6, int(message["scope"])
            if name is None or name in exclude or host is None or scope >= _LINK_SCOPE:
                continue
            address = ipaddress.ip_address(host)
            if address.is_loopback or address.is_link_local:
                continue
            if is_ipv6 and flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED):
                continue
            found.append(
                LocalAddress(
                    host=str(address),
                    prefix_length=int(message["prefixlen"]),
                    interface=name,
                    is_deprecated=bool(flags & _IFA_F_DEPRECATED),
                    is_temporary=is_ipv6 and bool(flags & _IFA_F_TEMPORARY),
                    scope=_SCOPES.get(scope, str(scope)),
                )
            )
    return found


def local_routes() -> list[Route]:
    """The main table, IPv4 and IPv6, default routes included; no blackholes and the like."""
    with _netlink("list routes") as netlink:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
        found = []
        for message in netlink.get_routes(table=_RT_TABLE_MAIN):
            if message["type"] != _RTN_UNICAST:
                continue
            anywhere = "0.0.0.0" if message["family"] == socket.AF_INET else "::"
            host = message.get_attr("RTA_DST") or anywhere
            index = message.get_attr("RTA_OIF")
            if index is None:  # several next hops
                index = next((hop["oif"] for hop in message.get_attr("RTA_MULTIPATH") or ()), None)
            found.append(Route(f"{host}/{message['dst_len']}", names.get(index) or ""))
    return found


def local_network(exclude: Collection[str] = ()) -> LocalNetwork:
    """This machine's addresses and routes, but for those of the interfaces in `exclude`."""
    routes = [route for route in local_routes() if route.interface not in exclude]
    networks = [ipaddress.ip_network(route.prefix, strict=False) for route in routes]
    ways_out = {
        (network.version, route.interface)
        for network, route in zip(networks, routes, strict=True)
        if network.prefixlen == 0
    }
    addresses = []
    for address in local_addresses(exclude):
        interface = ipaddress.ip_interface(f"{address.host}/{address.prefix_length}")
        leads_out = (interface.version, address.interface) in ways_out
        addresses.append(
            HostAddress(interface, address.is_temporary, address.is_deprecated, leads_out)
        )
    return LocalNetwork(tuple(addresses), tuple(dict.fromkeys(networks)))


def default_gateway(exclude_interfaces: Collection[str] = ()) -> str | None:
    """The IPv4 address of the router that packets to the internet go to, by the route of the main
    table with the lowest metric. None: there is none, or it has no address of its own."""
    with _netlink("list routes") as netlink:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
        found: list[tuple[int, str]] = []
        for message in netlink.get_routes(table=_RT_TABLE_MAIN, family=socket.AF_INET):
            if message["type"] != _RTN_UNICAST or message["dst_len"] != 0:
                continue
            hops = message.get_attr("RTA_MULTIPATH") or [message]
            gateway, index = hops[0].get_attr("RTA_GATEWAY"), message.get_attr("RTA_OIF")
            if gateway is None or names.get(index) in exclude_interfaces:
                continue
            found.append((message.get_attr("RTA_PRIORITY") or 0, str(gateway)))
        return min(found)[1] if found else None


def find_clash(prefix: str, exclude_interfaces: Collection[str] = ()) -> Route | None:
    """A route that overlaps `prefix`, through an interface other than those. A default route is
    none, nor are its halves (0.0.0.0/1 and 128.0.0.0/1, with which VPNs cover it)."""
    network = _network(prefix)
    for route in local_routes():
        other = ipaddress.ip_network(route.prefix, strict=False)
        if other.prefixlen <= 1 or route.interface in exclude_interfaces:
            continue
        if other.version == network.version and other.overlaps(network):
            return route
    return None


_Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def _parsed(address: str) -> _Address:
    try:
        return ipaddress.ip_interface(address)
    except ValueError as error:
        raise UsageError(f"{address!r} is no address: write it like 10.1.2.3/24") from error


def _network(prefix: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(prefix, strict=False)
    except ValueError as error:
        raise UsageError(f"{prefix!r} is no prefix: write it like 10.1.2.0/24") from error


def _add_address(netlink: Any, index: int, address: _Address) -> None:
    options = {"address": str(address.ip), "prefixlen": address.network.prefixlen}
    if address.version == 6:
        options["flags"] = _IFA_F_NODAD  # nobody else is on this link: usable at once
    try:
        netlink.addr("add", index=index, **options)
    except _netlink_error() as error:
        if error.code != errno.EEXIST:
            raise


def _limit_superpackets(netlink: Any, index: int, name: str, size: int) -> None:
    """IPv4's too: up to 65,536 it is one with the other (netif_set_gso_max_size). Since Linux
    4.16."""
    try:
        netlink.link("set", index=index, gso_max_size=size)
    except _netlink_error() as error:
        log.info("%s keeps its gso_max_size: %s", name, os.strerror(error.code))


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        text = f"there is no interface {name}: `ip link` shows those there are"
        raise OperatorError(text) from error


def _netlink_error() -> Any:
    return load_netlink().error


@contextlib.contextmanager
def _netlink(purpose: str) -> Iterator[Any]:
    """A pyroute2 IPRoute; what it raises, in words for people."""
    try:
        with load_netlink().route() as netlink:
            yield netlink
    except (_netlink_error(), OSError) as error:
        code = getattr(error, "code", None) or getattr(error, "errno", None) or 0
        if code in (errno.EPERM, errno.EACCES):
            cure = "it needs root or CAP_NET_ADMIN: run it with sudo"
        else:
            cure = os.strerror(code)
        raise OperatorError(f"cannot {purpose}: {cure}") from error
