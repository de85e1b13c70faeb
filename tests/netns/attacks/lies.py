"""A server that works against its users: it may deny them its service, and nothing else."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.netns.lab import Lab
from tests.netns.namespace import run_tool
from tests.netns.traffic import ping_reaches, ping_stream
from tests.netns.world import PATIENCE, PORT, SERVER_ADDRESS, Node, World
from tunnel.core.check_budget import (
    ENDPOINT_BURST,
    ENDPOINT_RATE,
    PEER_HOST_BURST,
    PEER_HOST_RATE,
)
from tunnel.drivers.control import request

from .lying_server import MARK
from .site import ROOT, ArrivalCounter, Result, Watch, ask, payload_bytes

VICTIM = "203.0.113.99"


class LyingWorld(World):
    """Its server lies when told to."""

    def start_liar(self) -> None:
        self.vps = self.lab.public_host("vps", SERVER_ADDRESS)
        argv = [sys.executable, "-m", "tests.netns.attacks.lying_server"]
        process = self.vps.popen([*argv, str(self.folder / "server")], cwd=ROOT)
        self.server_processes.append(process)
        self.server.wait_for("ready", timeout=PATIENCE)
        self.url = self.server_url(self.vps.ip4)

    def lie(self, how: str) -> dict[str, Any]:
        """From now on; the server's status."""
        body = {"command": "lie", "how": how, "victim": [VICTIM, 53]}
        return next(request(self.folder / "server" / "control.sock", body, timeout=10.0))


class Scene:
    """attic and camera are direct, attic and gate are relayed."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.world = world = LyingWorld(lab, folder)
        world.start_liar()
        self.victim = ArrivalCounter(lab.public_host("victim", VICTIM))
        self.sent = world.vps.count_udp(PORT)
        office = lab.public_host("office", "203.0.113.20")
        block(lab, office.ip4, "198.51.100.9")
        self.attic = world.found("attic", office)
        home = lab.home_router("homeA", public="198.51.100.7")
        self.camera = world.join("camera", home.host("b"), self.attic)
        other = lab.home_router("homeB", public="198.51.100.9")
        self.gate = world.join("gate", other.host("g"), self.attic)
        world.wait_direct(self.attic, self.camera)
        self.attic.wait("gate")

    def play(
        self,
        how: str,
        seconds: float,
        nodes: int,
        *,
        is_aimed: bool = False,
        newcomer: str = "",
    ) -> Result:
        """Lie so for `seconds` while attic and camera talk, and maybe somebody joins. `nodes`: how
        many hear it."""
        attic, camera = self.attic, self.camera
        watch, before = Watch(self.world, [attic, camera]), self._read()
        stream = ping_stream(attic.host, camera.ip4, interval=0.05)
        began = time.monotonic()
        self.world.lie(how)
        if newcomer:
            self.join(newcomer)
        time.sleep(seconds)
        self.world.lie("not at all")
        pings = stream.stop()
        lasted = time.monotonic() - began + 1.0
        now = self._read()
        moved = watch.moved("attic", "camera")
        readable = now.overheard - before.overheard
        joined = now.members - before.members - (2 if newcomer else 0)
        arrivals, allowed = now.at_victim - before.at_victim, int(bound(how, nodes, lasted))
        if is_aimed:
            noticed = f"{arrivals} datagrams at the victim, of {allowed} that are allowed"
        else:
            noticed = f"{pings.sent - pings.received} of {pings.sent} pings lost; {watch.noticed()}"
        return Result(
            f"a lying server: {how}",
            now.lies - before.lies,
            moved + readable + joined + max(0, arrivals - allowed),
            now.sent - before.sent,
            now.victim_bytes - before.victim_bytes,
            noticed,
        )

    def join(self, name: str) -> None:
        """An invited machine does, and reaches the others directly."""
        host = self.lab.public_host(name, "203.0.113.21")
        node = self.world.join(name, host, self.attic)
        node.wait("attic", direct=True)
        assert ping_reaches(host, self.camera.ip4)

    def _read(self) -> _Tally:
        (status,) = ask(self.world.folder / "server", "status")
        arrived = self.victim.read()
        known = sum(len(ask(n.state, "status")[0]["peers"]) for n in (self.attic, self.camera))
        return _Tally(
            *(status["lies"], status["overheard"]),
            *(arrived.packets, payload_bytes(arrived)),
            *(payload_bytes(self.sent.sent()), known),
        )

    def talk_by_the_relay(self, how: str, count: int) -> Result:
        """attic and gate do, in words the server looks for."""
        before, attic = self._read(), self.attic
        received = packets_of(attic, "gate")
        self.world.lie(how)
        argv = ["ping", "-n", "-q", "-i", "0.02", "-W", "1", "-c", str(count), "-s", "160"]
        attic.host.run([*argv, "-p", MARK.hex(), self.gate.ip4], check=False)
        came = packets_of(attic, "gate") - received
        self.world.lie("not at all")
        now = self._read()
        overheard = now.overheard - before.overheard
        return Result(
            f"a lying server, what it relays: {how}",
            now.lies - before.lies or count,
            overheard + max(0, came - count),
            now.sent - before.sent,
            0,
            f"{came} of {count} answers came, {overheard} datagrams could be read",
        )


class _Tally(NamedTuple):
    lies: int
    overheard: int
    at_victim: int
    victim_bytes: int
    sent: int
    """Bytes, by the server."""
    members: int
    """Known to attic and camera."""


def packets_of(node: Node, name: str) -> int:
    (status,) = ask(node.state, "status")
    return sum(peer["rx_packets"] for peer in status["peers"] if peer["name"] == name)


def bound(how: str, nodes: int, seconds: float) -> float:
    """Datagrams that may come to the victim (docs/security.md, promise 8)."""
    if how in ("aim", "aim handshakes"):
        return nodes * (ENDPOINT_BURST + ENDPOINT_RATE * seconds)
    return nodes * (nodes - 1) * (PEER_HOST_BURST + PEER_HOST_RATE * seconds)


def block(lab: Lab, one: str, other: str) -> None:
    """No UDP between the two addresses."""
    run_tool(
        ["nft", "-f", "-"],
        namespace=lab.internet().namespace,
        text=f"""
        table inet block {{
            chain forward {{
                type filter hook forward priority 0;
                ip saddr {one} ip daddr {other} udp dport 1-65535 drop
                ip saddr {other} ip daddr {one} udp dport 1-65535 drop
            }}
        }}""",
    )


def attack_as_server(lab: Lab, folder: Path, seconds: float) -> list[Result]:
    """Each lie for so many seconds."""
    scene = Scene(lab, folder)
    count = max(20, int(20 * seconds))
    results = [scene.talk_by_the_relay(how, count) for how in ("not at all", "spoil", "withhold")]
    results += [scene.play(how, seconds, 3) for how in ("swap", "forge", "noise")]
    # So that some of what was true is of a process that is gone.
    scene.gate.kill()
    scene.gate.up()
    scene.gate.wait("attic")
    results.append(scene.play("replay", seconds, 3))
    drops = ask(scene.attic.state, "status")[0]["drops"]
    assert drops["announcement of an earlier process"] > 0
    results += [scene.play("withhold", seconds, 3)]
    for how in ("aim", "aim at many ports"):
        results.append(scene.play(how, seconds, 3, is_aimed=True))
    scene.gate.stop()
    results.append(scene.play("aim handshakes", seconds, 2, is_aimed=True))
    # And what it tells them of themselves, as whoever joins asks first.
    results.append(scene.play("observe", seconds, 3, is_aimed=True, newcomer="late"))
    scene.world.close()
    return results
