"""Guessing in a network: what must not happen while it does its work."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.sim.guessing import (
    KINDS,
    MAX_TABLE,
    build,
    fresh_sockets,
    is_sound,
    locals_in_use,
    peak,
)
from tests.sim.nat import Nat
from tunnel.wire.check import Refusal


def test_one_side_switched_off() -> None:
    """In either order, and whoever asks: the one that may not guess sends to no guessed port."""
    for sides in (("steady", "random"), ("random", "steady")):
        for seed in range(3):
            world = build(sides[0], seed=seed, may_guess=False)
            world._may_guess = True
            world.add_node("b", KINDS[sides[1]]())
            world.net.run_for(120)
            assert world.states() == {"relayed"}
            assert world.node("a").guessing.record(world.peer("a", "b")).refusal is Refusal.OFF
            assert world.net.routers["nat-a0"].peak_entries < 64  # type: ignore[attr-defined]


def test_a_path_through_a_fresh_socket_says_nothing_of_our_mapping() -> None:
    """The peer sees it elsewhere than the server sees the main socket; the NAT is steady all the
    same, and the next attempt must not take it for one that maps by address."""
    world = build("tracks", "tracks")
    assert world.wait_until_direct()
    world.net.run_for(1200)
    for router in list(world.net.routers.values()):
        assert isinstance(router, Nat)
        router.reboot()
        world.stream("a", "b", duration=10)
        world.stream("b", "a", duration=10)
        world.net.run_for(60)
        assert is_sound(world)
    assert fresh_sockets(world, "a") != set()
    mapping = world.node("a").nat.mapping(world.hosts["a"].now)
    assert mapping.behaviour == "endpoint-independent", mapping.evidence


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_pairs_at_once_do_not_keep_each_other_busy(seed: int) -> None:
    """All ask at the same moment, and most are busy; yet every pair that can ends direct."""
    world = build("linux", "sequential", "block512", "random", seed=seed)
    possible = [pair for pair in combinations("abcd", 2) if pair not in (("b", "d"), ("c", "d"))]
    assert world.net.run_until_true(lambda: all(world.is_direct(*p) for p in possible), 900)
    assert peak(world) < MAX_TABLE
    world.net.run_for(100)
    for name in world.hosts:
        assert fresh_sockets(world, name) == locals_in_use(world, name)
