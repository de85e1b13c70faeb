"""punchtun itself in a lab: its server and its nodes, as the installed command.

::

    with Lab() as lab:
        world = World(lab, folder)
        world.start_server()
        attic = world.found("attic", lab.home_router("homeA", public="198.51.100.7").host("a"))
        camera = world.join("camera", lab.carrier("cgn", public="192.0.2.33").host("b"), attic)
        camera.wait("attic", direct=True)
        camera.host.run(["ping", "-c1", attic.ip4])
        world.close()

Every process keeps its state in `folder`. Waits are bounded and, when in vain, say what every
process wrote.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .host import Host
from .lab import Lab
from .process import Process
from .wait import wait_until

PUNCHTUN = str(Path(sys.executable).with_name("punchtun"))
SERVER_ADDRESS = "203.0.113.10"
PORT = 12345
PATIENCE = 20.0
"""Seconds after which a test gives up. Nothing here takes as long on a machine that is not busy."""

Json = dict[str, Any]


class Node:
    """punchtun on one host, with a state directory of its own. It may be stopped and restarted."""

    def __init__(self, name: str, host: Host, state: Path, program: str = PUNCHTUN) -> None:
        self.name = name
        self.host = host
        self.state = state
        self.program = program
        self.processes: list[Process] = []
        """All that were started, the present one last."""
        self._addresses: list[str] = []

    @property
    def process(self) -> Process:
        return self.processes[-1]

    @property
    def is_running(self) -> bool:
        return bool(self.processes) and self.process.returncode is None

    # Commands

    def start(self, *arguments: str) -> Process:
        """`punchtun up …`, without waiting for anything."""
        argv = [self.program, "up", *arguments, "--state-dir", str(self.state)]
        self.processes.append(self.host.popen(argv))
        return self.process

    def up(self, *arguments: str) -> Node:
        """`punchtun up …`, until it answers commands."""
        self.start(*arguments)
        return self.wait_until_up()

    def wait_until_up(self) -> Node:
        """Until the process started last answers commands."""
        self.process.wait_for(" on interface ", timeout=PATIENCE)
        return self

    def run(
        self, command: str, *arguments: str, check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """`punchtun COMMAND … --state-dir …` on the node's host."""
        argv = [self.program, command, *arguments, "--state-dir", str(self.state)]
        return self.host.run(argv, check=check, timeout=timeout)

    def json(self, command: str, *arguments: str) -> Any:
        return json.loads(self.run(command, *arguments, "--json").stdout)

    def status(self) -> Json:
        answer = self.json("status")
        assert isinstance(answer, dict)
        return answer

    def events(self, name: str | None = None) -> list[Json]:
        """All events since the process began, or those of that name."""
        lines = self.run("events", "--json").stdout.splitlines()
        parsed = [json.loads(line) for line in lines]
        return [event for event in parsed if name in (None, event["event"])]

    def invite(self, name: str, *arguments: str) -> str:
        """A join string."""
        return self.run("invite", name, *arguments).stdout.strip()

    def wait(self, peer: str | None = None, *, direct: bool = False) -> None:
        """`punchtun wait` for the peer, or the server, to be reached. AssertionError if not."""
        asked = ["--peer", peer] if peer else []
        asked += ["--direct"] if direct else []
        result = self.run("wait", *asked, "--timeout", f"{PATIENCE:g}", check=False)
        assert result.returncode == 0, (
            f"{self.name}: wait {' '.join(asked)} ended with {result.returncode} "
            f"({result.stdout.strip()}{result.stderr.strip()})"
        )

    def wait_for_state(self, peer: str, *states: str, timeout: float = PATIENCE) -> None:
        """Until `status` reports one of these states of the peer."""
        wait_until(
            lambda: self.peer(peer)["state"] in states,
            timeout=timeout,
            interval=0.1,
            what=f"{self.name}: {peer} {' or '.join(states)}",
        )

    # What `status` says

    def peer(self, name: str) -> Json:
        """The entry of that peer in `status`."""
        for entry in self.status()["peers"]:
            if entry["name"] == name:
                assert isinstance(entry, dict)
                return entry
        raise AssertionError(f"{self.name} knows no peer {name}")

    @property
    def interface(self) -> str:
        return str(self.status()["node"]["interface"])

    @property
    def ip4(self) -> str:
        return self._address(4)

    @property
    def ip6(self) -> str:
        return self._address(6)

    def _address(self, version: int) -> str:
        self._addresses = self._addresses or self.status()["node"]["addresses"]
        return next(a for a in self._addresses if ipaddress.ip_address(a).version == version)

    # Its end

    def kill(self) -> None:
        """SIGKILL: no good-bye."""
        self.process.send_signal(9)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(15)
        return self.process.wait()

    def leftovers(self) -> list[str]:
        """What a node that has ended ought not to leave behind."""
        found = []
        links = self.host.run(["ip", "-o", "link"]).stdout
        routes = self.host.run(["ip", "route"]).stdout + self.host.run(["ip", "-6", "route"]).stdout
        for what, text in (("link", links), ("route", routes)):
            found += [f"{what}: {line}" for line in text.splitlines() if "punchtun" in line]
        found += [str(path) for path in self.state.glob("*.sock")]
        found += [str(path) for path in self.state.glob(".*.json.*")]
        hosts = self.host.hosts_file.read_text()
        found += [f"hosts: {line}" for line in hosts.splitlines() if str(self.state) in line]
        return found + [str(process) for process in self.processes if process.returncode is None]


