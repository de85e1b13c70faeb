"""What a node learns of its NAT, for all pairs of RFC 4787 behaviours, and that it learns again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.nat import Filtering, Firewall, Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.world import SERVER_ADDRESS, World
from tunnel.core.entry_lifetime import SOCKETS
from tunnel.core.nat import FILTERING_AGAIN, MAPPING_AGAIN

ONE = (SERVER_ADDRESS,)
TWO = (SERVER_ADDRESS, "203.0.113.20")
WORDS = ("endpoint-independent", "address-dependent", "address-and-port-dependent")


def learned(world: World, name: str = "a") -> dict[str, Any]:
    nat = world.node(name).status(world.hosts[name].now)["nat"]
    assert isinstance(nat, dict)
    return nat


def behaviours(world: World, name: str = "a") -> tuple[object, object]:
    nat = learned(world, name)
    return nat["mapping"], nat["filtering"]


def says(world: World, text: str) -> bool:
    return any(text in sentence for sentence in learned(world)["evidence"])


@pytest.mark.parametrize("server", [ONE, TWO])
@pytest.mark.parametrize("filtering", Filtering)
@pytest.mark.parametrize("mapping", Mapping)
def test_every_pair_of_behaviours(
    mapping: Mapping, filtering: Filtering, server: tuple[str, ...]
) -> None:
    """With one address the server cannot tell what another would see or let in, and says so."""
    world = World(server_addresses=server)
    world.add_node("a", Nat(mapping, filtering))
    world.net.run_for(10)
    expected_mapping, expected_filtering = WORDS[mapping], WORDS[filtering]
    if server is ONE:
        if mapping is Mapping.ADDRESS_DEPENDENT:
            expected_mapping = WORDS[0]
        if filtering is Filtering.ENDPOINT_INDEPENDENT:
            expected_filtering = WORDS[1]
        varies = mapping is Mapping.ADDRESS_AND_PORT_DEPENDENT
        assert says(world, "only one address was asked") is not varies
        strict = filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT
        assert says(world, "a second address could tell") is not strict
    assert behaviours(world) == (expected_mapping, expected_filtering)
    nat = learned(world)
    assert (nat["present"], nat["hairpin"]) == (True, False)
    assert set(world.hosts["a"].sockets) - set(SOCKETS) == {0, 1}, "those it asked with are closed"
    assert world.node("a").registration.link.endpoint is not None
    assert world.server.status(0)["nodes"] == 1


@pytest.mark.parametrize("mapping", Mapping)
def test_a_peer_is_another_address(mapping: Mapping) -> None:
    """It tells what a server with one address cannot."""
    world = World()
    world.add_node("a", Nat(mapping, Filtering.ENDPOINT_INDEPENDENT))
    world.add_node("b")
    assert world.wait_until_direct()
    world.net.run_for(30)
    assert learned(world)["mapping"] == WORDS[mapping]
    assert learned(world, "b")["present"] is False


@pytest.mark.parametrize("server", [ONE, TWO])
def test_a_peer_on_the_same_lan_is_no_witness(server: tuple[str, ...]) -> None:
    world = World(server_addresses=server)
    nat = world.net.add_router(Nat(), "home")
    for name in ("a", "b"):
        world.add_node(name, behind=nat)
    assert world.wait_until_direct()
    world.net.run_for(30)
    for name in ("a", "b"):
        assert learned(world, name)["mapping"] == WORDS[0]


@pytest.mark.parametrize("filtering", Filtering)
def test_without_nat(filtering: Filtering) -> None:
    world = World(server_addresses=TWO)
    world.add_node("a", Firewall(filtering))
    world.add_node("b")
    world.net.run_for(10)
    assert behaviours(world) == (WORDS[0], WORDS[filtering])
    assert behaviours(world, "b") == (WORDS[0], WORDS[0])
    for name in ("a", "b"):
        assert learned(world, name)["present"] is False
        assert learned(world, name)["hairpin"] is None


@pytest.mark.parametrize("filtering", Filtering)
def test_a_nat_that_hairpins(filtering: Filtering) -> None:
    """Also one that filters what comes back like anything else."""
    world = World(server_addresses=TWO)
    world.add_node("a", Nat(Mapping.ENDPOINT_INDEPENDENT, filtering, hairpin=True))
    world.net.run_for(10)
    assert learned(world)["hairpin"] is True


def test_double_nat_is_the_stricter_of_both() -> None:
    world = World(server_addresses=TWO)
    inner = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
    outer = Nat(Mapping.ADDRESS_DEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
    world.add_node("a", [inner, outer])
    world.net.run_for(10)
    assert behaviours(world) == (WORDS[1], WORDS[2])


def test_mapping_and_filtering_are_learned_again() -> None:
    """The router is given another mode, and nothing tells the node: at most so long it is wrong."""
    world = World(server_addresses=TWO)
    nat = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
    world.add_node("a", nat)
    world.net.run_for(10)
    assert behaviours(world) == (WORDS[0], WORDS[0])
    nat.filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    world.net.run_for(FILTERING_AGAIN + 10)
    assert behaviours(world) == (WORDS[0], WORDS[2])
    nat.mapping = Mapping.ADDRESS_AND_PORT_DEPENDENT
    nat.filtering = Filtering.ADDRESS_DEPENDENT
    world.net.run_for(MAPPING_AGAIN + 10)
    assert behaviours(world) == (WORDS[2], WORDS[1]), "another mapping: filtering is asked, too"


def test_a_reboot_into_another_mode_is_noticed_at_once() -> None:
    world = World(server_addresses=TWO)
    nat = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
    world.add_node("a", nat)
    world.net.run_for(60)
    nat.mapping, nat.filtering = Mapping.ADDRESS_DEPENDENT, Filtering.ADDRESS_DEPENDENT
    nat.reboot()
    world.net.run_for(40)
    assert behaviours(world) == (WORDS[1], WORDS[1])


def test_another_network_is_another_nat() -> None:
    world = World(server_addresses=TWO)
    world.add_node("a", Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_DEPENDENT))
    open_nat = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT, hairpin=True)
    cafe = world.net.add_router(open_nat, "cafe")
    world.net.run_for(10)
    assert behaviours(world) == (WORDS[2], WORDS[1])
    world.hosts["a"].move(behind=cafe)
    world.tell_addresses("a")
    assert learned(world)["filtering"] is None, "what was known is forgotten"
    world.net.run_for(10)
    assert behaviours(world) == (WORDS[0], WORDS[0])
    assert learned(world)["hairpin"] is True


def test_loss_of_one_in_ten() -> None:
    """Makes nothing look stricter than it is."""
    right = 0
    for seed in range(20):
        world = World(seed, server_addresses=TWO)
        nat = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
        world.add_node("a", nat)
        world.hosts["a"].link.set(loss=0.1)
        world.net.run_for(40)
        right += behaviours(world) == (WORDS[0], WORDS[0])
    assert right >= 19


def test_ports_given_out_in_order_or_by_number() -> None:
    for allocation in (Allocation.SEQUENTIAL, Allocation.RANDOM_IN_BLOCK):
        world = World(server_addresses=TWO)
        world.add_node("a", Nat(Mapping.ADDRESS_DEPENDENT, allocation=allocation))
        world.net.run_for(10)
        assert learned(world)["mapping"] == WORDS[1]


def test_the_server_is_away_when_it_is_time() -> None:
    """What was known stands, and is asked again when it is back."""
    world = World(server_addresses=TWO)
    world.add_node("a", Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT))
    world.net.run_for(10)
    world.server_host.stop()
    world.net.run_for(2 * FILTERING_AGAIN)
    assert learned(world)["filtering"] == WORDS[1]
    world.start_server()
    world.net.run_for(60)
    assert learned(world)["filtering"] == WORDS[1]
