"""Every offload off, at one end or both: slower, and the same."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.wire.superpackets import is_complete

from .capture import Capture
from .host import Host
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


UDP_SEGMENT = 103


@pytest.mark.parametrize("theirs", [["--no-tun-offload"], ["--no-uso"], []], ids="+".join)
def test_all_checksums_are_right(world: World, lab: Lab, tmp_path: Path, theirs: list[str]) -> None:
    """Those of what a node hands to its kernel as packets, each of them; of superpackets the kernel
    itself is the judge."""
    left = lab.home_router("left", public="198.51.100.7").host("a")
    right = lab.home_router("right", public="198.51.100.8").host("b")
    attic = world.found("attic", left)
    camera = world.join("camera", right, attic, *theirs)
    world.wait_direct(attic, camera)
    capture = Capture(right, camera.interface, tmp_path / "pcap", "-Q", "in", "tcp or udp")
    for address, target in ((attic.ip4, camera.ip4), (attic.ip6, camera.ip6)):
        files = FileServer(left, address, tmp_path / f"www{address}", size=SIZE // 5)
        assert files.fetch(right) == SIZE // 5
        there = right.udp_socket(7000, address=target)
        here = left.udp_socket(address=address)
        here.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 500)
        for count in (1, 2, 30):
            here.sendto(bytes(500 * count - 7), (target, 7000))
            assert sum(len(there.recv(65_535)) for _ in range(count)) == 500 * count - 7
        here.close()
        there.close()
    packets = capture.stop()
    assert sum(len(packet) for packet in packets) > 2 * SIZE // 5
    if theirs == ["--no-tun-offload"]:
        assert max(map(len, packets)) <= 1400
        assert all(map(is_complete, packets))
    else:
        assert max(map(len, packets)) > 10_000
    assert checksum_errors(right) == {"Tcp": 0, "Udp": 0, "Udp6": 0}


def checksum_errors(host: Host) -> dict[str, int]:
    """What the kernel has found wrong."""
    lines = [line.split() for line in host.run(["cat", "/proc/net/snmp"]).stdout.splitlines()]
    found = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        if names[0] in ("Tcp:", "Udp:"):
            found[names[0][:-1]] = int(values[names.index("InCsumErrors")])
    six = dict(line.split() for line in host.run(["cat", "/proc/net/snmp6"]).stdout.splitlines())
    return {**found, "Udp6": int(six["Udp6InCsumErrors"])}


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
