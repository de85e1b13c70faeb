"""Which of our endpoints to announce, and which of a peer's to check."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from tunnel.core.configuration import LocalInterface
from tunnel.wire.candidate import MAX_CANDIDATES, Candidate, CandidateKind
from tunnel.wire.certificate import Network
from tunnel.wire.endpoint import Endpoint

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SHARED = ipaddress.IPv4Network("100.64.0.0/10")
"""Carrier-grade NAT, RFC 6598: as little our neighbour's as 192.168.1.1 is."""


def is_public(address: Address) -> bool:
    """Whether strangers anywhere may be expected to route to it. Documentation and benchmarking
    ranges count as public: nobody uses them but laboratories, and there they are the internet."""
    if address.is_multicast or address.is_loopback or address.is_link_local:
        return False
    if address.is_unspecified or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address not in _SHARED and not any(address in net for net in _PRIVATE_V4)
    return not address.is_site_local and address not in _ULA


_PRIVATE_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in ("0.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "255.255.255.255/32")
)
_ULA = ipaddress.IPv6Network("fc00::/7")


def gather_candidates(
    interfaces: Iterable[LocalInterface],
    port: int,
    reflexive: Iterable[Endpoint],
    mapped: Endpoint | None = None,
) -> tuple[Candidate, ...]:
    """What to announce: our addresses, where servers see us, and what the router forwards."""
    hosts = dict.fromkeys(Endpoint(str(interface.ip), port) for interface in interfaces)
    seen = [endpoint for endpoint in dict.fromkeys(reflexive) if endpoint not in hosts]
    added = [mapped] if mapped is not None and mapped not in [*hosts, *seen] else []
    # A machine full of container bridges must not crowd out where the world sees it.
    announced = [
        Candidate(CandidateKind.HOST, e)
        for e in list(hosts)[: max(0, MAX_CANDIDATES - len(seen) - len(added))]
    ]
    announced += [Candidate(CandidateKind.PORT_MAPPED, endpoint) for endpoint in added]
    announced += [Candidate(CandidateKind.SERVER_REFLEXIVE, endpoint) for endpoint in seen]
    return tuple(announced[:MAX_CANDIDATES])


def admit_candidates(
    announced: Iterable[Candidate],
    interfaces: Sequence[LocalInterface],
    own_tunnel_addresses: Iterable[LocalInterface],
) -> tuple[Candidate, ...]:
    """The candidates worth a check from here.

    Private addresses only where one of our own interfaces shares their prefix: a machine in a data
    centre that sends to 192.168.x.y is reported as a scanner. Never an address inside the tunnel
    itself, nor one of our own, nor one that a whole LAN listens to.
    """
    tunnel = [interface.network for interface in own_tunnel_addresses]
    own = {interface.ip for interface in interfaces}
    admitted = []
    for candidate in announced:
        try:
            address = ipaddress.ip_address(candidate.endpoint.host)
        except ValueError:
            continue
        if candidate.endpoint.port == 0 or address in own:
            continue
        if any(address in network for network in tunnel):
            continue
        if any(_is_broadcast(address, interface.network) for interface in interfaces):
            continue
        if is_public(address) or any(address in i.network for i in interfaces):
            admitted.append(candidate)
    return tuple(admitted)


def _is_broadcast(address: Address, network: Network) -> bool:
    """Whether it is the first or last of an IPv4 prefix, unless that is a pair (RFC 3021)."""
    return (
        network.version == 4
        and network.prefixlen < 31
        and address in (network.network_address, network.broadcast_address)
    )
