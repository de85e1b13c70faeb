"""A download where no UDP passes, beside the same through the relay over UDP.

    sudo .venv/bin/python -m benchmarks.udp_blocked [REPETITIONS] [MEGABYTES]

A desk behind an office's router and a machine at home, both NATs with random ports, so that the
pair is always relayed by the server. Then the office's router lets through: everything; nothing but
TCP to the server's port; nothing but TCP to port 443, where nginx (TLS) stands before the server.
The three alternate within one run.
Everything shares this machine's cores. Prints each download, the medians and the ratios, and how
long a node takes to find the next way after the router has changed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.netns.lab import Lab
from tests.netns.traffic import FileServer
from tests.netns.wait import wait_until
from tests.netns.web import WebServer
from tests.netns.world import PORT, PUNCHTUN, Node, World

RANDOM: dict[str, Any] = {"mapping": "address-and-port-dependent", "allocation": "random"}
PATIENCE = 60.0


def measure(folder: Path, repetitions: int, size: int) -> dict[str, list[tuple[float, float]]]:
    """Transport → (Mbit/s, seconds until it was in use) of each repetition."""
    figures: dict[str, list[tuple[float, float]]] = {}
    with Lab() as lab:
        world = World(lab, folder)
        vps = lab.public_host("vps", "203.0.113.10", ipv6="2001:db8::10")
        world.start_server("--http", "127.0.0.1:8443", host=vps)
        web = WebServer(vps, folder / "web", 8443)
        office = lab.home_router("office", public="198.51.100.7", **RANDOM)
        home = lab.home_router("home", public="192.0.2.33", **RANDOM)
        pi = world.found("pi", home.host("pi"))
        desk = world.node("desk", office.host("desk"))
        argv = [PUNCHTUN, "up", pi.invite("desk"), "--state-dir", str(desk.state)]
        desk.processes.append(desk.host.popen(argv, env={"SSL_CERT_FILE": str(web.certificate)}))
        desk.wait_until_up()
        desk.wait("pi")
        files = FileServer(pi.host, pi.ip4, folder / "files", size=size)
        ways: dict[str, Callable[[], None]] = {
            "udp": office.unblock,
            "tcp": lambda: office.allow_only_tcp(PORT),
            "websocket": lambda: office.allow_only_tcp(443),
        }
        for _ in range(repetitions):
            for transport, change in ways.items():
                change()
                found = wait_for(desk, transport)
                began = time.monotonic()
                files.fetch(desk.host)
                rate = size * 8 / (time.monotonic() - began) / 1e6
                figures.setdefault(transport, []).append((rate, found))
                print(f"{transport:10} {rate:7.0f} Mbit/s   found after {found:5.1f} s", flush=True)
        world.close()
    return figures


def wait_for(node: Node, transport: str) -> float:
    """Until the node uses that way to the server and reaches its peer; the seconds it took."""
    began = time.monotonic()

    def is_so() -> bool:
        status = node.status()
        server, peers = status["server"], status["peers"]
        is_connected = server["state"] == "connected" and server["transport"] == transport
        return is_connected and all(peer["state"] in ("relayed", "direct") for peer in peers)

    wait_until(is_so, timeout=PATIENCE, interval=0.1, what=f"{node.name} on {transport}")
    return time.monotonic() - began


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    size = int(sys.argv[2]) * 1_000_000 if len(sys.argv) > 2 else 20_000_000
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), repetitions, size)
    base = statistics.median(rate for rate, _ in figures["udp"])
    print("\nmedians")
    for transport, found in figures.items():
        rate = statistics.median(rate for rate, _ in found)
        seconds = statistics.median(seconds for _, seconds in found)
        print(
            f"{transport:10} {rate:7.0f} Mbit/s   {rate / base:4.2f} x relay by UDP   "
            f"found after {seconds:.1f} s"
        )


if __name__ == "__main__":
    main()
