"""Keep-alives from the measured lifetime of the mapping."""

from __future__ import annotations

import pytest

from tests.sim.nat import Nat
from tests.sim.world import World
from tunnel.core.events import PathDoubted
from tunnel.core.lifetime import KEEPALIVE_CEILING


def build(lifetime: float, *, loss: float = 0.0) -> World:
    world = World()
    for name in ("a", "b"):
        nat = Nat(mapping_timeout=lifetime, stream_timeout=lifetime)
        host = world.add_node(name, nat) and world.hosts[name]
        host.link.set(loss=loss)
    assert world.wait_until_direct()
    return world


@pytest.mark.parametrize("lifetime", [11, 12, 30, 35, 60, 65, 120])
def test_ten_idle_minutes(lifetime: float) -> None:
    """The path never breaks, and a packet from either side arrives at once."""
    world = build(lifetime)
    world.net.run_for(600)
    assert not world.events("a", PathDoubted) + world.events("b", PathDoubted)
    streams = [world.stream("a", "b", duration=1), world.stream("b", "a", duration=1)]
    world.net.run_for(2)
    assert [stream.lost for stream in streams] == [0, 0]


@pytest.mark.parametrize(
    ("lifetime", "measured"), [(13, 12), (30, 27), (60, 50), (83, 82), (120, 100), (300, 150)]
)
def test_measured_lifetime(lifetime: float, measured: float) -> None:
    world = build(lifetime)
    world.net.run_for(900)
    probe = world.node("a").lifetime
    assert probe.lifetime == measured
    assert probe.keepalive_interval == min(0.75 * measured, KEEPALIVE_CEILING)
    assert world.node("a").status(world.net.now)["nat"]["keepalive_s"] == probe.keepalive_interval


def test_too_short_for_any_step() -> None:
    world = build(9)
    world.net.run_for(300)
    probe = world.node("a").lifetime
    assert (probe.lifetime, probe.is_exact, probe.keepalive_interval) == (None, True, 8.0)


def test_linux_timeouts() -> None:
    """30 s until traffic went both ways for longer than 2 s, then 120 s."""
    world = World()
    for name in ("a", "b"):
        world.add_node(name, Nat(mapping_timeout=30, stream_timeout=120, stream_after=2))
    assert world.wait_until_direct()
    world.net.run_for(900)
    assert world.node("a").lifetime.lifetime == 100
    assert not world.events("a", PathDoubted)


def test_measuring_survives_loss() -> None:
    world = build(120, loss=0.05)
    world.net.run_for(1800)
    assert (world.node("a").lifetime.lifetime or 0) >= 35


def test_forgotten_when_the_network_changes() -> None:
    world = build(300)
    world.net.run_for(900)
    other = world.net.add_router(Nat(mapping_timeout=14, stream_timeout=14), "other")
    world.hosts["a"].move(behind=other)
    world.tell_addresses("a")
    assert world.node("a").lifetime.lifetime is None
    world.net.run_for(200)
    assert world.node("a").lifetime.keepalive_interval == 9.0


def test_idle_cost() -> None:
    """Bytes a day of a settled pair, both ways, server included: below 1 MB."""
    world = build(300)
    world.net.run_for(1200)
    before = world.net.trace.statistics["a"].bytes
    world.net.run_for(3600)
    spent = world.net.trace.statistics["a"].bytes - before
    assert spent * 24 < 1_000_000
