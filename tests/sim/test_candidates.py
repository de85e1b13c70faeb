"""Which endpoints are announced and checked, in whole networks; every datagram is counted."""

from __future__ import annotations

import ipaddress

import pytest

from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.topology import Link, Router
from tests.sim.world import AB, BA, World
from tunnel.core.candidates import is_public
from tunnel.core.node import Node
from tunnel.wire.candidate import CandidateKind
from tunnel.wire.endpoint import Endpoint


def private_targets(world: World, name: str) -> set[str]:
    """Where it has sent anything that no stranger may be expected to route."""
    hosts = {endpoint.host for endpoint in world.net.trace.destinations[name]}
    return {host for host in hosts if not is_public(ipaddress.ip_address(host))}


def change_routes(world: World, name: str, *prefixes: str) -> None:
    """As netlink reports it."""
    routes = [ipaddress.ip_network(prefix) for prefix in prefixes]
    world.hosts[name].routes = list(prefixes)

    def tell(node: Node, now: float) -> None:
        node.routes_changed(routes, now)

    world.hosts[name].call(tell)


# Private candidates


@pytest.mark.parametrize("roams", [False, True])
def test_a_vps_never_sends_to_private_addresses(roams: bool) -> None:
    world = World()
    home = world.net.add_router(Nat(), "home")
    world.add_node("a", None)
    world.add_node("b", behind=home)
    world.add_node("c", [Nat(), Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT)])
    assert world.wait_until_direct()
    change_routes(world, "a", "0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/0")
    world.net.run_for(5)
    if roams:
        cafe = world.net.add_router(Nat(), "cafe")
        world.hosts["b"].move(behind=cafe)
        world.tell_addresses("b")
        world.net.run_for(5)
        home.flush()
    world.net.run_for(300)
    assert world.states() == {"direct"}
    assert private_targets(world, "a") == set()


def test_a_laptop_that_leaves_the_lan_leaves_its_addresses() -> None:
    """It is told of none but its peers' new endpoints, and goes on checking none of the old."""
    world = World()
    home = world.net.add_router(Nat(), "home")
    cafe = world.net.add_router(Nat(), "cafe")
    for name in "ab":
        world.add_node(name, behind=home)
    world.add_node("c", behind=home)
    for pair in ("ab", "ac", "bc"):
        assert world.wait_until_direct(*pair)
    # c has no path to a that would have to be echoed.
    world.peer("a", "c").traversal.forget_paths()
    world.hosts["a"].move(behind=cafe)
    before = world.net.trace.destinations["a"].copy()
    world.tell_addresses("a")
    world.net.run_for(60)
    assert world.wait_until_direct("a", "c")
    news = world.net.trace.destinations["a"] - before
    neighbours = {world.hosts[name].address for name in "bc"}
    sent = {e: n for e, n in news.items() if e.host in neighbours}
    best = world.hosts["b"].endpoint()
    assert set(sent) <= {best}, "nothing but echoes of the path that was in use"


@pytest.mark.parametrize("is_told_later", [False, True])
@pytest.mark.parametrize("hairpin", [False, True])
def test_two_segments_behind_one_router(hairpin: bool, is_told_later: bool) -> None:
    """Joined by a route, each host has one to the other's: they connect inside."""
    world = World()
    home = world.net.add_router(Nat(hairpin=hairpin), "home", prefix="192.168.1.")
    world.add_node("a", behind=home)
    segment = world.net.add_router(
        Router(), "segment", behind=home, prefix="192.168.2.", link=Link(0.0005)
    )
    world.add_node("b", behind=segment)
    if not is_told_later:
        change_routes(world, "a", "192.168.2.0/24")
        change_routes(world, "b", "192.168.1.0/24")
    world.net.run_for(10)
    if is_told_later:
        expected = {"direct"} if hairpin else {"relayed"}
        assert world.states() == expected
        change_routes(world, "a", "192.168.2.0/24")
        change_routes(world, "b", "192.168.1.0/24")
        assert world.wait_until_direct(timeout=1)
        world.net.run_for(10)
    streams = [world.stream(*way, 5) for way in (AB, BA)]
    world.net.run_for(6)
    for one, other in ("ab", "ba"):
        best = world.peer(one, other).traversal.best
        assert best is not None
        assert best.endpoint == world.hosts[other].endpoint()
    assert [stream.lost for stream in streams] == [0, 0]


