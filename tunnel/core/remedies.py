"""What a person can change so that a pair becomes direct, from what is known of one side."""

from __future__ import annotations

from tunnel.wire.nature import MappingState, Nature

RELAY_CARRIES = "the relay carries the traffic meanwhile"


def open_a_port(name: str, nature: Nature | None) -> str:
    """How somebody outside could be let in to the node called `name`; "here" is this one."""
    where = "here" if name == "here" else f"at {name}"
    forwarding = f"forward a UDP port to the machine {where} and start it with --listen-port"
    if nature is None:
        return f"{forwarding}, or run `punchtun doctor` {where}"
    if nature.has_carrier_nat:
        return (
            f"a port forwarded in the router {where} is of no use, a carrier's NAT is before it: "
            "ask the carrier for a public IPv4 address, or for IPv6"
        )
    if nature.port_mapping is MappingState.DOUBLE_NAT or nature.routers > 1:
        return (
            f"two routers translate {where}: put the one nearer to the internet into bridge mode, "
            "or forward the UDP port in both and start the node with --listen-port"
        )
    if nature.port_mapping is MappingState.OFF:
        return f"allow port mapping {where} (without --no-port-mapping), or {forwarding}"
    if nature.port_mapping in (MappingState.UNAVAILABLE, MappingState.REFUSED):
        return f"switch on UPnP, NAT-PMP or PCP in the router {where}, or {forwarding}"
    return forwarding


def use_ipv6(peer: str, ours: Nature, theirs: Nature | None) -> str | None:
    """Whether IPv6, which no NAT translates, is worth a word: it is missing on one side only, or
    on both."""
    if theirs is None or (ours.has_ipv6 and theirs.has_ipv6):
        return None
    if ours.has_ipv6:
        return f"or enable IPv6 at {peer}: it is there here"
    if theirs.has_ipv6:
        return f"or enable IPv6 here: {peer} has it"
    return "or enable IPv6 on both sides"
