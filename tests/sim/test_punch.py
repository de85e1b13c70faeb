"""Two nodes, two NATs, a server: from start to a direct path, in virtual time."""

from __future__ import annotations

from itertools import product

import pytest

from tests.sim.nat import Filtering, Firewall, Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.theory import Side, direct_is_possible
from tests.sim.world import World
from tunnel.core.events import PathChanged
from tunnel.core.registrant import NOTICE_RETRY

BEHAVIOURS = list(product(Mapping, Filtering))


def build(a: Side, b: Side, seed: int = 1, *, may_guess: bool = True) -> World:
    world = World(seed, may_guess=may_guess)
    world.add_node("a", a)
    world.add_node("b", b)
    return world


def test_relay_first_then_direct() -> None:
    world = build(Nat(), Nat())
    assert world.wait_until_direct(timeout=2)
    changes = world.events("a", PathChanged)
    assert [(change.before, change.after.split()[0]) for change in changes] == [
        ("relay", "server-reflexive")
    ]


def test_first_packet_is_answered_through_the_relay() -> None:
    """A packet sent before there are keys is kept, and goes out once there are."""
    varying = Mapping.ADDRESS_AND_PORT_DEPENDENT
    world = build(Nat(varying), Nat(varying))
    assert world.net.run_until_true(lambda: world.node("a").find_peer("b") is not None, 2)
    world.hosts["a"].send_packet(world.packet("a", "b"))
    assert world.net.run_until_true(lambda: bool(world.hosts["b"].packets_received), 1)
    world.net.run_for(20)
    assert world.states() == {"relayed"}


def test_direct_traffic_does_not_touch_the_server() -> None:
    world = build(Nat(), Nat())
    assert world.wait_until_direct()
    world.net.run_for(5)
    before = world.server.relay.forwarded_datagrams
    stream = world.stream("a", "b", duration=5)
    world.net.run_for(6)
    assert (stream.lost, world.server.relay.forwarded_datagrams) == (0, before)


@pytest.mark.parametrize("allocation", Allocation)
def test_every_pair_of_behaviours_ends_as_theory_says(allocation: Allocation) -> None:
    """All 81 pairs, with the real core: direct where simultaneous sending can be, else relayed."""
    wrong = []
    for a, b in product(BEHAVIOURS, repeat=2):
        nats = Nat(*a, allocation), Nat(*b, allocation)
        world = build(*nats, may_guess=False)
        is_direct = world.wait_until_direct(timeout=8)
        if is_direct != direct_is_possible(*nats):
            wrong.append((a, b, is_direct))
        elif not is_direct:
            assert world.states() == {"relayed"}, (a, b)
    assert not wrong


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([Nat(), Nat()], Nat()),
        ([Nat(), Nat()], [Nat(), Nat()]),
        (None, [Nat(), Nat()]),
        (None, None),
        (Nat.linux(), Nat.linux(drops=False)),
        (Nat.linux(drops=False), Nat.linux(drops=False)),
        (Firewall(), Firewall()),
        (Firewall(), [Nat(), Nat(Mapping.ADDRESS_DEPENDENT, Filtering.ADDRESS_DEPENDENT)]),
    ],
    ids=str,
)
def test_chains_firewalls_and_public_hosts(a: Side, b: Side) -> None:
    world = build(a, b, may_guess=False)
    assert world.wait_until_direct() is direct_is_possible(a, b)


def test_one_lan_is_crossed_inside() -> None:
    """No hairpin: only their LAN addresses connect two hosts behind one NAT."""
    world = World()
    home = world.net.add_router(Nat(hairpin=False), "home")
    world.add_node("a", behind=home)
    world.add_node("b", behind=home)
    assert world.wait_until_direct()
    best = world.peer("a", "b").traversal.best
    assert best is not None
    assert best.endpoint.host in world.hosts["b"].addresses


def test_no_check_goes_to_a_private_address_without_a_neighbour() -> None:
    """A public host never sends to the private candidates of a peer behind NAT."""
    world = build(None, Nat())
    assert world.wait_until_direct()
    world.net.run_for(30)
    lan = world.hosts["b"].address
    targets = {path.endpoint.host for path in world.peer("a", "b").traversal.paths()}
    assert lan not in targets


def test_without_relay_the_pair_still_meets_where_it_can() -> None:
    world = World(relay=False)
    world.add_node("a", None)
    world.add_node("b", Nat())
    assert world.wait_until_direct(timeout=15)


@pytest.mark.parametrize("loss", [0.05, 0.2, 0.4])
def test_loss_delays_but_does_not_prevent(loss: float) -> None:
    for seed in range(5):
        world = build(Nat(), Nat(), seed)
        for host in world.hosts.values():
            host.link.set(loss=loss)
        assert world.wait_until_direct(timeout=300), seed


@pytest.mark.parametrize("name", ["a", "b"])
def test_out_of_reach_when_the_other_came(name: str) -> None:
    """For longer than the server repeats itself, and shorter than it remembers the node."""
    other = "b" if name == "a" else "a"
    world = World()
    world.add_node(name, Nat())
    world.net.run_for(5)
    world.hosts[name].link.set(loss=1.0)
    world.add_node(other, Nat())
    world.net.run_for(sum(NOTICE_RETRY) + 5)
    world.hosts[name].link.set(loss=0.0)
    assert world.wait_until_direct(timeout=120)


@pytest.mark.parametrize("delay", [0.0005, 0.05, 0.35])
def test_near_and_far(delay: float) -> None:
    """From a LAN to two satellite hops."""
    world = World(delay=0.0)
    world.add_node("a", Nat(), delay=delay)
    world.add_node("b", Nat(), delay=delay)
    assert world.wait_until_direct(timeout=30)
    began = len(world.peer("a", "b").outages)
    stream = world.stream("a", "b", duration=20)
    world.net.run_for(30)
    assert stream.lost == 0
    assert len(world.peer("a", "b").outages) == began


def test_a_network_of_ten() -> None:
    world = World()
    names = [f"n{number}" for number in range(10)]
    for name in names:
        world.add_node(name, Nat())
    pairs = [(x, y) for x in names for y in names if x < y]
    assert world.net.run_until_true(lambda: all(world.is_direct(x, y) for x, y in pairs), 20)


def test_a_virtual_hour_of_idling() -> None:
    world = build(Nat(), Nat())
    assert world.wait_until_direct()
    world.net.run_for(3600)
    assert world.states() == {"direct"}
    assert len(world.events("a", PathChanged)) == 1


def test_same_seed_same_trace() -> None:
    digests = []
    for seed in (7, 7, 8):
        world = build(Nat(), Nat(Mapping.ADDRESS_DEPENDENT), seed)
        for host in world.hosts.values():
            host.link.set(loss=0.2, jitter=0.005)
        world.stream("a", "b", duration=5)
        world.net.run_for(120)
        digests.append(world.net.trace.digest())
    assert digests[0] == digests[1] != digests[2]
