"""Without a server, peers tell each other where others are."""

from __future__ import annotations

import pytest

from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.world import World
from tunnel.core.configuration import KnownPeer
from tunnel.core.node import Node
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import Seen, Where
from tunnel.wire.endpoint import Endpoint


def build(seed: int = 1, *, witnesses: int = 1, **nat: object) -> tuple[World, Nat, Nat]:
    """a and b behind NATs, public machines w0, w1, ..., all direct; the server has died."""
    world = World(seed)
    nats = Nat(**nat), Nat(**nat)  # type: ignore[arg-type]
    for name, side in zip("ab", nats, strict=True):
        world.add_node(name, side)
    names = [f"w{number}" for number in range(witnesses)]
    for name in names:
        world.add_node(name)
    for name in ["b", *names]:
        assert world.wait_until_direct("a", name), name
    for name in names:
        assert world.wait_until_direct("b", name), name
    world.net.run_for(20)
    world.server_host.stop()
    return world, *nats


@pytest.mark.parametrize("how", ["flush", "reboot"])
@pytest.mark.parametrize("filtering", list(Filtering))
@pytest.mark.parametrize("both_sides", [False, True])
def test_repaired_by_a_witness(how: str, filtering: Filtering, both_sides: bool) -> None:
    world, nat_a, nat_b = build(filtering=filtering)
    streams = [world.stream("a", "b", 10), world.stream("b", "a", 10)]
    world.net.run_for(2)
    for nat in (nat_a, nat_b) if both_sides else (nat_a,):
        getattr(nat, how)()
    assert world.net.run_until_true(lambda: not world.is_direct() or _in_doubt(world), 2) or True
    world.net.run_for(3)
    assert world.is_direct()
    assert not _in_doubt(world)
    world.net.run_for(6)
    for stream in streams:
        assert stream.longest_gap < 2.5
        arrived = sorted(stream.arrivals)
        assert arrived[-1] == len(stream.sent) - 1
        assert stream.lost <= 100


def _in_doubt(world: World) -> bool:
    return any(world.peer(name, of).traversal.state.value == "doubt" for name, of in ("ab", "ba"))


def test_without_a_witness_it_stays_lost() -> None:
    """What the test above shows is the witness's work: such NATs let nobody in by themselves."""
    world, nat_a, _ = build(witnesses=0, filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT)
    world.stream("a", "b", 30)
    world.stream("b", "a", 30)
    world.net.run_for(2)
    nat_a.reboot()
    world.net.run_for(25)
    assert world.states() != {"direct"}
    world.start_server()
    assert world.wait_until_direct(timeout=60)


def test_a_machine_that_starts_finds_everybody_through_one() -> None:
    """It knows all by certificate, but only the public one still is where it was."""
    world, _, nat_b = build()
    known = world.peer("a", "w0").traversal.best
    assert known is not None
    world.hosts["b"].machine = None
    nat_b.reboot()
    remembered = (
        KnownPeer(world.certificate("a"), (Endpoint("203.0.113.77", 7),)),
        KnownPeer(world.certificate("w0"), (known.endpoint,)),
    )
    world.start_node("b", remembered)
    assert world.wait_until_direct("b", "w0", 5)
    assert world.wait_until_direct("b", "a", 5)


def test_answers_are_bounded() -> None:
    """However much a member asks, the witness sends little, and nothing about strangers."""
    world, *_ = build()
    before = world.net.trace.statistics["w0"].datagrams_sent
    asker = world.peer("w0", "a")
    key = world.peer("w0", "b").key.data

    def ask(node: Node, now: float) -> None:
        for _ in range(1000):
            node._witness.answer(Where(key), asker, Endpoint("192.0.2.1", 1), now)
            node._witness.answer(Where(bytes(32)), asker, Endpoint("192.0.2.1", 1), now)

    world.hosts["w0"].call(ask)
    world.net.run_for(0.01)
    assert world.net.trace.statistics["w0"].datagrams_sent - before <= 50


def test_a_lying_member_moves_nothing() -> None:
    """It names a victim: that gets a bounded number of checks, and the path stays."""
    world, *_ = build()
    victim = world.net.add_host("victim", "198.51.100.66", ports=(9,))
    best = world.peer("a", "b").traversal.best
    liar = world.peer("a", "w0")
    stream = world.stream("a", "b", 5)

    def lie(node: Node, now: float) -> None:
        member = world.peer("a", "b").key.data
        node._witness.learn(Seen(member, Endpoint("198.51.100.66", 9)), liar, now)

    for tenth in range(50):
        world.net.call_later(tenth / 10, world.hosts["a"].call, lie)
    world.net.run_for(6)
    assert world.peer("a", "b").traversal.best is best
    assert stream.lost == 0
    assert world.net.trace.statistics["victim"].datagrams_received <= 24 * 6
    assert victim.machine is None


def test_private_endpoints_are_not_believed() -> None:
    world, *_ = build(mapping=Mapping.ENDPOINT_INDEPENDENT)
    liar = world.peer("a", "w0")
    peer = world.peer("a", "b")

    def lie(node: Node, now: float) -> None:
        for host in ("10.1.2.3", "127.0.0.1", "224.0.0.1"):
            node._witness.learn(Seen(peer.key.data, Endpoint(host, 9)), liar, now)

    world.hosts["a"].call(lie)
    told = {
        Candidate(CandidateKind.PEER_REFLEXIVE, e).endpoint.host
        for e in peer.traversal.path_table.candidates
    }
    assert not told & {"10.1.2.3", "127.0.0.1", "224.0.0.1"}
