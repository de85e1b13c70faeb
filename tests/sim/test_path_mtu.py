"""Paths that carry less than the interface gives. Here nothing larger gets through in fragments of
IP either, as behind many carriers."""

from __future__ import annotations

import pytest

from tests.sim.nat import Mapping, Nat
from tests.sim.topology import Direction
from tests.sim.trace import SENT
from tests.sim.world import World
from tunnel.constants import TUNNEL_MTU
from tunnel.core.path_mtu import RUNGS, WATCH_INTERVAL
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.train import TRAIN_OVERHEAD
from tunnel.wire.transport import HEADER_LENGTH

LARGEST = 1200
"""What 1280 bytes of IPv4 leave, by the sizes that are tried: 1200 with AEGIS, 1216 without."""
TOLD = {True: 1200, False: 1216}
ENVELOPE = 8


def build(*, relayed: bool = False, aegis: bool = True) -> World:
    world = World()
    world.without_aegis = set() if aegis else {"b"}
    kind = Mapping.ADDRESS_AND_PORT_DEPENDENT if relayed else Mapping.ENDPOINT_INDEPENDENT
    for name in "ab":
        world.add_node(name, Nat(mapping=kind))
    return world


def narrow(world: World, *directions: Direction, reports: bool = False) -> None:
    for direction in directions:
        direction.mtu, direction.reports_mtu = 1280, reports


def limit(world: World, name: str, of: str) -> int | None:
    peer = world.peer(name, of)
    return peer.mtu.limit(peer.traversal, world.net.now)


def test_wide_path() -> None:
    world = build()
    assert world.wait_until_direct()
    world.net.run_for(1)
    assert limit(world, "a", "b") == limit(world, "b", "a") == TUNNEL_MTU
    stream = world.stream("a", "b", 1, size=TUNNEL_MTU)
    world.net.run_for(2)
    assert stream.lost == 0


@pytest.mark.parametrize("aegis", [False, True])
@pytest.mark.parametrize("reports", [False, True])
@pytest.mark.parametrize("relayed", [False, True])
@pytest.mark.parametrize("which", ["up", "down", "both"])
def test_narrow_from_the_beginning(which: str, relayed: bool, reports: bool, aegis: bool) -> None:
    """In one direction only, too: each side finds its own."""
    world = build(relayed=relayed, aegis=aegis)
    link = world.hosts["a"].link
    directions = {"up": (link.up,), "down": (link.down,), "both": (link.up, link.down)}[which]
    narrow(world, *directions, reports=reports)
    expected = "relayed" if relayed else "direct"
    assert world.net.run_until_true(lambda: world.states() == {expected}, 20)
    there = world.stream("a", "b", 10, size=TUNNEL_MTU)
    back = world.stream("b", "a", 10, size=TUNNEL_MTU)
    world.net.run_for(12)
    for stream in (there, back):
        assert stream.lost <= 45, "those of the first moments"
        assert stream.copies == len(stream.arrivals)
    left = TOLD[aegis] - ENVELOPE * relayed
    # Without a report the largest size tried that fits.
    found = left if reports else max(rung for rung in RUNGS if rung <= left)
    if which != "down":
        assert limit(world, "a", "b") == found
    if which == "up":
        assert limit(world, "b", "a") == TUNNEL_MTU


@pytest.mark.parametrize("reports", [False, True])
def test_path_becomes_narrow_under_traffic(reports: bool) -> None:
    world = build()
    assert world.wait_until_direct()
    world.net.run_for(1)
    stream = world.stream("a", "b", 20, size=TUNNEL_MTU)
    world.net.run_for(3)
    narrow(world, world.hosts["a"].link.up, reports=reports)
    world.net.run_for(20)
    assert stream.lost <= (15 if reports else 100 * (WATCH_INTERVAL + 0.7))
    assert limit(world, "a", "b") == LARGEST
    assert world.state("a", "b") == "direct", "small echoes pass: the path itself is good"


def test_senders_are_told() -> None:
    world = build()
    assert world.wait_until_direct()
    world.net.run_for(1)
    narrow(world, world.hosts["a"].link.up)
    packet = bytearray(world.packet("a", "b", bytes(TUNNEL_MTU - 20)))
    packet[6] = 0x40  # Don't fragment.
    for _ in range(100):
        world.hosts["a"].send_packet(bytes(packet))
        world.net.run_for(0.1)
    answers = [p for _, p in world.hosts["a"].packets_received]
    assert answers
    for answer in answers:
        header = parse_ip_header(answer)
        assert header.source == bytes(packet[16:20]), "an own address would be a martian"
        assert header.destination == bytes(packet[12:16])
        assert answer[20:22] == bytes([3, 4])
        assert int.from_bytes(answer[26:28], "big") == LARGEST
    arrived = [p for _, p in world.hosts["b"].packets_received]
    assert arrived.count(bytes(packet)) >= 70, "and what is too large arrives all the same"


def test_idle_pair_asks_once() -> None:
    """Finding out costs a few large checks, not a stream of them."""
    world = build()
    assert world.wait_until_direct()
    world.net.run_for(600)
    sizes = [record[6] for record in world.net.trace.records if record[1] == SENT]
    assert len(sizes) > 100
    assert 2 <= sum(1 for size in sizes if size > 1000) <= 8, "direct and relayed, each way"


@pytest.mark.parametrize(("aegis", "tag"), [(True, 32), (False, 16)])
def test_a_check_is_as_large_as_a_segment_of_a_train(aegis: bool, tag: int) -> None:
    world = build(aegis=aegis)
    assert world.wait_until_direct()
    world.net.run_for(5)
    sizes = {record[6] for record in world.net.trace.records if record[1] == SENT}
    frame = 28 + HEADER_LENGTH + TRAIN_OVERHEAD + TUNNEL_MTU + tag
    assert sorted(sizes)[-2:] == [frame, frame + ENVELOPE], "direct and relayed"


def test_forged_icmp_does_no_harm() -> None:
    world = build()
    assert world.wait_until_direct()
    world.net.run_for(1)
    endpoint = world.peer("a", "b").traversal.best
    assert endpoint is not None
    stream = world.stream("a", "b", 5, size=TUNNEL_MTU)
    for moment in range(50):
        for mtu in (None, 600, 1280):
            world.net.call_later(
                moment / 10,
                world.hosts["a"].call,
                lambda node, now, mtu=mtu: node.receive_error(endpoint.endpoint, mtu, now),
            )
    world.net.run_for(6)
    assert stream.lost == 0
    assert stream.copies == len(stream.sent)
    assert limit(world, "a", "b") == TUNNEL_MTU
    assert world.is_direct()
