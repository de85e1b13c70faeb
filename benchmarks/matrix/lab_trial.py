"""A pair in the lab, once, as a process of its own: `python -m benchmarks.matrix.lab_trial`.

A lab wants the main thread, so trials side by side are processes. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.netns.lab import Host, Lab
from tests.netns.world import PUNCHTUN, SERVER_ADDRESS, Node, World

from .pairs import Pair, named

NAMES = ("a", "b")


def prepare(folder: Path) -> None:
    """The state directories of a server and of two members of one network that have not met, in
    `folder`. A trial copies them, so that joining is no part of what is measured."""
    with Lab() as lab:
        world = World(lab, folder)
        world.start_server()
        hosts = [lab.public_host(f"host{n}", f"198.51.100.{n + 1}") for n in range(2)]
        first = world.found("a", hosts[0])
        world.join("b", hosts[1], first).wait()
        world.close()
    for name in NAMES:
        (folder / name / "peers.json").unlink(missing_ok=True)


def play(pair: Pair, prepared: Path, give_up: float, folder: Path) -> dict[str, Any]:
    """Start both nodes, wait until both are direct or `give_up` seconds have passed."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    with Lab() as lab:
        world = World(lab, folder)
        world.start_server()
        sites = pair.build(lab)
        for site in sites:
            _count_sent(site.host)
            for router in site.routers:
                router.count_entries()
        nodes = [world.node(name, site.host) for name, site in zip(NAMES, sites, strict=True)]
        began, began_at = time.monotonic(), time.time()
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_until_up()
        direct = _wait_until_direct(nodes, give_up - (time.monotonic() - began))
        sent = sum(_sent(site.host) for site in sites)
        direct_at = max(map(_direct_at, nodes)) if direct else math.nan
        registered_at = max(map(_registered_at, nodes))
        result = {
            "direct": direct,
            "seconds": direct_at - began_at if direct else None,
            "seconds_registered": direct_at - registered_at if direct else None,
            "sent": sent,
            "peaks": [max((r.peak_entries() for r in site.routers), default=0) for site in sites],
            "why": [] if direct else [_why(*pair_of) for pair_of in (nodes, nodes[::-1])],
        }
        world.close()
        return result


def _wait_until_direct(nodes: list[Node], seconds: float) -> bool:
    """Both ask at the same time, so that what is counted afterwards is not what waiting cost."""
    waiting = []
    for node, other in (nodes, nodes[::-1]):
        argv = [PUNCHTUN, "wait", "--peer", other.name, "--direct", "--timeout", f"{seconds:g}"]
        waiting.append(node.host.popen([*argv, "--state-dir", str(node.state)]))
    codes = [process.wait(seconds + 30) for process in waiting]
    if not set(codes) <= {0, 3, 4, 5}:
        raise RuntimeError("\n".join(process.tail() for process in waiting))
    return codes == [0, 0]


def _direct_at(node: Node) -> float:
    """When its path became the direct one that it is now (Unix seconds)."""
    at = 0.0
    was_relayed = True
    for event in node.events("path_changed"):
        is_relayed = event["after"].split()[0] in ("relay", "none")
        if was_relayed and not is_relayed:
            at = float(event["time"])
        was_relayed = is_relayed
    if not at:
        raise RuntimeError(f"{node.name} is direct but never said so")
    return at


def _registered_at(node: Node) -> float:
    """When the server knew it, for the first time."""
    events = node.events("server_registered")
    if not events:
        raise RuntimeError(f"{node.name} never registered\n{node.process.tail()}")
    return float(events[0]["time"])


def _why(node: Node, other: Node) -> str:
    for peer in node.status()["peers"]:
        if peer["name"] == other.name:
            why = peer["why_not_direct"]
            return f"{why['reason']} ({why['evidence']})" if why else "direct, but too late"
    return "never heard of the peer"


def _count_sent(host: Host) -> None:
    """UDP to others than the server."""
    host.nft(f"""
        table inet sent {{
            counter checks {{}}
            chain output {{
                type filter hook output priority raw;
                ip daddr {SERVER_ADDRESS} return
                meta l4proto udp counter name checks
            }}
        }}""")


def _sent(host: Host) -> int:
    listing = host.run(["nft", "-j", "list", "counter", "inet", "sent", "checks"]).stdout
    found = [item["counter"] for item in json.loads(listing)["nftables"] if "counter" in item]
    return int(found[0]["packets"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pair")
    parser.add_argument("prepared", type=Path)
    parser.add_argument("give_up", type=float)
    options = parser.parse_args()
    [pair] = named(options.pair)
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        result = play(pair, options.prepared, options.give_up, Path(folder))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
