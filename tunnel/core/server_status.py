"""Who is at the server, by network, for its owner: ``punchtun server status`` and the page.

Of a network the server knows a tag; whoever has that, and the access token, could ask for
introductions in it. So it is shown under a name that is made of it, and that nobody turns back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from heapq import nlargest
from typing import Any

from tunnel.core.relay_tally import RelayTally
from tunnel.noise.primitives import blake2s

MAX_SHOWN = 20
"""Networks told one by one."""


def describe_networks(
    networks: Mapping[bytes, Sized], tally: RelayTally, now: float
) -> dict[str, Any]:
    """`networks`: tag → nodes. Takes time proportional to the networks."""

    def busyness(tag: bytes) -> tuple[int, int, int, bytes]:
        _, relayed_pairs, relayed_bytes = tally.read(tag, now)
        return relayed_bytes, relayed_pairs, len(networks[tag]), tag

    busiest = []
    for tag in nlargest(MAX_SHOWN, networks, key=busyness):
        pairs, relayed_pairs, relayed_bytes = tally.read(tag, now)
        busiest.append(
            {
                "id": shown_name(tag),
                "nodes": len(networks[tag]),
                "pairs": pairs,
                "relayed_pairs": relayed_pairs,
                "relayed_bytes": relayed_bytes,
            }
        )
    return {"relayed_pairs": tally.count(now), "busiest_networks": busiest}


def shown_name(tag: bytes) -> str:
    """8 hex digits."""
    return blake2s(b"punchtun: a network's name for the server's owner\0" + tag)[:4].hex()
