"""What a port that the home router forwards is worth: a pair that cannot punch goes direct."""

from __future__ import annotations

from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.world import World
from tunnel.core.events import PathChanged
from tunnel.wire.candidate import CandidateKind
from tunnel.wire.endpoint import Endpoint


def relayed_pair(seed: int = 1) -> tuple[World, Nat]:
    """A varying mapping, and filtering by address and port: relayed, for all that punching can."""
    world = World(seed)
    strict = Filtering.ADDRESS_AND_PORT_DEPENDENT
    varying = Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, strict)
    world.add_node("a", varying)
    world.add_node("b", Nat(Mapping.ENDPOINT_INDEPENDENT, strict))
    assert world.net.run_until_true(lambda: world.states() == {"relayed"}, 5)
    return world, varying


def map_port(world: World, nat: Nat, port: int = 40123) -> Endpoint:
    host = world.hosts["a"]
    external = nat.forward(port, host.endpoint())
    host.call(lambda node, now: node.set_mapped_endpoint(external, now))
    return external


def announced(world: World) -> list[tuple[CandidateKind, Endpoint]]:
    """What b would be told of a now: by the server, which a member asks."""
    (candidates,) = [world.node("a")._announcer.candidates]
    return [(c.kind, c.endpoint) for c in candidates or ()]


def test_a_mapped_port_makes_a_relayed_pair_direct_at_once() -> None:
    world, nat = relayed_pair()
    external = map_port(world, nat)
    assert world.wait_until_direct(timeout=1)
    assert (CandidateKind.PORT_MAPPED, external) in announced(world)
    change = world.events("b", PathChanged)[-1]
    assert change.after == f"port-mapped {external}"
    world.net.run_for(600)
    assert world.is_direct()


def test_who_starts_later_is_told_by_the_server() -> None:
    world = World()
    strict = Filtering.ADDRESS_AND_PORT_DEPENDENT
    nat = Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, strict)
    world.add_node("a", nat)
    world.net.run_for(1)
    external = map_port(world, nat)
    world.net.run_for(1)
    world.add_node("b", Nat(Mapping.ENDPOINT_INDEPENDENT, strict))
    assert world.wait_until_direct(timeout=5)
    assert world.peer("b", "a").traversal.best is not None
    assert str(external) in world.events("b", PathChanged)[-1].after


def test_what_is_no_longer_forwarded_is_no_longer_announced() -> None:
    world, nat = relayed_pair()
    external = map_port(world, nat)
    assert world.wait_until_direct(timeout=1)
    before = world.node("a").registration._sequence
    world.hosts["a"].call(lambda node, now: node.set_mapped_endpoint(None, now))
    assert external not in [endpoint for _, endpoint in announced(world)]
    assert world.node("a").registration._sequence == before + 1


def test_the_same_again_is_no_news() -> None:
    world, nat = relayed_pair()
    external = map_port(world, nat)
    before = world.node("a").registration._sequence
    world.hosts["a"].call(lambda node, now: node.set_mapped_endpoint(external, now))
    assert world.node("a").registration._sequence == before


def test_a_mapping_to_where_the_server_sees_us_anyhow_is_announced_once() -> None:
    world = World()
    world.add_node("a", Nat())
    world.net.run_for(1)
    seen = world.node("a").registration.main_observed
    world.hosts["a"].call(lambda node, now: node.set_mapped_endpoint(seen, now))
    assert [endpoint for _, endpoint in announced(world)].count(seen) == 1  # type: ignore[arg-type]
