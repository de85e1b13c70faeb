"""What happens when a path dies: duplicated at once, repaired without a restart."""

from __future__ import annotations

import pytest

from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.world import World
from tunnel.core.configuration import KnownPeer
from tunnel.core.events import (
    PathDoubted,
    PathRepaired,
    RebindWanted,
    ServerLost,
    ServerRegistered,
)


def build(*, seed: int = 1, **nat: object) -> tuple[World, Nat, Nat]:
    world = World(seed)
    nats = Nat(**nat), Nat(**nat)  # type: ignore[arg-type]
    for name, side in zip("ab", nats, strict=True):
        world.add_node(name, side)
    assert world.wait_until_direct()
    world.net.run_for(5)
    return world, *nats


def disturb(nat: Nat, how: str) -> None:
    {"flush": nat.flush, "reboot": nat.reboot}[how]()


@pytest.mark.parametrize("how", ["flush", "reboot"])
@pytest.mark.parametrize("both_sides", [False, True])
@pytest.mark.parametrize("streams", ["ab", "ba", "both"])
def test_mapping_lost_under_traffic(how: str, both_sides: bool, streams: str) -> None:
    world, nat_a, nat_b = build()
    running = [
        world.stream(source, destination, duration=10)
        for source, destination in (("a", "b"), ("b", "a"))
        if streams in (source + destination, "both")
    ]
    world.net.run_for(3)
    disturb(nat_a, how)
    if both_sides:
        disturb(nat_b, how)
    assert world.net.run_until_true(world.is_direct, timeout=3)
    world.net.run_for(10)
    assert world.is_direct()
    for stream in running:
        assert stream.longest_gap < 0.5
        assert stream.lost < 40


@pytest.mark.parametrize("how", ["flush", "reboot"])
def test_mapping_lost_while_idle(how: str) -> None:
    """The side behind the NAT sends: that alone opens the way again."""
    world, nat_a, _ = build()
    world.net.run_for(60)
    disturb(nat_a, how)
    stream = world.stream("a", "b", duration=1)
    world.net.run_for(2)
    assert stream.longest_gap < 0.6
    assert stream.lost < 40
    assert world.net.run_until_true(world.is_direct, timeout=3)


@pytest.mark.parametrize("how", ["flush", "reboot"])
def test_every_mapping_lost_while_idle_and_the_other_side_sends(how: str) -> None:
    """Nobody can reach a host whose NAT has forgotten everything, the server neither, until it
    says something itself: its next keep-alive, 15 s at most, ends the silence."""
    world, nat_a, _ = build()
    world.net.run_for(60)
    disturb(nat_a, how)
    stream = world.stream("b", "a", duration=17)
    world.net.run_for(18)
    assert stream.longest_gap < 0.6  # once it flows
    assert min(stream.arrivals.values()) - stream.sent[0] < 16
    assert world.net.run_until_true(world.is_direct, timeout=3)


def test_direct_mapping_lost_while_idle_and_the_other_side_sends() -> None:
    """The mapping towards the server lives: the relay carries the traffic meanwhile."""
    world, _, _ = build()
    world.net.run_for(60)
    world.net.block(world.hosts["b"], world.hosts["a"])
    stream = world.stream("b", "a", duration=5)
    world.net.run_for(6)
    assert min(stream.arrivals.values()) - stream.sent[0] < 1.0
    assert stream.longest_gap < 0.1


def test_doubt_duplicates_and_the_window_drops_the_copies() -> None:
    """The direct path dies one way only: frames go by the relay too, and arrive once."""
    world, _, _ = build()
    stream = world.stream("a", "b", duration=10)
    world.net.run_for(2)
    world.net.block(world.hosts["a"], world.hosts["b"])
    world.net.run_for(4)
    world.net.unblock(world.hosts["a"], world.hosts["b"])
    world.net.run_for(6)
    assert world.events("a", PathDoubted)
    assert world.events("a", PathRepaired)
    assert stream.copies == len(stream.arrivals)
    assert stream.lost < 40
    assert world.is_direct()


def test_dead_path_falls_back_and_climbs_again() -> None:
    world, _, _ = build()
    for one, other in (("a", "b"), ("b", "a")):
        world.net.block(world.hosts[one], world.hosts[other])
    stream = world.stream("a", "b", duration=60)
    world.net.run_for(30)
    assert world.states() == {"relayed"}
    for one, other in (("a", "b"), ("b", "a")):
        world.net.unblock(world.hosts[one], world.hosts[other])
    assert world.net.run_until_true(world.is_direct, timeout=200)
    world.net.run_for(40)
    assert stream.lost < 60


def test_roaming_to_another_network() -> None:
    world, _, _ = build()
    stream = world.stream("b", "a", duration=10)
    world.net.run_for(2)
    other = world.net.add_router(Nat(), "other")
    world.hosts["a"].move(behind=other)
    world.tell_addresses("a")
    assert world.net.run_until_true(world.is_direct, timeout=5)
    world.net.run_for(10)
    assert stream.longest_gap < 0.6


def test_server_away_and_back() -> None:
    world, _, _ = build()
    world.server_host.stop()
    stream = world.stream("a", "b", duration=120)
    world.net.run_for(60)
    assert world.events("a", ServerLost)
    world.start_server()
    world.net.run_for(61)
    assert world.node("a").registration.is_connected
    assert len(world.events("a", ServerRegistered)) == 2
    assert stream.lost == 0
    assert world.is_direct()


