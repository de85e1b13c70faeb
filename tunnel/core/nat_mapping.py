"""The mapping behaviour of our NAT (RFC 4787 section 4.1), from who sees one socket of ours where.

The reasoning is that of RFC 5780 section 4.3, with witnesses of our own: the server's two ports, a
second address of it where there is one, and peers that we reach directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunnel.wire.endpoint import Endpoint

INDEPENDENT = "endpoint-independent"
ADDRESS = "address-dependent"
ADDRESS_AND_PORT = "address-and-port-dependent"
"""RFC 4787's words, for mapping and for filtering."""


class Observation(NamedTuple):
    destination: Endpoint
    """Whom we sent to."""
    observed: Endpoint
    """Where that one sees us."""


class Mapping(NamedTuple):
    behaviour: str | None
    """None: not known yet."""
    evidence: tuple[str, ...]


def classify_mapping(observations: Sequence[Observation]) -> Mapping:
    """What follows from what was observed of one socket of ours since its mapping last moved.

    The first observation is the server's at the port we register with. If two ports of its address
    see different endpoints, the mapping depends on the port. If only addresses differ, one witness
    at another address that agrees outweighs those that do not: mappings of which each address gets
    its own agree by chance only, while a single entry that occupies its port in some table makes an
    otherwise steady NAT look different to one peer.
    """
    evidence = tuple(f"{o.destination} sees {o.observed}" for o in observations)
    by_host: dict[str, list[Endpoint]] = {}
    for observation in observations:
        by_host.setdefault(observation.destination.host, []).append(observation.observed)
    if len(observations) < 2:
        return Mapping(None, evidence)
    server, *others = by_host.values()
    if _differ(server) or (len(server) == 1 and any(map(_differ, others))):
        return Mapping(ADDRESS_AND_PORT, evidence)
    if not others:
        return Mapping(INDEPENDENT, (*evidence, "only one address was asked"))
    agreeing = [seen for seen in others if server[0] in seen]
    if not agreeing:
        return Mapping(ADDRESS, evidence)
    if len(agreeing) < len(others) or any(map(_differ, agreeing)):
        evidence += ("who sees us elsewhere is taken for one towards whom our port was occupied",)
    return Mapping(INDEPENDENT, evidence)


def _differ(seen: Sequence[Endpoint]) -> bool:
    return len(set(seen)) > 1
