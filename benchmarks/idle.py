"""What a pair costs that has nothing to say: bytes a day, extrapolated from some minutes.

    sudo .venv/bin/python -m benchmarks.idle [--minutes N] [--timeout S]

Two nodes behind home routers whose mappings last `S` seconds (120, a plain Linux router's, unless
given). First waits until the lifetime of the mapping has been measured, which takes up to eight
minutes and is told apart; then counts for N minutes (10) everything on the uplinks of both nodes:
keep-alives to the peer and to the server, IP headers and ARP included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.netns.host import Host
from tests.netns.lab import Lab
from tests.netns.world import World

DAY = 86_400


def count_bytes(host: Host) -> int:
    counters = host.interface_counters()
    return counters.rx_bytes + counters.tx_bytes


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
        began, before = time.monotonic(), sum(count_bytes(node.host) for node in nodes)
        print("measuring the mapping's lifetime", file=sys.stderr)
        while any(node.status()["nat"]["keepalive_s"] == 15.0 for node in nodes):
            if time.monotonic() - began > 600:
                break
            time.sleep(5)
        while True:  # Until the last step has been decided: nothing changes for longer than it.
            intervals = [node.status()["nat"]["keepalive_s"] for node in nodes]
            time.sleep(160)
            if intervals == [node.status()["nat"]["keepalive_s"] for node in nodes]:
                break
        spent = sum(count_bytes(node.host) for node in nodes) - before
        print(f"measuring the lifetime     {spent} bytes in {time.monotonic() - began:.0f} s, once")
        for node in nodes:
            nat_status = node.status()["nat"]
            lifetime, keepalive = nat_status["mapping_lifetime_s"], nat_status["keepalive_s"]
            print(f"{node.name:26} lifetime {lifetime} s, keep-alive every {keepalive} s")
        began, start = time.monotonic(), [count_bytes(node.host) for node in nodes]
        time.sleep(arguments.minutes * 60)
        seconds = time.monotonic() - began
        total = 0.0
        for node, first in zip(nodes, start, strict=True):
            daily = (count_bytes(node.host) - first) * DAY / seconds
            total += daily
            print(f"{node.name:26} {daily / 1e6:.3f} MB a day")
        print(f"{'both, that is, the pair':26} {total / 1e6:.3f} MB a day")
        world.close()


if __name__ == "__main__":
    main()
