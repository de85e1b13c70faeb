"""What a router has granted, believed as far as it makes sense."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from tunnel.core.candidates import is_public
from tunnel.core.mapping_request import Granted
from tunnel.wire.endpoint import Endpoint

LONGEST_LIFETIME = 86400
"""Seconds. RFC 6887 §15: more is not to be relied on."""
SHORTEST_LIFETIME = 8
"""Seconds. Less would have us ask all the time; RFC 6887 §15 wants two minutes."""
SHORTEST_RENEWAL = 4.0
"""Seconds between two requests at least (RFC 6887 §11.2.1)."""
UPNP_RENEWAL = 600.0
"""Seconds between renewals at most: an IGD does not tell when it has forgotten everything."""

_BEFORE_A_NAT = tuple(
    ipaddress.IPv4Network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)


class Lease(NamedTuple):
    protocol: str
    external: Endpoint
    expires_at: float
    renew_at: float
    is_reachable: bool
    """False: the external address is private, so there is another NAT before the router."""

    def next_renewal(self, now: float) -> float:
        """When to ask again after silence: half of what is left (RFC 6887 §11.2.1)."""
        return now + max((self.expires_at - now) / 2, SHORTEST_RENEWAL)


def make_lease(granted: Granted, protocol: str, now: float) -> Lease:
    """With a lifetime within bounds, for what has no fault."""
    lifetime = min(max(granted.lifetime, SHORTEST_LIFETIME), LONGEST_LIFETIME)
    renewal = max(lifetime / 2, SHORTEST_RENEWAL)
    if protocol == "upnp":
        renewal = min(renewal, UPNP_RENEWAL)
    is_reachable = is_public(ipaddress.IPv4Address(granted.external.host))
    return Lease(protocol, granted.external, now + lifetime, now + renewal, is_reachable)


def find_fault(granted: Granted) -> str | None:
    """Why the mapping is of no use at all, if so."""
    host, port = granted.external
    if granted.lifetime == 0:
        return "granted for 0 s"
    if port == 0:
        return "granted external port 0"
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return f"its external address {host!r} is no IPv4 address"
    if address.is_unspecified:
        return "the router has no external address"
    if not is_public(address) and not any(address in network for network in _BEFORE_A_NAT):
        return f"its external address {host} is of no use"
    return None
