"""Routers that track what nobody asked for ("NATs as measured", 2 to 4): whoever's check comes in
first there has our own leave by another port, until openers, or a fresh socket, avoid it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.sim.guessing import is_sound
from tests.sim.nat import Nat
from tests.sim.world import SERVER_ADDRESS, World
from tunnel.core.events import ServerRegistered
from tunnel.wire.endpoint import Endpoint

SIDES = {"both track": (False, False), "one tracks": (False, True)}
"""Whether a's and b's router drops what nobody asked for."""
FRESH_SOCKET = 2.0
"""Seconds, and six round trips, until an attempt from fresh sockets has brought a pair together."""


def build(
    drops: Sequence[bool], *, delay: float, link: float, order: str = "ab", late: float = 0.0
) -> World:
    """`delay` of each link to the core, `link` of each host's own; the node started last hears of
    its introduction `late` seconds after the other."""
    world = World(delay=delay)
    for name in order:
        world.add_node(name, Nat.linux(drops=drops["ab".index(name)]), delay=link)
    if late:
        hold_back(world, order[-1], late)
    return world


def hold_back(world: World, name: str, seconds: float) -> None:
    """What the server sends within a second of that node's registration comes later."""
    host = world.hosts[name]
    receive = host.receive
    until: list[float] = []

    def note(event: Any) -> None:
        if isinstance(event, ServerRegistered) and not until:
            until.append(world.net.now + 1)

    def hold(datagrams: list[bytes], source: Endpoint, local: int) -> None:
        if source.host == SERVER_ADDRESS and until and world.net.now < until[0]:
            world.net.call_later(seconds, receive, datagrams, source, local)
        else:
            receive(datagrams, source, local)

    host.on_event = note
    host.receive = hold  # type: ignore[method-assign]


def disturb(world: World, which: str, how: Callable[[Nat], None]) -> None:
    for name in which:
        router = world.net.routers[f"nat-{name}0"]
        assert isinstance(router, Nat)
        how(router)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("late", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize(("delay", "link"), [(0.0, 0.0), (0.01, 0.0), (0.01, 0.01), (0.01, 0.05)])
def test_whoever_comes_first(sides: str, late: float, delay: float, link: float) -> None:
    """One side's introduction is late, so that the other's checks arrive before its own leave."""
    round_trip = 4 * (delay + link)
    for order in ("ab", "ba"):
        world = build(SIDES[sides], delay=delay, link=link, order=order, late=late)
        assert world.wait_until_direct(timeout=FRESH_SOCKET + 6 * (round_trip + late)), order
        world.net.run_for(60)
        assert is_sound(world)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("which", ["a", "b", "ab"])
@pytest.mark.parametrize("how", [Nat.flush, Nat.reboot], ids=["same ports", "other ports"])
@pytest.mark.parametrize("streams", [["ab", "ba"], ["ba"]], ids=str)
@pytest.mark.parametrize(("delay", "link"), [(0.0, 0.0), (0.01, 0.01)])
def test_mapping_lost_while_the_peer_keeps_sending(
    sides: str,
    which: str,
    how: Callable[[Nat], None],
    streams: list[str],
    delay: float,
    link: float,
) -> None:
    """Measured, 4: what comes in meanwhile occupies the port. At most the
    packet then under way is lost, and the pair is direct again within a second or two, and some
    round trips where they are long."""
    world = build(SIDES[sides], delay=delay, link=link)
    assert world.wait_until_direct()
    world.net.run_for(5)
    running = [world.stream(*way, duration=6) for way in streams]
    world.net.run_for(2.003)
    disturb(world, which, how)
    world.net.run_for(FRESH_SOCKET + 6 * 4 * (delay + link))
    assert is_sound(world)
    world.net.run_for(5)
    assert is_sound(world)
    for stream in running:
        assert stream.lost <= 1
        assert stream.copies == len(stream.arrivals)
        assert stream.longest_gap < 0.7
