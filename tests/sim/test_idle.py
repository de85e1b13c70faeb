"""A pair that says nothing for an hour: still there, at once, and cheap.

A fault under test is that of the first moment: the direct path is dead when the first packet goes.
"""

from __future__ import annotations

import pytest

from tests.sim.nat import Nat
from tests.sim.trace import DAY
from tests.sim.world import AB, BA, BOTH_WAYS, Way, World
from tunnel.core.events import PathDoubted


def build(lifetime: float, seed: int = 1, aegis: bool = True) -> World:
    """A direct pair that has measured its NATs' lifetime."""
    world = World(seed, delay=0.00025)
    world.without_aegis = set() if aegis else {"a"}
    for name in "ab":
        nat = Nat(mapping_timeout=lifetime, stream_timeout=lifetime)
        world.add_node(name, nat, delay=0.01)
    assert world.wait_until_direct()
    world.net.run_for(1200)
    return world


def bytes_a_day(world: World, name: str, seconds: float) -> float:
    """Sent and received by one node, server included."""
    before = world.net.trace.statistics[name].bytes
    world.net.run_for(seconds)
    return (world.net.trace.statistics[name].bytes - before) * DAY / seconds


@pytest.mark.parametrize(
    ("lifetime", "senders"),
    [(30.0, [AB, BA]), (60.0, [AB]), (60.0, [BA]), (120.0, [AB, BA])],
)
def test_the_relay_is_warm(lifetime: float, senders: list[Way]) -> None:
    world = build(lifetime)
    world.net.run_for(3600)
    assert world.is_direct()
    assert not world.events("a", PathDoubted)
    for source, destination in BOTH_WAYS:
        world.net.block(world.hosts[source], world.hosts[destination])
    streams = [world.stream(*way, 2) for way in senders]
    world.net.run_for(3)
    for stream in streams:
        assert stream.lost == 0
        first = stream.arrivals[0] - stream.sent[0]
        print(f"lifetime {lifetime:.0f} s: first packet after {first * 1000:.0f} ms")
        assert first < 0.3


@pytest.mark.parametrize("idle", [1.0, 40.0, 3600.0])
def test_dead_for_some_time_before_the_first_packet(idle: float) -> None:
    world = build(60)
    for source, destination in BOTH_WAYS:
        world.net.block(world.hosts[source], world.hosts[destination])
    world.net.run_for(idle)
    streams = [world.stream(*way, 2) for way in BOTH_WAYS]
    world.net.run_for(3)
    for stream in streams:
        assert stream.lost == 0
        assert stream.arrivals[0] - stream.sent[0] < 0.3


@pytest.mark.parametrize(
    ("lifetime", "aegis", "most", "with_server"),
    [
        (30.0, False, 1.0, 1.9),
        (60.0, False, 0.7, 1.15),
        (120.0, False, 0.5, 0.75),
        # 16 bytes more of tag in every frame.
        (30.0, True, 1.2, 2.1),
        (60.0, True, 0.8, 1.3),
        (120.0, True, 0.55, 0.8),
    ],
)
def test_about_a_megabyte_a_day(
    lifetime: float, aegis: bool, most: float, with_server: float
) -> None:
    """Between the two, each datagram once. And what one node sends and receives in all."""
    world = build(lifetime, aegis=aegis)
    statistics = world.net.trace.statistics
    server = statistics["server"].bytes_received
    sent = {name: statistics[name].bytes_sent for name in "ab"}
    spent = bytes_a_day(world, "a", 3600)
    between = sum(statistics[name].bytes_sent - sent[name] for name in "ab")
    between -= statistics["server"].bytes_received - server
    keepalive = world.node("a").lifetime.keepalive_interval
    print(
        f"lifetime {lifetime:.0f} s: every {keepalive:.1f} s, {between * 24 / 1e6:.2f} MB a day "
        f"between the two, {spent / 1e6:.2f} MB by one node"
    )
    assert world.is_direct()
    assert between * 24 < most * 1e6
    assert spent < with_server * 1e6


def test_long_lifetimes_keep_their_keys() -> None:
    """Keep-alives are up to 110 s apart, keys live 180 s."""
    world = build(300)
    for _ in range(60):
        world.net.run_for(20)
        assert world.is_direct()
    stream = world.stream("b", "a", 5, 0.1)
    world.net.run_for(6)
    assert stream.lost == 0


def test_traffic_that_ends_shortly_before_new_keys_are_due() -> None:
    """An ordinary Linux NAT: the next keep-alive comes when the keys have expired."""
    world = World()
    for name in "ab":
        world.add_node(name, Nat.linux(), delay=0.01)
    assert world.wait_until_direct()
    world.net.run_for(1200)
    session = world.peer("a", "b").session
    assert world.net.run_until_true(lambda: (session.handshake_age(world.net.now) or 9) < 1, 200)
    world.stream("a", "b", 113, 0.5)
    world.net.run_for(113 + 300)
    assert world.is_direct()
    stream = world.stream("b", "a", 5, 0.1)
    world.net.run_for(6)
    assert stream.lost == 0


@pytest.mark.parametrize(
    "age",
    [
        30,
        100,
        145,
        160,
    ],
)
def test_the_path_dies_and_the_keys_expire_unnoticed(age: float) -> None:
    """A firewall's new rule in the middle of the night; `age` is that of the keys. The next
    keep-alive would find out, and may come when there are no keys left to seal it with."""
    world = build(300)
    session = world.peer("a", "b").session
    while not age <= (session.handshake_age(world.net.now) or 0) < age + 1:
        world.net.run_for(1)
    for source, destination in BOTH_WAYS:
        world.net.block(world.hosts[source], world.hosts[destination])
    world.net.run_for(900)
    assert world.states() == {"relayed"}
    stream = world.stream("b", "a", 5, 0.1)
    world.net.run_for(6)
    assert stream.lost == 0