class World:
    """A server on a public host, and nodes."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.nodes: list[Node] = []
        self.server_processes: list[Process] = []
        self.expected_to_fail: list[Process] = []
        """Processes of nodes whose exit code other than 0 is what the test wants."""

    # The server

    def start_server(self, *arguments: str, host: Host | None = None) -> None:
        """`punchtun server run` on `host`, by default a new public one; until it serves."""
        if host is not None or not self.server_processes:
            self.vps = host or self.lab.public_host("vps", SERVER_ADDRESS, ipv6="2001:db8::10")
        state = str(self.folder / "server")
        argv = [PUNCHTUN, "server", "run", "--state-dir", state, *arguments]
        self.server_processes.append(self.vps.popen(argv))
        self.server.wait_for("ready", timeout=PATIENCE)
        self.url = self.server_url(self.vps.ip4)

    def server_url(self, host: str) -> str:
        argv = [PUNCHTUN, "server", "url", "--host", host]
        return self.vps.run([*argv, "--state-dir", str(self.folder / "server")]).stdout.strip()

    @property
    def server(self) -> Process:
        return self.server_processes[-1]

    def server_status(self) -> Json:
        argv = [PUNCHTUN, "server", "status", "--json", "--state-dir", str(self.folder / "server")]
        answer = json.loads(self.vps.run(argv).stdout)
        assert isinstance(answer, dict)
        return answer

    # Nodes

    def node(self, name: str, host: Host) -> Node:
        """Nothing is started."""
        node = Node(name, host, self.folder / name)
        self.nodes.append(node)
        return node

    def found(self, name: str, host: Host, *arguments: str) -> Node:
        """The first node of a network, registered at the server."""
        node = self.node(name, host).up("--server", self.url, "--name", name, *arguments)
        node.wait()
        return node

    def join(self, name: str, host: Host, inviter: Node, *arguments: str) -> Node:
        """A node that was invited and has its interface."""
        return self.node(name, host).up(inviter.invite(name), *arguments)

    def pair(self, first: Host, second: Host, *arguments: str) -> tuple[Node, Node]:
        """Two nodes, "attic" and "camera", that reach each other directly."""
        attic = self.found("attic", first, *arguments)
        camera = self.join("camera", second, attic, *arguments)
        self.wait_direct(attic, camera)
        return attic, camera

    def wait_direct(self, one: Node, other: Node) -> None:
        """Until both sides call it direct."""
        one.wait(other.name, direct=True)
        other.wait(one.name, direct=True)

    # The end

    def close(self) -> None:
        """SIGTERM to all; AssertionError unless they leave in order and raised nothing unseen."""
        processes = [node.process for node in self.nodes if node.is_running]
        if self.server_processes and self.server.returncode is None:
            processes.append(self.server)
        for process in processes:
            process.send_signal(15)
        for process in processes:
            process.wait(PATIENCE)
        everything = [process for node in self.nodes for process in node.processes]
        complaints = [
            process.tail(200)
            for process in [*everything, *self.server_processes]
            if "Traceback" in process.stderr
            or (process.returncode not in (0, -9) and process not in self.expected_to_fail)
        ]
        complaints += [f"{n.name} left {what}" for n in self.nodes for what in _lasting(n)]
        assert not complaints, "\n".join(complaints)


def _lasting(node: Node) -> list[str]:
    return [] if node.processes and node.process.returncode == -9 else node.leftovers()


def growing(read: Callable[[], int], by: int, *, timeout: float = PATIENCE) -> float:
    """Wait until what `read` returns has grown by so much; the seconds it took."""
    began = time.monotonic()
    start = read()
    wait_until(lambda: read() >= start + by, timeout=timeout, what=f"growth by {by}")
    return time.monotonic() - began
