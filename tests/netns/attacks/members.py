"""A member that sends packets from inner addresses which are others'."""

from __future__ import annotations

from pathlib import Path

from tests.netns.lab import Lab
from tests.netns.world import Node, World

from .site import Result, Watch, ask, run_attack

REASON = "inner source is not the peer's"


def attack_as_member(lab: Lab, folder: Path, count: int) -> list[Result]:
    """mallory sends to attic as camera, and as an address nobody has: small packets, packets in
    fragments, and superpackets, which go as trains."""
    world = World(lab, folder)
    world.start_server()
    attic = world.found("attic", lab.public_host("office", "203.0.113.20"))
    home = lab.home_router("homeA", public="198.51.100.7")
    camera = world.join("camera", home.host("b"), attic)
    narrow = lab.public_host("mallory", "203.0.113.66")
    narrow.set_mtu(1280)  # So that packets as large as the tunnel's go in fragments of its own.
    mallory = world.join("mallory", narrow, attic)
    for one, other in ((attic, camera), (attic, mallory)):
        world.wait_direct(one, other)
    nobody = attic.ip4.rsplit(".", 1)[0] + ".99"
    results = []
    for title, source, target, size, segments in (
        ("packets from another member's address", camera.ip4, attic.ip4, 64, 1),
        ("packets from another member's address, IPv6", camera.ip6, attic.ip6, 64, 1),
        ("packets from the receiver's own address", attic.ip4, attic.ip4, 64, 1),
        ("packets from nobody's address", nobody, attic.ip4, 64, 1),
        ("superpackets from another member's address", camera.ip4, attic.ip4, 1200, 20),
        ("packets in fragments, from another member's address", camera.ip4, attic.ip4, 1336, 1),
        ("fragments of packets, from another member's address", camera.ip4, attic.ip4, 8000, 1),
    ):
        results.append(send(world, mallory, attic, title, source, target, count, size, segments))
    world.close()
    return results


def send(
    world: World,
    mallory: Node,
    attic: Node,
    title: str,
    source: str,
    target: str,
    count: int,
    size: int,
    segments: int,
) -> Result:
    watch, received = Watch(world, world.nodes), arrived(attic)
    plan = {"source": source, "target": target, "size": size, "segments": segments}
    before = answers(mallory)
    sent = run_attack(mallory.host, "inner_source", interface="punchtun0", count=count, **plan)
    dropped = watch.dropped(attic)
    # Fragments of IP are packets to a tunnel: each is looked at, and dropped, by itself.
    assert dropped[REASON] >= sent["datagrams"], dropped
    return Result(
        f"a member: {title}",
        sent["datagrams"],
        arrived(attic) - received,
        sent["bytes"],
        answers(mallory) - before,
        watch.noticed(),
    )


def answers(mallory: Node) -> int:
    """Bytes that came from attic through the tunnel. What is too big its own node tells it."""
    (status,) = ask(mallory.state, "status")
    return sum(peer["rx_bytes"] for peer in status["peers"] if peer["name"] == "attic")


def arrived(node: Node) -> int:
    """Packets that came out of its tunnel."""
    return node.host.interface_counters("punchtun0").rx_packets
