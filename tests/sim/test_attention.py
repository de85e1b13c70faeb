"""A thousand idle peers cost nothing, and nobody is forgotten for that."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from types import FrameType
from typing import Any

import pytest

from tests.sim.attention import check_attention, wanted
from tests.sim.nat import Mapping, Nat
from tests.sim.star import HUB, Star
from tests.sim.world import World
from tunnel.core.attention import Attention
from tunnel.core.peer import Peer


class Counted:
    """A machine, and how many functions each call of it has called."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.calls: defaultdict[str, list[int]] = defaultdict(list)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.machine, name)
        if not callable(call):
            return call

        def counted(*arguments: Any) -> Any:
            number = 0

            def note(frame: FrameType, event: str, argument: Any) -> None:
                nonlocal number
                number += event == "call"  # Also for each item that a generator yields.

            sys.setprofile(note)
            try:
                return call(*arguments)
            finally:
                sys.setprofile(None)
                self.calls[name].append(number)

        return counted


def count_calls(peers: int) -> dict[str, float]:
    """Method of the node → functions called by one call of it, with traffic both ways to one of so
    many peers, of which the others are idle."""
    star = Star(peers, 60.0, is_examined=False)
    host = star.hosts[HUB]
    counted = Counted(host.machine)
    streams = [star.stream(*way, 3.0) for way in ((HUB, "n1"), ("n1", HUB))]
    star.net.run_for(1.5)  # Whatever begins with traffic has begun.
    host.machine = counted
    star.net.run_for(2.5)
    assert [stream.lost for stream in streams] == [0, 0]
    return {name: statistics.median(calls) for name, calls in counted.calls.items()}


def test_an_input_costs_the_same_among_many_peers() -> None:
    few, many = count_calls(2), count_calls(80)
    print(few, many)
    assert set(few) >= {"send_packets", "receive_datagrams", "handle_timer", "get_timer"}
    for name, calls in few.items():
        assert many[name] <= calls + 20, name


def restless(seed: int, nat: Nat | None) -> World:
    """Four nodes, and what may happen to them in half an hour."""
    world = World(seed)
    for name in "abcd":
        world.add_node(name, Nat() if name != "d" else nat)
    world.net.run_for(20)
    world.stream("a", "b", 20)
    world.net.run_for(5)
    world.net.routers["nat-a0"].flush()  # type: ignore[attr-defined]
    world.net.run_for(60)
    world.start_server()
    world.net.run_for(300)
    world.net.block(world.hosts["a"], world.hosts["b"])
    world.net.run_for(120)
    world.start_node("b")
    world.net.run_for(400)
    world.server_host.stop()
    world.net.run_for(200)
    world.hosts["c"].call(lambda node, now: node.close(now))
    world.net.run_for(400)
    return world


SYMMETRIC = Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT)


@pytest.mark.parametrize("nat", [Nat(), SYMMETRIC, None], ids=["home", "symmetric", "none"])
def test_no_timer_is_hidden(nat: Nat | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not due has nothing to do: woken all the same, it wants nothing, and its timer is what
    it was."""
    take_due = Attention.take_due
    woken = 0

    def wake_everybody(attention: Attention[Peer], now: float) -> list[Peer]:
        nonlocal woken
        due = take_due(attention, now)
        for peer in [p for p in attention._planned if p not in attention._touched]:
            timer = peer.get_timer()
            peer.handle_timer(now)
            assert not [*wanted(peer)], (now, peer.name)
            assert peer.get_timer() == timer, (now, peer.name)
            woken += 1
        return due

    monkeypatch.setattr(Attention, "take_due", wake_everybody)
    restless(1, nat)
    assert woken > 10_000


def test_a_peer_that_is_forgotten_is_found() -> None:
    """The check after every input can fail: for a wish, and for a timer."""
    world = World()
    for name in "ab":
        world.add_node(name, Nat())
    assert world.wait_until_direct()
    world.net.run_for(30)
    node, peer = world.node("a"), world.peer("a", "b")
    check_attention(node)
    peer.traversal.schedule.start(world.hosts["a"].now)
    with pytest.raises(AssertionError, match="b was not touched"):
        check_attention(node)
    peer.touch()
    check_attention(node)
    world.hosts["a"].call(lambda node, now: node.handle_timer(now))
    peer.traversal.wishes.wants_witness = True
    with pytest.raises(AssertionError, match="b was not touched"):
        check_attention(node)


def test_with_another_port_every_pair_is_punched() -> None:
    world = World()
    for name in "abc":
        world.add_node(name, Nat())
    world.net.run_for(30)
    peers = [world.peer("a", of) for of in "bc"]
    punches = [peer.traversal.punches for peer in peers]
    host = world.hosts["a"]
    port = host.rebind()
    host.call(lambda node, now: node.rebound(port, now))
    assert all(p.traversal.punches > before for p, before in zip(peers, punches, strict=True))
    assert world.wait_until_direct()


def test_packets_for_one_that_is_gone_go_on_calling_it() -> None:
    """For longer than one handshake is repeated."""
    world = World(relay=False)
    for name in "ab":
        world.add_node(name)
    assert world.wait_until_direct()
    world.hosts["b"].stop()
    world.net.run_for(600)
    world.stream("a", "b", 300.0, 0.1)
    there = world.hosts["b"].address
    for _ in range(6):
        before = world.net.trace.destinations["a"].copy()
        world.net.run_for(50)
        news = world.net.trace.destinations["a"] - before
        assert sum(n for endpoint, n in news.items() if endpoint.host == there) >= 5
