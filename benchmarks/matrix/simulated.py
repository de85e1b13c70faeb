"""A pair in the simulator: the real core, in virtual time."""

from __future__ import annotations

from typing import Any

from tests.sim.trace import SENT
from tests.sim.world import World
from tunnel.core.events import ServerRegistered

from .pairs import Pair


def play(pair: Pair, repetition: int, give_up: float) -> dict[str, Any]:
    """Start both nodes, wait until both are direct or `give_up` virtual seconds have passed."""
    world = World(seed=repetition + 1)
    routers = pair.simulate(world)
    direct = world.wait_until_direct(timeout=give_up)
    server = world.server_host.address
    sent = sum(
        1
        for _, what, _, where, _, to, _, _ in world.net.trace.records
        if what == SENT and where in ("a", "b") and to is not None and to.host != server
    )
    return {
        "direct": direct,
        "seconds": world.net.now if direct else None,
        "seconds_registered": world.net.now - _registered_at(world) if direct else None,
        "sent": sent,
        "peaks": [max((nat.peak_entries for nat in side), default=0) for side in routers],
        "why": [] if direct else [_why(world, *names) for names in ("ab", "ba")],
    }


def _registered_at(world: World) -> float:
    """When the server knew both, for the first time."""
    return max(
        next(at for at, event in host.events if isinstance(event, ServerRegistered))
        for host in world.hosts.values()
    )


def _why(world: World, name: str, of: str) -> str:
    status: Any = world.node(name).status(world.hosts[name].now)
    for peer in status["peers"]:
        if peer["name"] == of:
            why = peer["why_not_direct"]
            return f"{why['reason']} ({why['evidence']})" if why else "direct, but too late"
    return "never heard of the peer"
