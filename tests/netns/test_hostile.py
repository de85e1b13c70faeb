"""Strangers' datagrams at the real server and a real node: silence, and work goes on."""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .capture import Capture, udp_payloads
from .host import Host
from .lab import Lab
from .traffic import FileServer, ping_reaches
from .wait import wait_until
from .world import PORT, Json, World

pytestmark = pytest.mark.root

COUNT = 3000
PAUSE = 0.04
"""Seconds after 50 of them, 17 to the node: it takes 2000 a second for a flood."""
MAGIC = 0x2112A442
SIZES = (0, 1, 2, 4, 8, 16, 19, 20, 32, 60, 92, 120, 148, 149, 300, 1200, 1472)


def captured(world: World, folder: Path) -> list[bytes]:
    """UDP payloads of a pair that joins and talks: good ones, to be spoiled."""
    capture = Capture(world.vps, "eth0", folder / "pair.pcap", "udp")
    home = world.lab.home_router("homeA", public="198.51.100.7", mapping=VARYING)
    attic = world.found("attic", home.host("a"), "--listen-port", "4000")
    carrier = world.lab.carrier("cgn", public="192.0.2.33", mapping=VARYING)
    camera = world.join("camera", carrier.host("b"), attic)
    attic.wait("camera")
    assert ping_reaches(attic.host, camera.ip4)
    return udp_payloads(capture.stop())


VARYING = "address-and-port-dependent"


def spoiled(good: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    """For ever: noise, noise with a known first byte, and good ones replayed, cut or changed."""
    while True:
        kind = chance.randrange(5)
        if kind == 0:
            yield chance.randbytes(chance.choice(SIZES))
        elif kind == 1:
            head = bytes([chance.randrange(8)]) + b"\0\0\0"
            yield (head + chance.randbytes(chance.choice(SIZES)))[:1472]
        else:
            datagram = bytearray(chance.choice(good))
            if kind == 3:
                del datagram[chance.randrange(len(datagram)) :]
            elif kind == 4:
                for _ in range(chance.randrange(1, 4)):
                    datagram[chance.randrange(len(datagram))] ^= 1 << chance.randrange(8)
            yield bytes(datagram)


def test_strangers_get_no_answer_and_do_no_harm(lab: Lab, world: World, tmp_path: Path) -> None:
    good = captured(world, tmp_path)
    assert len({datagram[0] for datagram in good}) >= 3
    attic, camera = world.nodes
    home = lab.home_router("homeN", public="198.51.100.9")
    neighbour = home.host("n")
    public = world.join("public", lab.public_host("root", "203.0.113.20"), attic)
    stranger = lab.public_host("stranger", "203.0.113.66")
    port = public.status()["node"]["listen_port"]
    targets = [
        (world.vps.ip4, PORT),
        (world.vps.ip4, PORT + 1),
        (public.host.ip4, port),
    ]
    sources = [stranger.udp_socket(), neighbour.udp_socket()]
    datagrams = spoiled(good, random.Random(1))
    before = sum(world.server_status()["drops"].values())
    node_before = sum(public.status()["drops"].values())
    for number in range(COUNT):
        source = sources[number % 2]
        source.sendto(next(datagrams), targets[number % 3])
        if number % 50 == 0:  # No faster than they are read: it is not about overload.
            wait_until(lambda: queues_are_empty(world.vps) and queues_are_empty(public.host))
            time.sleep(PAUSE)
    wait_until(lambda: queues_are_empty(world.vps) and queues_are_empty(public.host))
    assert answers(sources) == []
    drops = world.server_status()["drops"]
    # Empty datagrams, and what a good one became by luck, may count elsewhere.
    assert sum(drops.values()) - before > COUNT * 2 // 3 * 0.9
    assert all(isinstance(reason, str) and count > 0 for reason, count in drops.items())
    assert sum(public.status()["drops"].values()) - node_before > COUNT // 3 * 0.9
    for node, peer in ((attic, camera), (camera, public), (public, attic)):
        assert ping_reaches(node.host, peer.ip4)
    files = FileServer(camera.host, camera.ip4, tmp_path / "www", size=300_000)
    assert files.fetch(attic.host) == 300_000
    laptop = world.join("laptop", neighbour, attic)
    laptop.wait("public", direct=True)


def queues_are_empty(host: Host) -> bool:
    """Whether no UDP socket of the host has anything left to read."""

    def look() -> bool:
        for name in ("udp", "udp6"):
            for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]:
                if int(line.split()[4].split(":")[1], 16):
                    return False
        return True

    return host.inside(look)


def answers(sources: Sequence[socket.socket]) -> list[bytes]:
    found = []
    while ready := select.select(sources, [], [], 0.2)[0]:
        found += [source.recv(2000) for source in ready]
    return found


def binding_request(transaction: bytes, attributes: bytes = b"") -> bytes:
    return struct.pack(">HHI", 1, len(attributes), MAGIC) + transaction + attributes


def mapped_address(answer: bytes, transaction: bytes) -> tuple[str, int]:
    """What a Binding success response (RFC 8489) says; AssertionError if it is none."""
    kind, length, magic = struct.unpack_from(">HHI", answer)
    assert (kind, magic, answer[8:20]) == (0x0101, MAGIC, transaction)
    assert length == len(answer) - 20
    attribute, size, family, port = struct.unpack_from(">HHxBH", answer, 20)
    assert attribute == 0x0020
    key = struct.pack(">I", MAGIC) + transaction
    address = bytes(a ^ b for a, b in zip(answer[28 : 24 + size], key, strict=False))
    assert len(address) == {1: 4, 2: 16}[family]
    version = socket.AF_INET if family == 1 else socket.AF_INET6
    return socket.inet_ntop(version, address), port ^ (MAGIC >> 16)


@pytest.mark.parametrize("port", [PORT, PORT + 1])
def test_any_stun_tool_is_told_its_endpoint(lab: Lab, world: World, port: int) -> None:
    transaction = bytes(range(12))
    public = lab.public_host("stranger", "203.0.113.66", ipv6="2001:db8::66")
    inside = lab.home_router("homeA", public="198.51.100.7", ports=(40000, 40063)).host("a")
    for address, server in ((public.ip4, world.vps.ip4), (public.ip6, world.vps.ip6)):
        asker = public.udp_socket(5000, address=str(address))
        asker.sendto(binding_request(transaction), (str(server), port))
        assert mapped_address(asker.recv(1500), transaction) == (address, 5000)
        asker.close()
    asker = inside.udp_socket(5000)
    asker.sendto(binding_request(transaction), (world.vps.ip4, port))
    host, external = mapped_address(asker.recv(1500), transaction)
    assert host == "198.51.100.7"
    assert 40000 <= external <= 40063
    # Indications, other methods, unknown required attributes: silence.
    asker.sendto(b"\x00\x11" + binding_request(transaction)[2:], (world.vps.ip4, port))
    asker.sendto(b"\x01\x01" + binding_request(transaction)[2:], (world.vps.ip4, port))
    asker.sendto(binding_request(transaction, b"\x00\x77\x00\x04abcd"), (world.vps.ip4, port))
    assert answers([asker]) == []
    status: Json = world.server_status()
    assert status["stun_answers"] == 3
    assert sum(status["drops"].values()) == 3
