"""punchtun as a contender, with what it says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.netns.host import Host
from tests.netns.process import Process
from tests.netns.world import PATIENCE, PUNCHTUN, Json, Node

_BEFORE = 70.0
"""Seconds before the disturbance from which events are reported."""


class Punchtun:
    """As installed, with no options."""

    name = "punchtun"
    patience = 8.0

    def __init__(self, program: str = PUNCHTUN, options: Sequence[str] = ()) -> None:
        """`options` are for `punchtun up`, on both hosts."""
        self._program = program
        self._options = options
        self._server: Process | None = None
        self._nodes: list[Node] = []

    def start(self, vps: Host, left: Host, right: Host, folder: Path) -> tuple[str, str]:
        state = ["--state-dir", str(folder / "server")]
        self._server = vps.popen([self._program, "server", "run", *state])
        self._server.wait_for("ready", timeout=PATIENCE)
        url = vps.run([self._program, "server", "url", "--host", vps.ip4, *state]).stdout.strip()
        founder, joiner = self._nodes = [
            Node(host.name, host, folder / host.name, self._program) for host in (left, right)
        ]
        founder.up("--server", url, "--name", founder.name, *self._options).wait()
        joiner.up(founder.invite(joiner.name), *self._options)
        for node, other in ((founder, joiner), (joiner, founder)):
            node.wait(other.name, direct=True)
            node.host.run(["ping", "-n", "-c", "1", "-W", "2", other.ip4])
        return founder.ip4, joiner.ip4

    def kill_server(self) -> None:
        assert self._server is not None
        self._server.send_signal(9)
        self._server.wait()

    def processes(self, host: Host) -> list[Process]:
        return [node.process for node in self._nodes if node.host is host]

    def stop(self) -> None:
        running = [node.process for node in self._nodes if node.is_running]
        if self._server is not None and self._server.returncode is None:
            running.append(self._server)
        for process in running:
            process.stop()

    def report(self, disturbed_at: float) -> dict[str, Any]:
        """What both nodes say happened since then (Unix time).

        `direct_again`: seconds until the later of them was direct again; None if neither noticed
        anything. `changes` of path, `doubts` and `duplicates_dropped` are of the node that counted
        more.
        """
        told = {node.name: _tell(node, disturbed_at) for node in self._nodes}
        returns = [one["direct_again"] for one in told.values() if one["direct_again"] is not None]
        return {
            "direct_again": max(returns, default=None),
            "changes": max(one["changes"] for one in told.values()),
            "doubts": max(one["doubts"] for one in told.values()),
            "duplicates_dropped": max(one["duplicates_dropped"] for one in told.values()),
            "states": "/".join(one["state"] for one in told.values()),
            "nodes": told,
        }


def _tell(node: Node, disturbed_at: float) -> dict[str, Any]:
    status = node.status()
    (peer,) = status["peers"]
    events = [event for event in node.events() if event["time"] > disturbed_at - _BEFORE]
    since = [event for event in events if event["time"] > disturbed_at]
    paths = [event for event in since if event["event"] in ("path_changed", "path_repaired")]
    return {
        "direct_again": _direct_again(since, disturbed_at),
        "changes": sum(event.get("before") != event.get("after") for event in paths),
        "doubts": sum(event["event"] == "path_doubted" for event in since),
        "state": peer["state"],
        "traceback": "Traceback" in node.process.stderr,
        "events": [{**event, "time": round(event["time"] - disturbed_at, 3)} for event in events],
        **{key: peer[key] for key in ("duplicates_dropped", "rx_packets", "tx_packets", "path")},
        "drops": status["drops"],
        "nat": status["nat"],
        "server": status["server"]["state"],
    }


def _direct_again(events: list[Json], disturbed_at: float) -> float | None:
    """Seconds until the path was direct again: the first event that says so, or the last return
    from later doubts and the relay. None if nothing was noticed."""
    found: float | None = None
    is_direct = False
    for event in events:
        match event["event"]:
            case "path_doubted":
                is_direct = False
            case "path_changed" if event["after"] in ("relay", "none"):
                is_direct = False
            case "path_changed" | "path_repaired":
                if not is_direct:
                    found = event["time"] - disturbed_at
                is_direct = True
            case _:
                pass
    return None if found is None else round(found, 3)