def test_without_a_route_another_segment_is_a_strangers() -> None:
    world = World()
    home = world.net.add_router(Nat(), "home", prefix="192.168.1.")
    world.add_node("a", behind=home)
    world.add_node("b", behind=world.net.add_router(Router(), behind=home, prefix="192.168.2."))
    change_routes(world, "a", "192.168.77.0/24")
    world.net.run_for(60)
    assert world.states() == {"relayed"}
    assert private_targets(world, "a") == private_targets(world, "b") == set()


@pytest.mark.parametrize("hairpin", [False, True])
def test_one_lan_whatever_the_router_does(hairpin: bool) -> None:
    world = World()
    home = world.net.add_router(Nat(hairpin=hairpin, filtering=Filtering(0)), "home")
    for name in "ab":
        world.add_node(name, behind=home)
    assert world.wait_until_direct(timeout=2)
    world.net.run_for(10)
    for one, other in ("ab", "ba"):
        best = world.peer(one, other).traversal.best
        assert best is not None
        assert best.endpoint == world.hosts[other].endpoint()
        assert best.kind is CandidateKind.HOST


# Server-reflexive candidates


def test_where_the_second_port_sees_a_varying_mapping() -> None:
    """It is told when checking the others has been in vain, and not before."""
    world = World(may_guess=False)
    world.add_node("a", Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT))
    world.add_node("b", Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT))
    announced = world.server.introductions
    world.net.run_for(20)
    assert world.states() == {"relayed"}
    observed = world.node("a").registration.observed
    first, second = observed[0, False], observed[1, False]
    assert first != second
    peer = world.peer("b", "a")
    kinds = {candidate.endpoint: candidate.kind for candidate in peer.announced}
    assert kinds[first] is CandidateKind.SERVER_REFLEXIVE
    assert kinds[second] is CandidateKind.ALTERNATE_REFLEXIVE
    checked = peer.traversal.path_table.candidates
    assert checked.index(first) < checked.index(second)
    assert world.net.trace.destinations["b"][second] > 0
    assert world.server.introductions - announced < 10


def test_an_alternate_candidate_connects_where_the_first_port_is_the_exception() -> None:
    """A router that preserves ports, and where the port was taken towards the server's first one:
    by what came in from there before. Everybody else sees the port itself."""
    world = World(may_guess=False)
    nat = Nat(allocation=Allocation.PRESERVING, tracks_unsolicited=True, shares_ports=True)
    nat.mapping = Mapping.ADDRESS_AND_PORT_DEPENDENT
    world.net.add_router(nat, "home")
    home = nat.addresses[0]
    taken = [Endpoint(home, port) for port in range(32768, 61000)]
    server = Endpoint(world.server_host.address, 12345)
    for endpoint in taken:
        nat.inbound(server, endpoint, 0.0)
    world.add_node("a", behind=nat)
    world.add_node("b", Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ENDPOINT_INDEPENDENT))
    strict = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
    world.add_node("c", strict)
    world.net.run_for(0.5)
    observed = world.node("a").registration.observed
    own = world.hosts["a"].endpoint().port
    assert observed[0, False].port != own
    assert observed[1, False].port == own
    assert world.wait_until_direct("a", "c", timeout=10)
    best = world.peer("c", "a").traversal.best
    assert best is not None
    assert best.endpoint == Endpoint(home, own)


def test_one_announcement_where_the_mapping_is_steady() -> None:
    world = World()
    world.add_node("a", Nat())
    world.add_node("b", Nat())
    assert world.wait_until_direct()
    world.net.run_for(2000)
    kinds = [c.kind for c in world.node("a")._announcer.candidates or ()]
    assert kinds == [CandidateKind.HOST, CandidateKind.SERVER_REFLEXIVE]
    assert world.server.introductions <= 4
