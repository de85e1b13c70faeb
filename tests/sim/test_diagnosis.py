"""Reasons as nodes give them in networks that are known to be so; both ends agree."""

from __future__ import annotations

import pytest

from tests.sim.nat import Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.streams import VirtualStreams
from tests.sim.world import World
from tunnel.core.diagnosis import Diagnosis


def varying() -> Nat:
    return Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.RANDOM)


def diagnose(world: World, name: str, of: str) -> Diagnosis:
    found = world.node(name).diagnose(world.peer(name, of), world.hosts[name].now)
    assert found is not None, f"{name} has a direct path to {of}"
    return found


def codes(world: World) -> tuple[str, str]:
    return diagnose(world, "a", "b").code, diagnose(world, "b", "a").code


def test_both_draw_from_the_whole_range() -> None:
    world = World()
    world.add_node("a", varying())
    world.add_node("b", varying())
    world.net.run_for(30)
    assert codes(world) == ("both-scattered", "both-scattered")
    # And it stays so, whatever is tried meanwhile.
    for _ in range(30):
        world.net.run_for(47)
        assert codes(world) == ("both-scattered", "both-scattered")
    evidence = diagnose(world, "a", "b").evidence
    assert any(sentence.startswith("at b: mapping address-and-port") for sentence in evidence)


def test_guessing_is_off() -> None:
    world = World(may_guess=False)
    world.add_node("a", varying())
    world.add_node("b", Nat())
    world.net.run_for(30)
    assert codes(world) == ("guessing-off", "guessing-off")


def test_behind_one_carrier_without_hairpinning() -> None:
    world = World()
    carrier = world.net.add_router(Nat(), "carrier")
    for name in "ab":
        behind = world.net.add_router(Nat(), f"home-{name}", behind=carrier)
        world.add_node(name, behind=behind)
    world.net.run_for(30)
    assert codes(world) == ("same-nat-no-hairpin", "same-nat-no-hairpin")


def test_udp_is_blocked() -> None:
    world = World()
    world.add_node("a", Nat())
    world.add_node("b", Nat())
    VirtualStreams(world.net, world.server_host, *world.hosts.values())
    assert world.wait_until_direct()
    world.net.block_udp(world.hosts["a"])
    world.net.run_for(60)
    assert codes(world) == ("udp-blocked", "peer-udp-blocked")


def test_a_firewall_between() -> None:
    world = World()
    world.add_node("a", Nat())
    world.add_node("b", Nat())
    world.net.run_for(0.005)
    for source, destination in (("a", "b"), ("b", "a")):
        world.net.block(world.hosts[source], world.hosts[destination])
    world.net.run_for(60)
    assert codes(world) == ("nothing-arrives", "nothing-arrives")


def test_offline_and_without_server() -> None:
    world = World()
    world.add_node("a", Nat())
    world.add_node("b", Nat())
    assert world.wait_until_direct()
    world.hosts["b"].call(lambda node, now: node.close(now))
    world.hosts["b"].stop()
    world.net.run_for(5)
    assert diagnose(world, "a", "b").code == "peer-offline"
    world.server_host.stop()
    world.net.run_for(200)
    assert diagnose(world, "a", "b").code == "server-unreachable"


@pytest.mark.parametrize("error", [-3600.0, 0.0, 120.0])
def test_the_clock_is_compared_with_the_servers(error: float) -> None:
    world = World()
    world.server_host.wall_clock_error = -error
    world.add_node("a", Nat())
    world.net.run_for(5)
    status = world.node("a").status(world.hosts["a"].now)
    assert status["server"]["clock_offset_s"] == pytest.approx(error, abs=0.2)
