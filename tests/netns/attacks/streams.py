"""A stranger at the server's TCP port and its WebSocket: streams that say nothing, or a byte at a
time, or too much, and too many of them. Nodes that need streams are served meanwhile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.netns.lab import Lab
from tests.netns.namespace import ip_batch
from tests.netns.traffic import ping_reaches, ping_stream
from tests.netns.wait import wait_until
from tests.netns.web import make_certificate
from tests.netns.world import PATIENCE, PORT, SERVER_ADDRESS, Node, World
from tunnel.core.configuration import ServerConfig
from tunnel.core.stream_table import HANDSHAKE_TIME
from tunnel.wire.handshake import INITIATION, INITIATION_LENGTH

from .site import FORGED, Attacker, Result, Watch, finish_attack, resident_kib

PER_SOURCE = ServerConfig.max_streams_per_source
IN_ALL = ServerConfig.max_streams
HTTPS = 443
PATIENT = 6 * HANDSHAKE_TIME
"""Seconds until the attacker gives up. The server closes its streams after HANDSHAKE_TIME."""
REQUEST = b"GET /punchtun HTTP/1.1\r\nHost: a\r\n"
BEGUN = INITIATION_LENGTH.to_bytes(2, "big") + bytes([INITIATION])
MOST = 4 << 20
"""Bytes that are said by one stream."""


class StreamSite:
    """desk, whose network lets no UDP through, is on TCP, and talks with attic by the relay."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.world = world = World(lab, folder)
        vps = lab.public_host("vps", SERVER_ADDRESS, ipv6="2001:db8::10")
        make_certificate(folder, SERVER_ADDRESS)
        options = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
        world.start_server("--http", f"[::]:{HTTPS}", *options, host=vps)
        self.attic = world.found("attic", lab.public_host("office", "203.0.113.20"))
        router = lab.home_router("homeA", public="198.51.100.7")
        router.block_udp()
        self.desk = world.join("desk", router.host("b"), self.attic)
        wait_until(lambda: is_on_tcp(self.desk), timeout=PATIENCE, what="desk on TCP")
        self.desk.wait("attic")
        assert ping_reaches(self.desk.host, self.attic.ip4)
        self.mallory = Attacker(lab)
        # Answers to the addresses it pretends to have.
        route = f"route add local {FORGED} dev lo"
        ip_batch([route], namespace=self.mallory.host.namespace)
        self.newcomers = 0

    def attack(
        self, title: str, kind: str, allowed: int, *, joins: bool = False, **plan: Any
    ) -> Result:
        """`allowed` streams may be open at once; and maybe somebody joins by TCP meanwhile."""
        world, desk = self.world, self.desk
        watch, refused = Watch(world, world.nodes), world.server_status()["streams_refused"]
        before = resident_kib(world.server)
        pings = ping_stream(desk.host, self.attic.ip4, interval=0.05)
        process = self.mallory.begin(kind, **plan)
        joined = ""
        if joins:
            began = time.monotonic()
            self.join()
            joined = f"joined by TCP meanwhile in {time.monotonic() - began:.1f} s; "
        sent = finish_attack(process)
        result = pings.stop()
        assert result.received > 0, result
        wait_until(lambda: self.streams() == len(world.nodes) - 1, what="the attacker's to be gone")
        grown = resident_kib(world.server) - before
        status = world.server_status()
        noticed = (
            f"at most {sent['most_open']} open, of {allowed} that are allowed; "
            f"{sent['ended']} of {sent['opened']} ended by the server, the last after "
            f"{sent['longest']:.1f} s; {status['streams_refused'] - refused} refused; {joined}"
            f"server + {grown / 1024:.1f} MiB; "
            f"{result.sent - result.received} of {result.sent} pings lost; "
            f"{watch.moved(*(node.name for node in world.nodes[:2]))} of 2 paths moved"
        )
        too_many = max(0, sent["most_open"] - allowed)
        not_ended = sent["opened"] - sent["ended"]
        return Result(
            f"streams at the server: {title}",
            sent["streams"],
            too_many + not_ended,
            sent["bytes"],
            sent["answered"],
            noticed,
        )

    def streams(self) -> int:
        return int(self.world.server_status()["streams"])

    def join(self) -> None:
        """From a network that lets no UDP through, either."""
        self.newcomers += 1
        name = f"new{self.newcomers}"
        router = self.lab.home_router(name, public=f"198.51.100.{50 + self.newcomers}")
        router.block_udp()
        node = self.world.join(name, router.host("n"), self.attic)
        node.wait("attic")


def is_on_tcp(node: Node) -> bool:
    server = node.status()["server"]
    return bool(server["state"] == "connected" and server["transport"] == "tcp")


def attack_by_streams(lab: Lab, folder: Path, count: int) -> list[Result]:
    """With so many streams, or from so many addresses; by few where each says much."""
    site = StreamSite(lab, folder)
    tcp, https, few = [SERVER_ADDRESS, PORT], [SERVER_ADDRESS, HTTPS], max(1, count // 100)
    hello = b"\x16\x03\x01\x02\x00\x01"
    endless = {"head": (REQUEST + b"X: ").hex(), "tls": True}
    held: list[tuple[str, list[object], dict[str, Any]]] = [
        ("opened, and nothing said", tcp, {}),
        ("an initiation, a byte at a time", tcp, {"say": (BEGUN + bytes(100)).hex()}),
        ("TLS, a byte at a time", https, {"say": (hello + bytes(100)).hex()}),
        ("from many addresses", tcp, {"sources": count}),
    ]
    poured: list[tuple[str, list[object], dict[str, Any]]] = [
        ("noise behind a true length", tcp, {"head": "ffff04"}),
        ("a length of zero", tcp, {"head": "0000"}),
        ("noise where TLS begins", https, {}),
        ("a head of HTTP without end", https, endless),
    ]
    results = []
    for number, (title, target, how) in enumerate(held):
        many = "sources" in how
        plan = {"count": 10 * count if many else count, "seconds": PATIENT, **how}
        allowed = IN_ALL if many else PER_SOURCE
        results.append(site.attack(title, "hold", allowed, joins=not number, target=target, **plan))
    for number, (title, target, how) in enumerate(poured):
        plan = {"count": few, "most": MOST, "seed": number, **how}
        results.append(site.attack(title, "pour", 1, target=target, **plan))
    site.world.close()
    return results
