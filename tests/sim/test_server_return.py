"""The server dies and comes back, having forgotten everything: no tunnel blinks, and the nodes do
not come back all at once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import pytest

from tests.sim.nat import Nat
from tests.sim.trace import DELIVERED
from tests.sim.world import BOTH_WAYS, Stream, World
from tunnel.core.events import PathChanged, PathDoubted, ServerRegistered
from tunnel.core.registration import FIRST_RETRY
from tunnel.core.session import JITTER, RETRANSMIT

PAIRS = 20
SPACING = 0.05
INITIATION_SIZE = 148 + 28
LONGEST_PAUSE = RETRANSMIT[-1] + JITTER
"""Between the initiations of a node that has lost the server."""


def build_fleet() -> tuple[World, list[str]]:
    """Twenty networks of two nodes, each node behind a NAT of its own, 10 to 30 ms from anywhere.
    They start together, as after a power cut in the whole town."""
    world = World(delay=0.005)
    for number in range(PAIRS):
        world.found_another_network()
        for side in "ab":
            nat = Nat(mapping_timeout=120)
            world.add_node(f"{side}{number}", nat, delay=0.005 + 0.0005 * number)
    world.net.run_for(120)
    assert all(world.is_direct(f"a{number}", f"b{number}") for number in range(PAIRS))
    return world, list(world.hosts)


def start_streams(world: World, seconds: float, size: int) -> list[Stream]:
    """Three pairs talk, both ways, with packets of a size of their own."""
    ways = [(f"{x}{number}", f"{y}{number}") for number in range(3) for x, y in BOTH_WAYS]
    return [world.stream(*way, seconds, SPACING, size=size) for way in ways]


def peak(times: Sequence[float], window: float = 0.1) -> int:
    """The most within any such window."""
    times = sorted(times)
    return max(bisect_left(times, at + window) - bisect_right(times, at) + 1 for at in times)


@pytest.mark.parametrize("away", [5.0, 600.0])
def test_back_after(away: float) -> None:
    world, names = build_fleet()
    net = world.net
    interval = max(world.node(name).registration.keepalive_interval for name in names)
    # A short absence goes unnoticed until the next echo; two that fail lead to new keys.
    patience = FIRST_RETRY * (1 + 1.5) + 1
    documented = LONGEST_PAUSE + 0.5 if away > interval else interval + patience
    quiet = net.now
    streams = start_streams(world, 6, size=24)
    net.run_for(2.003)
    world.server_host.stop()
    net.run_for(away - 1)
    streams += start_streams(world, 8, size=28)
    net.run_for(1.003)
    world.start_server()
    back = net.now
    net.run_for(documented)

    assert world.server.status(net.now)["nodes"] == len(names)
    assert all(world.node(name).registration.is_connected for name in names)
    initiations = [
        at
        for at, what, _, where, _, _, size, _ in net.trace.records
        if what == DELIVERED and where == "server" and size == INITIATION_SIZE and at > back
    ]
    assert len(initiations) >= len(names)
    registered = [
        max(at for at, event in world.hosts[name].events if isinstance(event, ServerRegistered))
        for name in names
        if away > interval
    ]
    last = max(registered, default=max(initiations)) - back
    print(
        f"away for {away:.0f} s, echoes every {interval:.0f} s: {len(initiations)} initiations, "
        f"{peak(initiations)} at most in 100 ms; all registered after {last:.2f} s"
    )
    assert peak(initiations) <= len(names) / 4
    assert len(initiations) < 1.5 * len(names)

    net.run_for(5)
    for stream in streams:
        assert len(stream.sent) >= 120
        assert stream.lost == 0
        assert stream.longest_gap < SPACING + 0.01
    for name in names:
        events = [event for at, event in world.hosts[name].events if at > quiet]
        assert not any(isinstance(event, (PathDoubted, PathChanged)) for event in events)


def test_the_relay_is_back_at_once_when_it_is_needed() -> None:
    """Nobody has noticed yet that the server forgot the channel; then the direct path dies."""
    world = World(delay=0.005)
    for name in "ab":
        world.add_node(name, Nat(mapping_timeout=120), delay=0.005)
    assert world.wait_until_direct()
    world.net.run_for(600)
    world.server_host.stop()
    world.net.run_for(1)
    world.start_server()
    stream = world.stream("a", "b", 8)
    world.net.run_for(1.003)
    for source, destination in BOTH_WAYS:
        world.net.block(world.hosts[source], world.hosts[destination])
    world.net.run_for(10)
    print(f"{stream.lost} lost, longest gap {stream.longest_gap:.2f} s")
    assert stream.longest_gap < 2  # the relay was found dead, and is back
    assert stream.lost <= 1
