"""Introducing two nodes to each other, by the server."""

from __future__ import annotations

from tunnel.core.registrant import Registrant
from tunnel.wire.rendezvous import Introduction

MAX_START = 2000
"""Milliseconds that the nearer one waits at most."""


def introduce_pair(one: Registrant, other: Registrant, now: float) -> None:
    """Tell each of the other, to start at the same moment: whoever is nearer waits."""
    farther = max(one.rtt, other.rtt)
    for node, peer in ((one, other), (other, one)):
        observed = peer.observed
        if observed is None:
            continue
        introduction = Introduction(
            serial=node.next_serial(),
            start=min((farther - node.rtt) // 2000, MAX_START),
            peer_rtt=min(peer.rtt, 0xFFFFFFFF),
            channel=node.channels.get(peer.key.data, 0),
            peer=peer.key.data,
            observed=observed,
            announcement=peer.announcement,
        )
        node.notify(introduction, now)
