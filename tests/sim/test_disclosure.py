"""Peers tell each other what they know of themselves: in time, seldom, and to whoever restarts."""

from __future__ import annotations

import pytest

from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.world import World
from tunnel.core.disclosure import MAX_ASKS, REPEAT_AFTER, SPACING
from tunnel.wire.nature import Behaviour, MappingState, Nature


def varying() -> Nat:
    return Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.RANDOM)


def pair(a: Nat, b: Nat, seed: int = 1) -> World:
    world = World(seed)
    world.add_node("a", a)
    world.add_node("b", b)
    return world


def nature(world: World, name: str) -> Nature:
    return world.node(name).disclosure.nature(world.hosts[name].now)


def knows(world: World, name: str, of: str) -> bool:
    return world.peer(name, of).nature == nature(world, of)


def know_each_other(world: World) -> bool:
    return knows(world, "a", "b") and knows(world, "b", "a")


def test_both_know_of_each_other() -> None:
    world = pair(varying(), Nat(filtering=Filtering.ADDRESS_DEPENDENT))
    world.net.run_for(10)
    assert world.net.run_until_true(lambda: know_each_other(world), 60)
    known = world.peer("b", "a").nature
    assert known is not None
    assert known.mapping is Behaviour.ADDRESS_AND_PORT_DEPENDENT
    assert known.filtering is Behaviour.ADDRESS_AND_PORT_DEPENDENT
    assert known.has_nat


@pytest.mark.parametrize("seed", range(20))
def test_what_gets_lost_is_told_again(seed: int) -> None:
    """A third of the datagrams from one to the other. What a node knows of itself then may be less,
    and that is what the other knows of it."""
    world = pair(varying(), Nat(filtering=Filtering.ADDRESS_DEPENDENT), seed)
    for host in world.hosts.values():
        host.link.set(loss=0.2)
    world.net.run_for(20)
    assert world.net.run_until_true(lambda: know_each_other(world), 60)


def test_it_is_told_when_it_changes_and_not_more_often_than_that() -> None:
    world = pair(varying(), Nat())
    world.net.run_for(60)
    told: list[bytes] = []
    disclosure = world.node("a").disclosure
    take = disclosure.take_messages

    def watched() -> list:  # type: ignore[type-arg]
        messages = take()
        told.extend(payload for _, payload in messages)
        return messages

    disclosure.take_messages = watched  # type: ignore[method-assign]
    world.net.run_for(600)
    assert told == []
    for state in (MappingState.SEARCHING, MappingState.REFUSED, MappingState.MAPPED) * 20:
        disclosure.port_mapping = state
        world.hosts["a"].call(lambda node, now: node.disclosure.wake(now))
        world.net.run_for(0.5)
    assert 2 <= len(told) <= 30 / SPACING + 30 / REPEAT_AFTER
    world.net.run_for(30)
    known = world.peer("b", "a").nature
    assert known is not None
    assert known.port_mapping is MappingState.MAPPED


def test_a_peer_that_has_restarted_is_told_and_asked_anew() -> None:
    world = pair(Nat(), Nat())
    assert world.wait_until_direct()
    world.net.run_for(30)
    world.start_node("b")
    assert world.net.run_until_true(lambda: world.state("b", "a") == "direct", 20)
    assert world.net.run_until_true(lambda: knows(world, "b", "a"), REPEAT_AFTER + 10)


def test_a_peer_of_an_older_version_is_asked_a_few_times() -> None:
    world = pair(Nat(), Nat())
    disclosure = world.node("b").disclosure
    disclosure.handle_timer = lambda peers, now: None  # type: ignore[method-assign]
    disclosure.get_timer = lambda: None  # type: ignore[method-assign]
    heard: list[Nature] = []
    disclosure.receive = lambda nature, peer, now: heard.append(nature)  # type: ignore
    assert world.wait_until_direct()
    world.net.run_for(3600)
    assert sum(nature.wants_answer for nature in heard) <= MAX_ASKS + 3
    assert world.peer("a", "b").nature is None
