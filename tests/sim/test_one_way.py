"""The direct path dies in one direction: a hears b and b does not hear a, or the other way round.

An echo proves both directions or none. So both ends doubt at the same moment, whoever sends, and
neither goes on sending into the hole. Server and relay stay reachable throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.sim.nat import Nat
from tests.sim.trace import Why
from tests.sim.world import AB, BA, BOTH_WAYS, Stream, Way, World
from tunnel.core.events import PathChanged, PathDoubted
from tunnel.core.punch_schedule import RETRY_DELAYS
from tunnel.core.traversal import TraversalState


def show(ways: Sequence[Way]) -> str:
    return "+".join(map("".join, ways)) or "idle"


def build(seed: int = 1, rtt: float = 0.04) -> World:
    world = World(seed, delay=0.00025)
    for name in "ab":
        world.add_node(name, Nat(mapping_timeout=120), delay=rtt / 4)
    assert world.wait_until_direct()
    world.net.run_for(5 + 4 * rtt)
    return world


def block(world: World, ways: Sequence[Way]) -> None:
    for source, destination in ways:
        world.net.block(world.hosts[source], world.hosts[destination])


def unblock(world: World, ways: Sequence[Way]) -> None:
    for source, destination in ways:
        world.net.unblock(world.hosts[source], world.hosts[destination])


def is_settled(world: World) -> bool:
    """Direct, and neither end in doubt."""
    return world.is_direct() and all(
        world.peer(*way).traversal.state is TraversalState.DIRECT for way in BOTH_WAYS
    )


def seconds_until_settled(world: World, timeout: float) -> float:
    began = world.net.now
    assert world.net.run_until_true(lambda: is_settled(world), timeout)
    return world.net.now - began


def longest_wait(stream: Stream) -> float:
    return max(at - stream.sent[number] for number, at in stream.arrivals.items())


@pytest.mark.parametrize("ways", [[AB], [BA], [AB, BA]], ids=show)
@pytest.mark.parametrize("senders", [[AB], [BA], [AB, BA]], ids=show)
def test_nothing_is_lost(ways: list[Way], senders: list[Way]) -> None:
    world = build()
    streams = [world.stream(*way, 8) for way in senders]
    world.net.run_for(2.003)
    block(world, ways)
    world.net.run_for(1)
    for name, other in BOTH_WAYS:
        assert len(world.events(name, PathDoubted)) == 1
        assert world.state(name, other) == "direct"  # doubted, and not given up
    world.net.run_for(2)
    assert world.net.trace.dropped_because(Why.BLOCKED) > 20
    unblock(world, ways)
    assert seconds_until_settled(world, timeout=5) < 1
    world.net.run_for(5)
    for stream in streams:
        assert stream.lost == 0
        assert stream.copies == len(stream.arrivals)
        assert longest_wait(stream) < 0.4
    assert not any(event.after == "relay" for event in world.events("a", PathChanged))


def test_nothing_is_lost_on_a_long_path() -> None:
    """Doubt comes after three round trips: 2.1 s, and as many packets are kept."""
    world = build(rtt=0.7)
    stream = world.stream("a", "b", 12)
    world.net.run_for(3.003)
    block(world, [AB])
    world.net.run_for(14)
    assert world.events("a", PathDoubted)
    assert stream.lost == 0
    assert longest_wait(stream) < 4 * 0.7 + 0.35


@pytest.mark.parametrize("ways", [[AB], [BA]], ids=show)
@pytest.mark.parametrize("sender", [AB, BA], ids="".join)
def test_dead_since_an_idle_time(ways: list[Way], sender: Way) -> None:
    """Whoever begins to speak finds out, also if it is the one that can be heard."""
    world = build()
    world.net.run_for(30)
    block(world, ways)
    stream = world.stream(*sender, 3)
    world.net.run_for(4)
    assert stream.lost == 0
    assert longest_wait(stream) < 0.4


def relayed_for(seconds: float, ways: list[Way]) -> tuple[World, Stream, Stream]:
    """A pair under traffic, sparse if it takes long, whose direct path was dead for `seconds`."""
    world = build()
    streams = [world.stream(*way, seconds + 200, seconds / 100) for way in BOTH_WAYS]
    world.net.run_for(2.003)
    block(world, ways)
    world.net.run_for(seconds)
    assert world.states() == {"relayed"}
    unblock(world, ways)
    return world, streams[0], streams[1]


@pytest.mark.parametrize("seconds", [12.0, 40.0, 600.0])
def test_relayed_until_it_is_back(seconds: float) -> None:
    world, *streams = relayed_for(seconds, [AB])
    took = seconds_until_settled(world, timeout=200)
    print(f"dead for {seconds:.0f} s: direct again after {took:.2f} s")
    assert took < RETRY_DELAYS[-1] + 5
    world.net.run_for(1)
    for stream in streams:
        lost = set(range(len(stream.sent))) - set(stream.arrivals)
        assert lost <= {len(stream.sent) - 1}  # It may be under way right now.
        assert longest_wait(stream) < 0.5


@pytest.mark.parametrize("seconds", [12.0, 40.0, 600.0])
@pytest.mark.parametrize("ways", [[AB], [AB, BA]], ids=show)
def test_direct_again_soon(seconds: float, ways: list[Way]) -> None:
    world, *_ = relayed_for(seconds, ways)
    took = seconds_until_settled(world, timeout=200)
    print(f"dead for {seconds:.0f} s: direct again after {took:.2f} s")
    assert took < 1.5