def test_server_away_then_mapping_lost() -> None:
    """With both sides sending, a steady mapping that moves is repaired by the peers alone."""
    world, nat_a, _ = build()
    world.server_host.stop()
    world.net.run_for(30)
    streams = [world.stream("a", "b", duration=10), world.stream("b", "a", duration=10)]
    world.net.run_for(2)
    nat_a.flush()
    world.net.run_for(10)
    assert world.is_direct()
    for stream in streams:
        assert stream.longest_gap < 1.0


def test_node_restarted() -> None:
    world, _, _ = build()
    world.hosts["b"].stop()
    world.net.run_for(2)
    world.start_node("b")
    assert world.net.run_until_true(world.is_direct, timeout=10)
    stream = world.stream("a", "b", duration=2)
    world.net.run_for(3)
    assert stream.lost == 0


def test_cold_start_without_server() -> None:
    """Both know each other's endpoint from before, and no server answers."""
    world = World()
    for name in ("a", "b"):
        world.add_node(name, None)
    assert world.wait_until_direct()
    endpoints = {name: world.hosts[name].endpoint() for name in ("a", "b")}
    world.server_host.stop()
    for name, other in (("a", "b"), ("b", "a")):
        world.hosts[name].stop()
        known = KnownPeer(world.certificate(other), (endpoints[other],))
        world.start_node(name, (known,))
    assert world.wait_until_direct(timeout=20)


def test_good_bye_is_heard() -> None:
    world, _, _ = build()
    world.hosts["b"].call(lambda node, now: node.close(now))
    world.hosts["b"].stop()
    world.net.run_for(1)
    assert world.state("a", "b") == "offline"


def test_suspend_and_resume() -> None:
    world, _, _ = build()
    world.hosts["a"].suspend()
    world.net.run_for(600)
    world.hosts["a"].resume()
    world.tell_addresses("a")
    assert world.net.run_until_true(world.is_direct, timeout=30)
    stream = world.stream("b", "a", duration=2)
    world.net.run_for(3)
    assert stream.lost == 0


@pytest.mark.parametrize("loss", [0.05, 0.1, 0.3])
def test_random_loss_does_not_flap(loss: float) -> None:
    world, _, _ = build()
    for host in world.hosts.values():
        host.link.up.loss = loss
    stream = world.stream("a", "b", duration=60)
    world.net.run_for(62)
    # Doubt may come and go; the path itself stays.
    best = world.peer("a", "b").traversal.best
    assert best is not None
    assert stream.lost <= len(stream.sent) * loss * 1.3
    assert len(world.events("a", PathDoubted)) < 60


def test_varying_pair_stays_relayed_through_a_flush() -> None:
    world = World()
    nats = [Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT) for _ in range(2)]
    for name, nat in zip("ab", nats, strict=True):
        world.add_node(name, nat)
    assert world.net.run_until_true(lambda: world.states() == {"relayed"}, 5)
    stream = world.stream("a", "b", duration=20)
    world.net.run_for(5)
    nats[1].flush()
    world.net.run_for(20)
    assert stream.longest_gap < 20
    assert world.states() == {"relayed"}


@pytest.mark.parametrize("how", ["flush", "reboot"])
@pytest.mark.parametrize("both_sides", [False, True])
@pytest.mark.parametrize("filtering", Filtering)
def test_nothing_is_lost(how: str, both_sides: bool, filtering: Filtering) -> None:
    """New ports on one side or both, at the worst moment, whatever lets the other in: what was sent
    in vain is sent again by the way that works, and the window drops what had arrived."""
    for seed in range(3):
        world, nat_a, nat_b = build(seed=seed, filtering=filtering)
        streams = [world.stream("a", "b", duration=6), world.stream("b", "a", duration=6)]
        world.net.run_for(3.003)
        disturb(nat_a, how)
        if both_sides:
            disturb(nat_b, how)
        world.net.run_for(6)
        assert world.is_direct()
        for stream in streams:
            assert stream.lost == 0
            assert stream.copies == len(stream.arrivals)
            assert stream.longest_gap < 0.4


def test_a_fresh_port_after_repeated_failure() -> None:
    """It is asked for when punch after punch has failed, not oftener than every five minutes; and
    the pair finds together from the new port."""
    world = World()
    for name in ("a", "b"):
        world.add_node(name, Nat.linux())
    for one, other in (("a", "b"), ("b", "a")):
        world.net.block(world.hosts[one], world.hosts[other])
    assert world.net.run_until_true(lambda: bool(world.events("a", RebindWanted)), timeout=600)
    world.net.run_for(250)
    assert len(world.events("a", RebindWanted)) == 1
    for one, other in (("a", "b"), ("b", "a")):
        world.net.unblock(world.hosts[one], world.hosts[other])
    world.hosts["a"].rebind()
    world.tell_addresses("a")
    assert world.wait_until_direct(timeout=10)


def test_a_run_of_lost_packets_is_asked_for_again() -> None:
    """Shorter than any echo would notice, as when the peer's own echo reopens its mapping."""
    world, _, _ = build()
    stream = world.stream("a", "b", duration=4)
    world.net.run_for(2.005)
    world.net.block(world.hosts["a"], world.hosts["b"])
    world.net.run_for(0.06)
    world.net.unblock(world.hosts["a"], world.hosts["b"])
    world.net.run_for(4)
    assert stream.lost == 0
    assert stream.copies == len(stream.arrivals)
