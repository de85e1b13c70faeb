"""What nodes make of refusals: direct paths need no relay, and people are told why."""

from __future__ import annotations

from typing import Any

from tests.sim.nat import Mapping, Nat
from tests.sim.test_diagnosis import codes, diagnose
from tests.sim.world import World
from tunnel.core.events import RelayRefused, ServerLost
from tunnel.core.periods import DAY, Period
from tunnel.core.relay_allowance import Quota


def status(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = world.node(name).status(world.hosts[name].now)
    return found


def is_relayed(world: World) -> bool:
    return any(peer["state"] == "relayed" for peer in status(world, "a")["peers"])


def separate(world: World) -> None:
    """a and b reach the server, and not each other."""
    for source, destination in (("a", "b"), ("b", "a")):
        world.net.block(world.hosts[source], world.hosts[destination])


def test_a_pair_becomes_direct_though_nothing_is_relayed() -> None:
    world = World(limits={"relay_quota": Quota(1, Period.DAY)})
    world.add_node("a", Nat())
    world.add_node("b", Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT))
    world.add_node("c")
    assert world.wait_until_direct("a", "c")
    assert world.wait_until_direct("b", "c")
    assert world.server.relay.forwarded_bytes == 0
    assert len(world.events("a", RelayRefused)) == 1


def test_a_quota_that_is_used_up_is_explained_and_ends() -> None:
    world = World(limits={"relay_quota": Quota(20_000, Period.DAY)})
    world.add_node("a", Nat())
    world.add_node("b", Nat())
    world.net.run_for(0.005)
    separate(world)
    assert world.net.run_until_true(lambda: is_relayed(world), 10)
    stream = world.stream("a", "b", 100)
    world.net.run_for(60)
    assert world.server.relay.forwarded_bytes <= 20_000
    assert 0 < len(stream.arrivals) < 20_000 / 60
    assert codes(world) == ("relay-quota", "relay-quota")
    for name in "ab":
        refusal = status(world, name)["server"]["relay_refusal"]
        assert refusal["code"] == "relay-quota"
        assert refusal["until"] % DAY == 0
        assert status(world, name)["server"]["state"] == "connected"
    evidence = diagnose(world, "a", "b").evidence
    assert any("used up what the server relays" in sentence for sentence in evidence)
    left = refusal["until"] - world.hosts["a"].wall_clock()
    world.net.run_for(left)
    world.stream("a", "b", 1)
    assert world.net.run_until_true(lambda: is_relayed(world), 30)
    assert status(world, "a")["server"]["relay_refusal"] is None


def test_a_full_network_refuses_a_third_and_the_others_do_not_notice() -> None:
    world = World(limits={"max_nodes_per_network": 2})
    world.add_node("a", Nat())
    world.add_node("b", Nat())
    assert world.wait_until_direct()
    world.add_node("c", Nat())
    stream = world.stream("a", "b", 10)
    world.net.run_for(300)
    (lost,) = world.events("c", ServerLost)
    assert lost.reason == "it refuses us: this network has as many nodes as the server admits"
    server = status(world, "c")["server"]
    assert (server["state"], server["refusal"]["code"]) == ("unreachable", "network-full")
    assert stream.lost <= 1
    world.hosts["b"].call(lambda node, now: node.close(now))
    world.net.run_for(120)
    assert status(world, "c")["server"]["state"] == "connected"
    assert status(world, "c")["server"]["refusal"] is None
    assert world.wait_until_direct("a", "c")


def test_a_relayed_node_that_roams_shows_where_it_is_and_goes_on() -> None:
    """A round trip to the server later than one whose word is taken."""
    world = World()
    world.add_node("a", Nat())
    world.add_node("b", Nat())
    world.net.run_for(0.005)
    separate(world)
    assert world.net.run_until_true(lambda: is_relayed(world), 10)
    stream = world.stream("a", "b", 100)
    world.net.run_for(2)
    world.hosts["b"].move(behind=world.net.add_router(Nat(), "other"))
    separate(world)
    world.tell_addresses("b")
    world.net.run_for(10)
    assert is_relayed(world)
    arrived = sorted(stream.arrivals.values())
    assert world.net.now - arrived[-1] < 0.1
    assert stream.longest_gap < 0.3
    b = world.node("b").config.static.public_key.data
    registrant = world.server._registrants[b]
    assert registrant.endpoint is not None
    assert registrant.return_route.is_proven(registrant.endpoint)
