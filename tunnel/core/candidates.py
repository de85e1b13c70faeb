"""Which of our endpoints to announce, and which of a peer's to check. Both in the order of their
rank, best first (RFC 8445 §5.1.2 in spirit: all are checked at once, but what does not fit, or is
checked last, ought to be what helps least)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from tunnel.core.configuration import LocalInterface
from tunnel.wire.candidate import MAX_CANDIDATES, Candidate, CandidateKind
from tunnel.wire.certificate import Network
from tunnel.wire.endpoint import Endpoint

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "192.0.0.0/24",  # protocol assignments: what DS-Lite and 464XLAT use inside (RFC 7335)
        "192.88.99.0/24",  # whatever 6to4 relay is near (RFC 7526)
        "255.255.255.255/32",
    )
)
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598): as little our neighbour's as 192.168.1.1
        "fc00::/7",
        "fec0::/10",  # site-local, deprecated (RFC 3879)
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_TRANSLATED_V6 = (ipaddress.IPv6Network("2001::/32"), ipaddress.IPv6Network("2002::/16"))
"""Teredo and 6to4 hold an IPv4 address: what is sent there may come out anywhere. Other prefixes of
that kind (IPv4-mapped, 64:ff9b::/96 and 64:ff9b:1::/48 of NAT64) are outside 2000::/3."""


class HostAddress(NamedTuple):
    """An address of ours, as the kernel has it."""

    interface: LocalInterface
    is_temporary: bool = False
    """IPv6 privacy address (RFC 8981): the kernel sends from it rather than from a stable one, so
    a firewall before us is open for it."""
    is_deprecated: bool = False
    """IPv6: valid for a while yet, but nothing new is to use it."""
    leads_out: bool = False
    """A default route of its address family leaves by its interface."""

    @property
    def ip(self) -> Address:
        return self.interface.ip

    @property
    def network(self) -> Network:
        return self.interface.network


def is_public(address: Address) -> bool:
    """Whether strangers anywhere may be expected to route to it. Documentation and benchmarking
    ranges count as public: nobody uses them but laboratories, and there they are the internet."""
    if isinstance(address, ipaddress.IPv6Address):
        is_translated = any(address in network for network in _TRANSLATED_V6)
        return address in _GLOBAL_UNICAST and not is_translated
    if address.is_multicast or address.is_loopback or address.is_link_local or address.is_reserved:
        return False
    return not _is_private(address) and not any(address in net for net in _NOT_PUBLIC_V4)


def _is_private(address: Address) -> bool:
    """Whether it is somebody's within a site, and everybody's outside."""
    return any(address in network for network in _PRIVATE)


def rank_hosts(addresses: Iterable[HostAddress]) -> list[HostAddress]:
    """Best first: those of the interface to the internet before those of, say, a bridge of
    containers; of IPv6 the temporary ones first, since the kernel sends from them; the two families
    in turn, so that neither crowds out the other (RFC 8421 §4); deprecated ones last."""
    ranked: list[HostAddress] = []
    by_ip = {address.ip: address for address in reversed(list(addresses))}
    unique = list(reversed(by_ip.values()))
    for is_deprecated in (False, True):
        for leads_out in (True, False):
            tier = [
                a for a in unique if (a.is_deprecated, a.leads_out) == (is_deprecated, leads_out)
            ]
            tier.sort(key=lambda address: not address.is_temporary)
            families = [[a for a in tier if a.ip.version == version] for version in (6, 4)]
            for pair in zip_longest(*families):
                ranked += [address for address in pair if address is not None]
    return ranked


def gather_candidates(
    addresses: Iterable[HostAddress],
    port: int,
    reflexive: Iterable[Endpoint],
    mapped: Endpoint | None = None,
    alternate: Iterable[Endpoint] = (),
) -> tuple[Candidate, ...]:
    """What to announce, by rank: our addresses, what the router forwards (`mapped`), where the
    server's first port sees us, where its other port sees us if elsewhere (`alternate`: then the
    mapping varies), and in the end addresses that are going away."""
    seen = tuple(reflexive)
    ranked = rank_hosts(addresses)
    fresh = [Endpoint(str(a.ip), port) for a in ranked if not a.is_deprecated]
    leaving = [Endpoint(str(a.ip), port) for a in ranked if a.is_deprecated]
    others: dict[Endpoint, CandidateKind] = {}
    if mapped is not None and mapped not in seen:
        others[mapped] = CandidateKind.PORT_MAPPED
    for endpoint in seen:
        others.setdefault(endpoint, CandidateKind.SERVER_REFLEXIVE)
    for endpoint in alternate:
        others.setdefault(endpoint, CandidateKind.ALTERNATE_REFLEXIVE)
    for endpoint in (*fresh, *leaving):
        others.pop(endpoint, None)
    # A machine full of container bridges must not crowd out where the world sees it.
    room = MAX_CANDIDATES - len(others)
    fresh = fresh[: max(0, room)]
    leaving = leaving[: max(0, room - len(fresh))]
    announced = [Candidate(CandidateKind.HOST, endpoint) for endpoint in fresh]
    announced += [Candidate(kind, endpoint) for endpoint, kind in others.items()]
    announced += [Candidate(CandidateKind.HOST, endpoint) for endpoint in leaving]
    return tuple(announced[:MAX_CANDIDATES])


def merge_observed(announced: Sequence[Candidate], observed: Endpoint) -> list[Candidate]:
    """What a peer announced and where the server sees it now: after the peer's own addresses and
    what its router forwards, unless the peer has ranked it itself."""
    if any(candidate.endpoint == observed for candidate in announced):
        return list(announced)
    before = (CandidateKind.HOST, CandidateKind.PORT_MAPPED)
    place = next((n for n, c in enumerate(announced) if c.kind not in before), len(announced))
    seen = Candidate(CandidateKind.SERVER_REFLEXIVE, observed)
    return [*announced[:place], seen, *announced[place:]]


def admit_candidates(
    announced: Iterable[Candidate],
    addresses: Sequence[HostAddress],
    own_tunnel_addresses: Iterable[LocalInterface],
    *,
    routes: Iterable[Network] = (),
    own_endpoints: Iterable[Endpoint] = (),
) -> tuple[Candidate, ...]:
    """The candidates worth a check from here, in the order given.

    Private addresses only where one of our interfaces or one of our own routes holds them: a
    machine in a data centre that sends to 192.168.x.y is reported as a scanner. Of `routes` those
    count that lead to private addresses only, so that no default route does. Never an address
    inside the tunnel itself, nor one of ours, nor one that a whole LAN listens to, nor one that
    holds the address of another (6to4 and its like), nor where we are seen ourselves.
    """
    tunnel = [interface.network for interface in own_tunnel_addresses]
    own, own_seen = {address.ip for address in addresses}, set(own_endpoints)
    # A prefix of nothing (0.0.0.0/0, or half of it) says nothing of who is near.
    near = [address.network for address in addresses if address.network.prefixlen > 1]
    near += private_networks(routes)
    admitted = []
    for candidate in announced:
        try:
            address = ipaddress.ip_address(candidate.endpoint.host)
        except ValueError:
            continue
        if candidate.endpoint.port == 0 or address in own or candidate.endpoint in own_seen:
            continue
        if any(address in network for network in tunnel):
            continue
        if any(_is_broadcast(address, network) for network in near):
            continue
        if is_public(address) or (
            _is_private(address) and any(address in network for network in near)
        ):
            admitted.append(candidate)
    return tuple(admitted)


def private_networks(routes: Iterable[Network]) -> tuple[Network, ...]:
    """Those that hold private addresses only: never a default route, nor half of one."""
    return tuple(
        route
        for route in routes
        if any(
            route.version == private.version and route.subnet_of(private)  # type: ignore[arg-type]
            for private in _PRIVATE
        )
    )


def _is_broadcast(address: Address, network: Network) -> bool:
    """Whether it is the first or last of an IPv4 prefix, unless that is a pair (RFC 3021)."""
    return (
        network.version == 4
        and network.prefixlen < 31
        and address in (network.network_address, network.broadcast_address)
    )
