"""A flood of handshake initiations from forged sources, at the server or at a node, while a pair
transfers and another machine joins."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.netns.lab import Lab
from tests.netns.process import Process
from tests.netns.world import PORT, Node, World

from .site import ArrivalCounter, Attacker, Result, Watch, finish_attack, resident_kib


class Flood(NamedTuple):
    """How it went. Rates are in Mbit/s, memory in KiB."""

    result: Result
    sent: float
    """Initiations a second."""
    read: float
    """Of these, by whom they were sent to; the kernel dropped the others."""
    rate_before: float
    rate_during: float
    memory_before: dict[str, int]
    memory_after: dict[str, int]
    cookies: int
    """Demanded of whom they seemed to come from, and of who joined."""
    seconds_to_join: float
    sieve: dict[str, Any] | None
    """What the node says of a flood at it, before it ends."""


class FloodSite:
    """office and home are a direct pair, which transfers; who joins comes from elsewhere."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.world = world = World(lab, folder)
        world.start_server()
        home = lab.home_router("homeA", public="198.51.100.7")
        self.attic, self.camera = world.pair(
            lab.public_host("office", "203.0.113.20", ipv6="2001:db8::20"), home.host("b")
        )
        self.mallory = Attacker(lab)
        self.bystander = lab.public_host("bystander", "203.0.113.50")
        """What is sent there costs the machine that all of this shares what making it costs."""
        ArrivalCounter(self.bystander)
        self.joined: list[Node] = []

    def flood(self, title: str, seconds: float, target: str, **what: Any) -> Flood:
        """At "server", "node", "node by IPv6" or "bystander", by initiations as `what` says
        (`__main__.flood`)."""
        world, attic = self.world, self.attic
        where = [world.vps.ip4, PORT]
        if target in ("node", "node by IPv6"):
            address = attic.host.ip4 if target == "node" else attic.host.ip6
            where = [address, attic.status()["node"]["listen_port"]]
        elif target == "bystander":
            where = [self.bystander.ip4, PORT]
        rate_before = self.transfer(seconds)
        watch, answered = Watch(world, [attic, self.camera]), self.mallory.answered()
        sessions = world.server_status()["sessions"]
        memory_before = self.memory()
        with self.flooding(where, seconds + 30, what) as process:
            rate_during = self.transfer(seconds)
            began = time.monotonic()
            self.join()
            seconds_to_join = time.monotonic() - began
            sieve = attic.status()["node"]["flood"]
        sent = finish_attack(process)
        nodes = [attic] if target.startswith("node") else []
        dropped = watch.dropped(*nodes, server=target == "server")
        joined = world.server_status()["sessions"] - sessions
        result = Result(
            f"a flood at the {target}: {title}",
            sent["datagrams"],
            max(0, joined - 1),
            sent["bytes"],
            self.mallory.answered() - answered,
            f"{rate_during / rate_before:.2f} × the throughput of before; "
            f"joined meanwhile in {seconds_to_join:.1f} s; "
            f"{watch.moved('attic', 'camera')} of 2 paths moved",
        )
        return Flood(
            result,
            sent["datagrams"] / sent["seconds"],
            dropped.total() / sent["seconds"],
            rate_before,
            rate_during,
            memory_before,
            self.memory(),
            dropped["initiation: cookie demanded"],
            seconds_to_join,
            sieve,
        )

    @contextmanager
    def flooding(self, where: list[Any], most: float, what: dict[str, Any]) -> Iterator[Process]:
        """Until the end of the `with`, or for `most` seconds."""
        stop = self.world.folder / f"stop{len(self.joined)}"
        process = self.mallory.begin(
            "flood", target=where, seconds=most, seed=1, until=str(stop), **what
        )
        try:
            yield process
        finally:
            stop.touch()

    def transfer(self, seconds: float) -> float:
        """Mbit/s through the tunnel, camera to attic."""
        attic, camera = self.attic, self.camera
        server = attic.host.popen(["iperf3", "-s", "-1", "--forceflush", "-B", attic.ip4])
        server.wait_for("Server listening")
        argv = ["iperf3", "-c", attic.ip4, "-J", "-t", f"{max(1, round(seconds))}"]
        client = camera.host.popen([*argv, "--connect-timeout", "10000"])
        assert client.wait(seconds + 60) == 0, client.tail()
        end = json.loads(client.stdout)["end"]
        return float(end["sum_received"]["bits_per_second"]) / 1e6

    def join(self) -> None:
        """A machine that was not there before becomes a member, and reaches attic."""
        number = len(self.joined)
        host = self.lab.public_host(f"new{number}", f"203.0.113.{100 + number}")
        node = self.world.join(f"new{number}", host, self.attic)
        self.joined.append(node)
        node.wait()
        node.wait("attic")

    def memory(self) -> dict[str, int]:
        processes = {"server": self.world.server, "node": self.attic.process}
        return {name: resident_kib(process) for name, process in processes.items()}


def attack_by_flood(
    lab: Lab, folder: Path, seconds: float, *, kinds: int = 6, rate: float = 0.0, rounds: int = 1
) -> list[Flood]:
    """The first `kinds` of them in turn, each for some seconds and until a machine has joined; as
    fast as can be, or `rate` a second."""
    site = FloodSite(lab, folder)
    url, key = site.world.url, site.attic.status()["node"]["public_key"]
    plans: list[tuple[str, str, dict[str, Any]]] = [
        ("by somebody who has its URL", "server", {"url": url}),
        ("by somebody who knows its key", "node", {"key": key}),
        ("by strangers", "server", {}),
        ("by strangers", "node", {}),
        ("to compare with", "bystander", {}),
        ("by strangers", "node by IPv6", {}),
    ]
    floods = [
        site.flood(title, seconds, to, rate=rate, **what)
        for title, to, what in plans[:kinds] * rounds
    ]
    site.world.close()
    return floods
