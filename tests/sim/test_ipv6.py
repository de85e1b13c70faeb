"""Two address families: both are tried at once, and either will do."""

from __future__ import annotations

import pytest

from tests.sim.dual_stack import SERVER_V6, DualStack
from tests.sim.nat import Filtering, Firewall, Mapping, Nat
from tests.sim.topology import Link
from tests.sim.world import AB, BA, SERVER_ADDRESS
from tunnel.core.events import PathChanged, PathDoubted
from tunnel.wire.candidate import CandidateKind
from tunnel.wire.endpoint import Endpoint


def impossible() -> Nat:
    """Two of these never meet: random ports over the whole range on both sides."""
    return Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)


def varying(world: DualStack) -> None:
    world.add("a", impossible())
    world.add("b", impossible())


def test_firewalls_without_nat_where_ipv4_cannot() -> None:
    world = DualStack()
    varying(world)
    assert world.wait_until_direct(timeout=2)
    world.net.run_for(60)
    assert world.states() == {"direct"}
    assert {world.best(*way).endpoint.is_ipv6 for way in (AB, BA)} == {True}
    assert {world.best(*way).kind for way in (AB, BA)} == {CandidateKind.HOST}


def test_one_side_has_ipv6_only() -> None:
    world = DualStack()
    world.add("a", has_ipv4=False)
    world.add("b", impossible())
    assert world.wait_until_direct(timeout=2)
    assert world.best("a", "b").endpoint.is_ipv6
    registration = world.node("a").registration
    assert registration.link.endpoint == Endpoint(SERVER_V6, 12345)
    assert world.hosts["a"].addresses == [world.hosts["a"].address]


def test_no_family_in_common() -> None:
    """Relayed by the server, which has both; and said so."""
    world = DualStack()
    world.add("a", has_ipv4=False)
    world.add_node("b", Nat())
    assert world.net.run_until_true(lambda: world.states() == {"relayed"}, 5)
    stream = world.stream("a", "b", 20)
    world.net.run_for(60)
    assert world.states() == {"relayed"}
    assert stream.lost == 0
    for name, has, lacks in (("a", "IPv6", "IPv4"), ("b", "IPv4", "IPv6")):
        status = world.node(name).status(world.hosts[name].now)
        why = status["peers"][0]["why_not_direct"]
        assert why["code"] == "no-common-family"
        assert f"{has} only" in why["reason"]
        assert f"{lacks} only" in why["reason"]


@pytest.mark.parametrize("names", [(SERVER_V6, SERVER_ADDRESS), (SERVER_ADDRESS, SERVER_V6)])
@pytest.mark.parametrize("slow", ["IPv4", "IPv6"])
def test_the_other_family_is_announced_too(slow: str, names: tuple[str, str]) -> None:
    """Registered by whichever answers first; the peers hear of both."""
    world = DualStack()
    world.server_names = names
    network6 = Nat()  # Where addresses are translated although there are enough: NAT66.
    world.net.add_router(network6, "nat66", address="2a00:66::1", prefix="fd00:66::")
    for interface in world.server_host.interfaces:
        is_slow = (":" in interface.address) == (slow == "IPv6")
        interface.link.set(delay=0.1 if is_slow else 0.01)
    world.add("a", Nat(), ipv6=network6)
    world.net.run_for(1)
    registration = world.node("a").registration
    assert registration.main_observed is not None
    assert registration.main_observed.is_ipv6 == (slow == "IPv4")
    world.add("b", Nat())
    assert world.net.run_until_true(lambda: world.node("b").find_peer("a") is not None, 5)
    candidates = world.peer("b", "a").traversal.path_table.candidates
    seen = {e.host for e in registration.reflexive_endpoints()}
    assert {"2a00:66::1"} < seen
    assert seen <= {e.host for e in candidates}
    assert len({e.is_ipv6 for e in candidates if e.host in seen}) == 2


def seconds_until_direct(world: DualStack) -> float:
    began = world.net.now
    assert world.wait_until_direct(timeout=5)
    took = world.net.now - began
    world.net.run_for(30)
    assert world.states() == {"direct"}
    assert not world.best("a", "b").endpoint.is_ipv6
    return took


