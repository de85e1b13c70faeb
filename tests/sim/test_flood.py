"""A node that is flooded, and reads but a part of what strangers send: nobody is kept out."""

from __future__ import annotations

import pytest

from tests.sim.nat import Nat
from tests.sim.world import World
from tunnel.core.events import FloodBegan, FloodEnded
from tunnel.core.sieve import CALM
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.handshake import INITIATION, INITIATION_LENGTH

STRANGE = bytes([INITIATION]) + bytes(INITIATION_LENGTH - 1)
STRANGER = Endpoint("192.0.2.66", 666)


def build(seed: int = 1) -> tuple[World, Nat, Nat]:
    world = World(seed)
    nats = Nat(), Nat()
    for name, side in zip("ab", nats, strict=True):
        world.add_node(name, side)
    assert world.wait_until_direct()
    world.net.run_for(5)
    return world, *nats


def sieve_all(world: World, *names: str) -> None:
    """As under a flood without end, and nothing of what is left to chance has luck."""
    for name in names:
        world.hosts[name].sieve_share = 0.0
        world.hosts[name].settle()


def flood(world: World, rate: float, seconds: float) -> None:
    until, each = world.net.now + seconds, 0.01
    while world.net.now < until:
        world.hosts["a"].receive([STRANGE] * round(rate * each), STRANGER, 0)
        world.net.run_for(each)


def test_a_pair_talks_on_under_a_flood() -> None:
    world, _, nat_b = build()
    stream = world.stream("b", "a", duration=20)
    flood(world, 6000, 3.0)
    assert len(world.events("a", FloodBegan)) == 1
    status = world.node("a").status(world.hosts["a"].now)["node"]["flood"]
    assert status["read_share"] < 0.2
    assert world.node("a").drops["flood"] > 0, "what waited when it began"
    assert 5000 < status["datagrams_per_s"] < 7000
    nat_b.reboot()
    flood(world, 6000, 3.0)
    assert world.is_direct()
    world.net.run_for(CALM + 20)
    assert stream.lost < 40
    assert stream.longest_gap < 0.5
    (ended,) = world.events("a", FloodEnded)
    assert 30_000 < ended.datagrams < 42_000
    assert world.node("a").status(world.hosts["a"].now)["node"]["flood"] is None


@pytest.mark.parametrize("sieved", ["a", "b", "ab"])
@pytest.mark.parametrize("how", ["flush", "reboot"])
def test_a_mapping_is_lost(sieved: str, how: str) -> None:
    world, nat_a, _ = build()
    sieve_all(world, *sieved)
    running = [world.stream(*way, duration=10) for way in ("ab", "ba")]
    world.net.run_for(3)
    {"flush": nat_a.flush, "reboot": nat_a.reboot}[how]()
    assert world.net.run_until_true(world.is_direct, timeout=3)
    world.net.run_for(10)
    assert world.is_direct()
    for stream in running:
        assert stream.longest_gap < 0.5
        assert stream.lost < 40


@pytest.mark.parametrize("sieved", ["a", "b", "ab"])
def test_a_node_roams(sieved: str) -> None:
    world, _, _ = build()
    sieve_all(world, *sieved)
    stream = world.stream("b", "a", duration=10)
    world.net.run_for(2)
    world.hosts["a"].move(behind=world.net.add_router(Nat(), "other"))
    world.tell_addresses("a")
    assert world.net.run_until_true(world.is_direct, timeout=5)
    world.net.run_for(10)
    assert stream.longest_gap < 0.6


@pytest.mark.parametrize("way", ["ab", "ba"])
def test_keys_are_replaced(way: str) -> None:
    """Whichever of the two has something to say."""
    world, _, _ = build()
    sieve_all(world, "a", "b")
    stream = world.stream(*way, duration=600, interval=0.5)
    world.net.run_for(600)
    assert world.is_direct()
    assert stream.lost < 5
    assert world.peer("a", "b").session.handshakes > 3


@pytest.mark.parametrize("sieved", ["a", "b"])
def test_the_server_is_gone_and_keys_are_replaced(sieved: str) -> None:
    world, _, _ = build()
    sieve_all(world, *sieved)
    world.server_host.stop()
    world.net.run_for(30)
    stream = world.stream("a", "b", duration=400, interval=0.5)
    world.net.run_for(401)
    assert world.is_direct()
    assert stream.lost < 5


@pytest.mark.parametrize("sieved", ["a", "b"])
def test_a_peer_starts_again(sieved: str) -> None:
    world, _, _ = build()
    sieve_all(world, sieved)
    other = "b" if sieved == "a" else "a"
    world.hosts[other].stop()
    world.net.run_for(60)
    world.start_node(other)
    assert world.wait_until_direct(timeout=10)


def test_somebody_new_comes() -> None:
    world, _, _ = build()
    sieve_all(world, "a", "b")
    world.add_node("c", Nat())
    assert world.wait_until_direct("a", "c")
    assert world.wait_until_direct("b", "c")


def test_the_server_starts_again() -> None:
    world, _, _ = build()
    sieve_all(world, "a", "b")
    world.server_host.stop()
    world.net.run_for(60)
    world.start_server()
    world.net.run_for(150)
    assert world.node("a").registration.is_connected
    world.add_node("c", Nat())
    assert world.wait_until_direct("a", "c")
