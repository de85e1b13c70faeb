"""The server is away, and then something happens to the direct path as well.

A mapping that moves can be repaired by the two ends alone where the other end's filter lets the new
endpoint in: its owner's next datagram shows it. Where it does not, nobody can tell anybody, and all
must be well at once when the server is back.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.sim.nat import Filtering, Mapping, Nat
from tests.sim.ports import Allocation
from tests.sim.world import AB, BA, BOTH_WAYS, Way, World
from tunnel.core.path import ECHO_EVERY
from tunnel.core.session import JITTER, RETRANSMIT
from tunnel.core.traversal import TraversalState

NEW_PORT, SAME_PORT, NEW_ADDRESS = "new port", "same port", "new address"


def show(ways: Sequence[Way]) -> str:
    return "+".join(map("".join, ways)) or "idle"


def build(filtering: Filtering, allocation: Allocation) -> tuple[World, Nat]:
    world = World(delay=0.00025)
    nats = [
        Nat(Mapping.ENDPOINT_INDEPENDENT, filtering, allocation, mapping_timeout=120)
        for _ in range(2)
    ]
    for name, nat in zip("ab", nats, strict=True):
        world.add_node(name, nat, delay=0.01)
    assert world.wait_until_direct()
    world.net.run_for(5)
    world.server_host.stop()
    world.net.run_for(30)
    assert not world.node("a").registration.is_connected
    return world, nats[0]


def is_proven_since(world: World, moment: float) -> bool:
    """Direct, and proven after that moment, at both ends."""
    for way in BOTH_WAYS:
        traversal = world.peer(*way).traversal
        best = traversal.best
        if best is None or traversal.state is not TraversalState.DIRECT:
            return False
        if best.proof_sent_at is None or best.proof_sent_at <= moment:
            return False
    return world.is_direct()


def can_repair(filtering: Filtering, how: str) -> bool:
    if how == SAME_PORT:
        return True
    strictest = (
        Filtering.ENDPOINT_INDEPENDENT if how == NEW_ADDRESS else Filtering.ADDRESS_DEPENDENT
    )
    return filtering <= strictest


@pytest.mark.parametrize("senders", [[], [AB], [BA], [AB, BA]], ids=show)
@pytest.mark.parametrize("how", [SAME_PORT, NEW_PORT, NEW_ADDRESS])
@pytest.mark.parametrize("filtering", Filtering)
def test_mapping_lost(filtering: Filtering, how: str, senders: list[Way]) -> None:
    allocation = Allocation.PRESERVING if how == SAME_PORT else Allocation.RANDOM
    world, nat = build(filtering, allocation)
    net = world.net
    streams = [world.stream(*way, 6, 0.04) for way in senders]
    net.run_for(2.003)
    ports = {endpoint.port for endpoint in nat.external_endpoints(world.hosts["a"].endpoint(), 0)}
    if how == NEW_ADDRESS:
        nat.reboot("5.0.9.9")
    elif how == NEW_PORT:
        nat.reboot()
    else:
        nat.flush()
    moment = net.now
    # Idle, the next keep-alive shows the new endpoint, and the next echo proves.
    patience = 2.35 if senders else (ECHO_EVERY + 1) * 15
    repaired = net.run_until_true(lambda: is_proven_since(world, moment), patience)
    took = net.now - moment
    told = f"{filtering.name.lower()}, {how}, {show(senders)}"
    after = {endpoint.port for endpoint in nat.external_endpoints(world.hosts["a"].endpoint(), 0)}
    assert (ports == after) is (how == SAME_PORT)
    assert repaired is can_repair(filtering, how)
    if repaired:
        print(f"{told}: repaired in {took:.2f} s without the server")
        net.run_for(6)
        for stream in streams:
            assert stream.lost == 0
            assert stream.longest_gap < 0.4
        return
    net.run_for(11)
    world.start_server()
    moment = net.now
    assert net.run_until_true(
        lambda: is_proven_since(world, moment), RETRANSMIT[-1] + JITTER + 1
    ), "the server is back"
    print(f"{told}: direct {net.now - moment:.2f} s after the server's return")


@pytest.mark.parametrize("seconds", [8.0, 12.0, 60.0])
def test_direct_path_dead_for_some_time(seconds: float) -> None:
    """Both ends have traffic, no server and no relay: nothing helps but looking again."""
    world, _ = build(Filtering.ADDRESS_AND_PORT_DEPENDENT, Allocation.RANDOM)
    streams = [world.stream(*way, seconds + 15, 0.05) for way in BOTH_WAYS]
    world.net.run_for(2.003)
    for source, destination in BOTH_WAYS:
        world.net.block(world.hosts[source], world.hosts[destination])
    world.net.run_for(seconds)
    for source, destination in BOTH_WAYS:
        world.net.unblock(world.hosts[source], world.hosts[destination])
    moment = world.net.now
    assert world.net.run_until_true(lambda: is_proven_since(world, moment), 8)
    print(f"dead for {seconds:.0f} s: direct again after {world.net.now - moment:.2f} s")
    world.net.run_for(13)
    assert all(max(stream.arrivals.values()) > moment + 10 for stream in streams)


def test_router_off_for_a_minute_while_both_talk() -> None:
    world, nat = build(Filtering.ADDRESS_AND_PORT_DEPENDENT, Allocation.RANDOM)
    streams = [world.stream(*way, 120, 0.1) for way in BOTH_WAYS]
    world.net.run_for(2.003)
    nat.up = False
    world.net.run_for(60)
    nat.up = True
    moment = world.net.now
    world.net.run_for(60)
    for stream in streams:
        assert min(at for at in stream.arrivals.values() if at > moment) < moment + 5
    assert world.is_direct()