@pytest.mark.parametrize("is_open_outwards", [False, True])
@pytest.mark.parametrize("who", ["a", "b", "ab"])
def test_a_black_hole_instead_of_ipv6_costs_no_timeout(who: str, is_open_outwards: bool) -> None:
    """Its addresses are there; what is sent from them, or to them, is lost."""
    without = DualStack()
    without.add_node("a", Nat())
    without.add_node("b", Nat())
    world = DualStack()
    for name in "ab":
        firewall = world.net.add_router(Firewall(), f"ipv6-{name}")
        if name in who:
            firewall.link.down.up = False
            firewall.link.up.up = is_open_outwards
        world.add(name, Nat(), ipv6=firewall)
    # Who can use IPv6 registers by that; its IPv4 endpoint is learned and told 2 round trips later.
    more = 0.0 if who == "ab" else 0.08
    expected = seconds_until_direct(without) + more
    assert seconds_until_direct(world) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("delay", "is_ipv6"), [(0.06, False), (0.01, True)])
def test_whichever_is_faster_is_used(delay: float, is_ipv6: bool) -> None:
    world = DualStack(delay=0.03)
    for name in "ab":
        firewall = world.net.add_router(Firewall(), f"ipv6-{name}", link=Link(delay))
        world.add(name, Nat(), ipv6=firewall)
    assert world.wait_until_direct(timeout=5)
    streams = [world.stream(*way, 20) for way in (AB, BA)]
    world.net.run_for(21)
    assert world.best("a", "b").endpoint.is_ipv6 == is_ipv6
    assert world.best("b", "a").endpoint.is_ipv6 == is_ipv6
    assert [stream.lost for stream in streams] == [0, 0]


def test_an_idle_pair_stays_on_the_faster_way() -> None:
    world = DualStack(delay=0.03)
    for name in "ab":
        firewall = world.net.add_router(Firewall(), f"ipv6-{name}", link=Link(0.06))
        world.add(name, Nat(), ipv6=firewall)
    assert world.wait_until_direct(timeout=5)
    world.net.run_for(60)
    assert not world.best("a", "b").endpoint.is_ipv6
    assert not world.best("b", "a").endpoint.is_ipv6


def test_ipv6_breaks_under_traffic() -> None:
    """No address goes, no error comes: the path and the way to the server are gone at once."""
    world = DualStack(delay=0.03)
    world.add("a", Nat())
    world.add("b", Nat())
    for name in "ab":
        world.firewalls[name].link.set(delay=0.01)
    assert world.wait_until_direct(timeout=5)
    world.net.run_for(10)
    assert world.best("a", "b").endpoint.is_ipv6
    streams = [world.stream(*way, 20) for way in (AB, BA)]
    world.net.run_for(2)
    world.firewalls["a"].up = False
    world.net.run_for(30)
    assert world.states() == {"direct"}
    assert not world.best("a", "b").endpoint.is_ipv6
    assert [stream.lost for stream in streams] == [0, 0]
    assert max(stream.longest_gap for stream in streams) < 1
    assert world.node("a").registration.is_connected


@pytest.mark.parametrize("who", ["a", "b"])
@pytest.mark.parametrize("filtering", list(Filtering))
def test_a_privacy_address_rotates_under_traffic(filtering: Filtering, who: str) -> None:
    world = DualStack()
    varying(world)
    for firewall in world.firewalls.values():
        firewall.filtering = filtering  # type: ignore[attr-defined]
    assert world.wait_until_direct(timeout=2)
    world.net.run_for(5)
    streams = [world.stream(*way, 60) for way in (AB, BA)]
    world.net.run_for(3)
    for _ in range(3):
        old, new = world.rotate(who)
        world.net.run_for(10)
        other = "b" if who == "a" else "a"
        assert world.states() == {"direct"}
        # What is going away is announced last of all, and tried last.
        candidates = [e.host for e in world.peer(other, who).traversal.path_table.candidates]
        assert candidates.index(new) < candidates.index(old)
        world.expire(who)
        world.net.run_for(6)
        candidates = [e.host for e in world.peer(other, who).traversal.path_table.candidates]
        assert old not in candidates
        assert world.best(other, who).endpoint.host == new
    world.net.run_for(20)
    assert world.states() == {"direct"}
    assert [stream.lost for stream in streams] == [0, 0]
    assert not [e for n in "ab" for e in world.events(n, PathChanged) if e.after == "relay"]


def test_a_privacy_address_rotates_while_idle() -> None:
    world = DualStack()
    varying(world)
    assert world.wait_until_direct(timeout=2)
    world.net.run_for(100)
    world.rotate("a")
    world.net.run_for(100)
    world.expire("a")
    world.net.run_for(100)
    assert world.states() == {"direct"}
    streams = [world.stream(*way, 5) for way in (AB, BA)]
    world.net.run_for(10)
    assert [stream.lost for stream in streams] == [0, 0]
    assert not world.events("b", PathDoubted)
