"""Every offload off, at one end or both: slower, and the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from .lab import Lab
from .traffic import FileServer, ping_reaches
from .world import World

pytestmark = pytest.mark.root

SIZE = 3_000_000
ALL = ["--no-tun-offload", "--no-uso", "--no-gso", "--no-gro", "--no-aegis"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *[([option], []) for option in ALL],
        *[([], [option]) for option in ALL[:4]],
        (["--no-gso", "--no-gro"], ["--no-tun-offload"]),
        (ALL, ALL),
    ],
    ids=lambda options: "+".join(option[5:] for option in options) or "all-on",
)
def test_without(
    world: World, lab: Lab, tmp_path: Path, ours: list[str], theirs: list[str]
) -> None:
    left = lab.home_router("left", public="198.51.100.7").host("a")
    right = lab.home_router("right", public="198.51.100.8").host("b")
    attic = world.found("attic", left, *ours)
    camera = world.join("camera", right, attic, *theirs)
    world.wait_direct(attic, camera)
    for node, options in ((attic, ours), (camera, theirs)):
        in_use = node.status()["node"]["offloads"]
        off = {name for name, is_on in in_use.items() if not is_on}
        asked = {option.split("-")[3] for option in options if option != "--no-aegis"}
        if "tun" in asked:
            asked.add("uso")
        assert off == asked
    for server, client in ((attic, camera), (camera, attic)):
        for address in (server.ip4, server.ip6):
            files = FileServer(server.host, address, tmp_path / f"www{address}", size=SIZE)
            assert files.fetch(client.host) == SIZE
            assert ping_reaches(client.host, address)
            # In one piece for the application, in fragments for the interface.
            big = client.host.udp_socket(address=client.ip4 if "." in address else client.ip6)
            there = server.host.udp_socket(7000, address=address)
            datagram = bytes(range(250)) * 200
            big.sendto(datagram, (address, 7000))
            assert there.recv(65_535) == datagram
            big.close()
            there.close()


def test_a_jumbo_frame_passes_without_gro(lab: Lab, world: World, tmp_path: Path) -> None:
    """One of 8900 bytes fits into a slot of what receives many datagrams at a time."""
    hosts = [lab.public_host(name, f"203.0.113.2{i}") for i, name in enumerate(("one", "other"))]
    for host in hosts:
        host.set_mtu(9000)
    one = world.found("one", hosts[0], "--mtu", "8900", "--no-gro")
    other = world.join("other", hosts[1], one, "--mtu", "8900", "--no-gro")
    world.wait_direct(one, other)
    files = FileServer(one.host, one.ip4, tmp_path / "files", size=SIZE)
    assert files.fetch(other.host) == SIZE
    assert one.peer("other")["path"]["mtu"] == 8900
    assert "MSG_TRUNC" not in other.status()["drops"]
