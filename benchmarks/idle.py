"""What a pair costs that has nothing to say: bytes a day, extrapolated from some minutes.

    sudo .venv/bin/python -m benchmarks.idle [--minutes N] [--timeout S]

Two nodes behind home routers whose mappings last `S` seconds (120, a plain Linux router's, unless
given). First waits until the lifetime of the mapping has been measured, which takes up to eight
minutes and is told apart; then counts for N minutes (10) what the nodes' UDP sockets send and
receive, IP headers included: keep-alives to the peer and to the server, and rekeying.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.netns.counters import UdpCounter
from tests.netns.lab import Lab
from tests.netns.world import PORT, World

DAY = 86_400


def total(counter: UdpCounter) -> int:
    return counter.sent().bytes + counter.received().bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--timeout", type=int, default=120)
    arguments = parser.parse_args()
    nat = {"udp_timeout": min(30, arguments.timeout), "udp_timeout_stream": arguments.timeout}
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        world = World(lab, Path(folder))
        world.start_server()
        one = lab.home_router("one", public="198.51.100.7", **nat).host("left")
        two = lab.home_router("two", public="192.0.2.33", lan="192.168.2.0/24", **nat).host("right")
        nodes = world.pair(one, two)
        counters = [node.host.count_udp(node.status()["node"]["listen_port"]) for node in nodes]
        began = time.monotonic()
        print("measuring the mapping's lifetime", file=sys.stderr)
        while True:  # Until the last step has been decided: nothing changes for longer than it.
            intervals = [node.status()["nat"]["keepalive_s"] for node in nodes]
            time.sleep(160)
            if intervals == [node.status()["nat"]["keepalive_s"] for node in nodes]:
                break
        spent = sum(map(total, counters))
        print(f"until it was measured: {spent} bytes in {time.monotonic() - began:.0f} s, once")
        for node in nodes:
            nat_status = node.status()["nat"]
            lifetime, keepalive = nat_status["mapping_lifetime_s"], nat_status["keepalive_s"]
            print(f"{node.name}: lifetime {lifetime} s, keep-alive every {keepalive} s")
        at_server = world.vps.count_udp(PORT)
        began, before = time.monotonic(), list(map(total, counters))
        sent = [counter.sent().bytes for counter in counters]
        time.sleep(arguments.minutes * 60)
        daily = DAY / (time.monotonic() - began) / 1e6
        for node, counter, first in zip(nodes, counters, before, strict=True):
            print(f"{node.name}: {(total(counter) - first) * daily:.3f} MB a day sent and received")
        between = sum(c.sent().bytes - s for c, s in zip(counters, sent, strict=True))
        between -= at_server.received().bytes
        print(f"the pair: {between * daily:.3f} MB a day between the two, each datagram once")
        print(f"the server: {total(at_server) * daily:.3f} MB a day with both")
        world.close()


if __name__ == "__main__":
    main()
