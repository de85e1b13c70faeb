"""How long a ping waits while transfers fill a slow line, with the tunnel and without.

    sudo .venv/bin/python -m benchmarks.full_line [--rate 20mbit] [--queue 100ms] [--flows 8]
        [--control cubic] [--seconds 14] [--repetitions 3]

Two public hosts; the line of one is limited to the rate, with a queue before it that holds what it
carries in so much time. TCP flows from that host to the other, iperf3's, and a ping ten times a
second beside them in their second half. By turns straight and through the tunnel. One line a
repetition: megabits a second, round trip in ms (median and longest), pings lost of those sent.

With a long queue, as cards without an active queue management have it, only the socket's send
buffer limits what waits.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from pathlib import Path

from tests.netns.lab import Host, Lab
from tests.netns.world import World

INTERVAL = 0.1


def measure(
    near: Host, far: Host, address: str, arguments: argparse.Namespace
) -> tuple[float, list[float], int]:
    """Megabits a second, round trips, pings sent."""
    server = far.popen(["iperf3", "-s", "-1", "--forceflush", "-B", address])
    server.wait_for("Server listening")
    options = ["-t", str(arguments.seconds), "-P", str(arguments.flows), "-C", arguments.control]
    flows = near.popen(["iperf3", "-c", address, "-J", *options])
    time.sleep(arguments.seconds / 2)
    count = int(arguments.seconds / 3 / INTERVAL)
    ping = near.popen(["ping", "-n", "-i", str(INTERVAL), "-c", str(count), "-W", "5", address])
    ping.wait(arguments.seconds + 10)
    flows.wait(arguments.seconds + 20)
    server.wait(10)
    rate = json.loads(flows.stdout)["end"]["sum_received"]["bits_per_second"] / 1e6
    return rate, [float(text) for text in re.findall(r"time=([\d.]+)", ping.stdout)], count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", default="20mbit")
    parser.add_argument("--queue", default="100ms")
    parser.add_argument("--flows", type=int, default=8)
    parser.add_argument("--control", default="cubic")
    parser.add_argument("--seconds", type=int, default=14)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        world = World(lab, Path(folder))
        world.start_server()
        near, far = (lab.public_host(f"host{i}", f"203.0.113.2{i}") for i in range(2))
        one, other = world.pair(near, far)
        world.wait_direct(one, other)
        bucket = ["rate", arguments.rate, "burst", "64kb", "latency", arguments.queue]
        near.run(["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *bucket])
        for _ in range(arguments.repetitions):
            for name, address in (("straight", far.ip4), ("punchtun", other.ip4)):
                rate, times, sent = measure(near, far, address, arguments)
                median = statistics.median(times) if times else float("nan")
                longest = max(times, default=float("nan"))
                print(
                    f"{name}: {rate:6.1f} Mbit/s, {median:7.1f} / {longest:7.1f} ms, "
                    f"{sent - len(times)} of {sent} lost",
                    flush=True,
                )
        print(f"dropped at {one.name}: {one.status()['drops']}")
        world.close()


if __name__ == "__main__":
    main()
