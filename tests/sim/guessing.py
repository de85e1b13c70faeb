"""Pairs that only prediction or guessing brings together, and what is to be watched meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.sim.nat import Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.world import World
from tunnel.core.fresh_sockets import FIRST_FRESH
from tunnel.core.traversal import TraversalState

BY_PORT, BY_ADDRESS = Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.ADDRESS_DEPENDENT
MAX_TABLE = 512
"""Entries that a router must never need for us."""


def _block(size: int, mapping: Mapping = BY_PORT) -> Callable[[], Nat]:
    return lambda: Nat(mapping, allocation=Allocation.RANDOM_IN_BLOCK, block_size=size)


KINDS: dict[str, Callable[[], Nat]] = {
    "steady": Nat,
    "linux": Nat.linux,
    "tracks": lambda: Nat.linux(drops=False),
    "sequential": lambda: Nat(BY_PORT, allocation=Allocation.SEQUENTIAL),
    "random": lambda: Nat(BY_PORT),
    "block64": _block(64),
    "block512": _block(512),
    "block2048": _block(2048),
    "random by address": lambda: Nat(BY_ADDRESS),
    "block512 by address": _block(512, BY_ADDRESS),
}


def build(*sides: str, seed: int = 1, loss: float = 0.0, may_guess: bool = True) -> World:
    """Nodes a, b, … behind these kinds; `home+carrier` is a chain from the inside out."""
    world = World(seed, may_guess=may_guess)
    for name, side in zip("abcdefgh", sides, strict=False):
        world.add_node(name, [KINDS[kind]() for kind in side.split("+")])
    for host in world.hosts.values():
        host.link.set(loss=loss)
    return world


def peak(world: World) -> int:
    """The most entries that any router ever had."""
    return max(router.peak_entries for router in world.net.routers.values())  # type: ignore[attr-defined]


def is_sound(world: World, *ways: Sequence[str]) -> bool:
    """Whether those pairs are direct in both directions, without any doubt."""
    return all(
        world.peer(*way).traversal.state is TraversalState.DIRECT
        for one, other in ways or ["ab"]
        for way in ((one, other), (other, one))
    )


def fresh_sockets(world: World, name: str) -> set[int]:
    """The numbers of sockets opened for attempts, and not closed."""
    return {local for local in world.hosts[name].sockets if local >= FIRST_FRESH}


def locals_in_use(world: World, name: str) -> set[int]:
    """Those of them that a path goes through."""
    peers = world.node(name).peers
    used = {local for peer in peers for local in peer.traversal.locals_in_use}
    return {local for local in used if local >= FIRST_FRESH}
