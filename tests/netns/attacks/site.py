"""Where an attack takes place: the attacker's machine, what the pair noticed, and the result."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.netns.counters import Count, read_counter
from tests.netns.host import Host
from tests.netns.lab import Lab
from tests.netns.machine import Machine
from tests.netns.namespace import ip_batch, run_tool
from tests.netns.process import Process
from tests.netns.world import Node, World
from tunnel.drivers.control import request

ROOT = Path(__file__).parents[3]
FORGED = "198.18.0.0/15"
"""The range that forged sources are of: what is sent there comes to the attacker."""
FORGED6 = "2001:db8:f::/48"
ATTACKER, ATTACKER6 = "203.0.113.66", "2001:db8::66"


class Result(NamedTuple):
    """A row of the table."""

    attack: str
    tried: int
    """Datagrams, or packets."""
    accepted: int
    sent: int
    """Bytes of UDP payloads that the attacker sent."""
    answered: int
    """Bytes that came back to it, or to whom it pretended to be, IP and UDP headers not counted."""
    noticed: str
    """By those attacked."""


class Attacker:
    """A public machine that owns an address of each family and those of FORGED and FORGED6."""

    def __init__(self, lab: Lab) -> None:
        self.host = lab.public_host("mallory", ATTACKER, ipv6=ATTACKER6)
        route = f"route add {FORGED} via {ATTACKER} dev {self.host.name} onlink"
        ip_batch([route], namespace=lab.internet().namespace)
        lab.internet().route6(FORGED6, self.host)
        self._answers = ArrivalCounter(self.host)

    def run(self, attack: str, **arguments: Any) -> dict[str, Any]:
        """Until it has ended: what it sent."""
        return run_attack(self.host, attack, **arguments)

    def begin(self, attack: str, **arguments: Any) -> Process:
        return begin_attack(self.host, attack, **arguments)

    def answered(self) -> int:
        """Bytes of UDP payloads that have come, since the beginning."""
        return self._answers.payload_bytes()


class ArrivalCounter:
    """Of UDP that comes in at a host, which does not see it. From zero."""

    def __init__(self, host: Host) -> None:
        self._namespace = host.namespace
        run_tool(
            ["nft", "-f", "-"],
            namespace=self._namespace,
            text=f"""
            table inet arrivals {{
                counter arrived {{}}
                counter arrived6 {{}}
                chain prerouting {{
                    type filter hook prerouting priority raw;
                    iifname "{host.uplink}" ip protocol udp counter name arrived drop
                    iifname "{host.uplink}" ip6 nexthdr udp counter name arrived6 drop
                }}
            }}""",
        )

    def read(self) -> Count:
        """Of IPv4."""
        return read_counter(self._namespace, "arrivals", "arrived")

    def payload_bytes(self) -> int:
        by_ipv6 = read_counter(self._namespace, "arrivals", "arrived6")
        return payload_bytes(self.read()) + by_ipv6.bytes - 48 * by_ipv6.packets


def payload_bytes(count: Count) -> int:
    return count.bytes - 28 * count.packets


def begin_attack(machine: Machine, attack: str, **arguments: Any) -> Process:
    plan = json.dumps({"attack": attack, **arguments})
    return machine.popen([sys.executable, "-m", "tests.netns.attacks", plan], cwd=ROOT)


def run_attack(machine: Machine, attack: str, **arguments: Any) -> dict[str, Any]:
    return finish_attack(begin_attack(machine, attack, **arguments))


def finish_attack(process: Process) -> dict[str, Any]:
    """When it has ended: what it sent."""
    assert process.wait(120.0) == 0, process.tail()
    sent = json.loads(process.stdout)
    assert isinstance(sent, dict)
    return sent


def ask(state: Path, command: str) -> list[dict[str, Any]]:
    """What the node or server with that state directory answers to a command of its control
    socket. The installed command says the same, and takes a third of a second for it."""
    return list(request(state / "control.sock", {"command": command}, timeout=10.0))


class Watch:
    """What server and nodes have dropped, and what has become of the pairs, since it was made."""

    def __init__(self, world: World, nodes: Sequence[Node]) -> None:
        self._places = {"the server": world.folder / "server"}
        self._places |= {node.name: node.state for node in nodes}
        self._before = self._read()

    def dropped(self, *of: Node, server: bool = False) -> Counter[str]:
        """By reason. A frame that came again counts once."""
        now = self._read()
        names = [node.name for node in of] + (["the server"] if server else [])
        found: Counter[str] = Counter()
        for name in names:
            drops = now[name].drops - self._before[name].drops
            # What is opened one by one is counted at both places, many at a time at the second,
            # and the server's at the first.
            again = max(drops.pop("replay", 0), drops.pop("duplicates", 0))
            found.update(drops + Counter({"replay": again}))
        return found

    def changes(self) -> list[str]:
        """Paths that are others now, and events about paths, peers, keys or the server."""
        found = []
        for name, now in self._read().items():
            before = self._before[name]
            for peer, path in now.paths.items():
                if path != before.paths.get(peer):
                    found.append(f"{name} to {peer}: {before.paths.get(peer)}, now {path}")
            found += [f"{name}: {n} × {event}" for event, n in (now.events - before.events).items()]
        return found

    def moved(self, *names: str) -> int:
        """How many of these nodes' paths to each other are not what they were."""
        now = self._read()
        return sum(
            now[name].paths.get(peer) != self._before[name].paths.get(peer)
            for name in names
            for peer in names
            if peer != name
        )

    def noticed(self) -> str:
        return "; ".join(self.changes()) or UNMOVED

    def _read(self) -> dict[str, _Look]:
        return {name: _look(place) for name, place in self._places.items()}


UNMOVED = "nothing: paths, endpoints and keys as before"


class _Look(NamedTuple):
    drops: Counter[str]
    paths: dict[str, tuple[str, str | None]]
    """Peer → state and where its path leads."""
    events: Counter[str]


def _look(place: Path) -> _Look:
    (status,) = ask(place, "status")
    drops = Counter({reason: count for reason, count in status["drops"].items() if count})
    if "peers" not in status:
        return _Look(drops, {}, Counter())
    peers = status["peers"]
    drops["duplicates"] = sum(peer["duplicates_dropped"] for peer in peers)
    paths = {p["name"]: (p["state"], p["path"] and p["path"]["remote"]) for p in peers}
    events = Counter(event["event"] for event in ask(place, "events"))
    return _Look(drops, paths, Counter({e: n for e, n in events.items() if e not in _CALM}))


_CALM = ("path_measured",)
"""Events that come by themselves, some time after the start."""


def resident_kib(process: Process) -> int:
    """Memory of a process, as the kernel counts it (VmRSS)."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(process.pid)
