"""What peers cost that have nothing to say: CPU time of a node among 1, 100 and 1000 of them.

    .venv/bin/python -m benchmarks.idle_peers [--counts N ...] [--rounds N] [--minutes N]

In virtual time, with the real core and no driver. A node is registered with a server and has a
direct path to each of its peers, of which one is sent packets and the others are idle. Counted is
the CPU time of this process, first that of one packet and all that the driver asks after it, the
nodes taking turns; then that of idle minutes, keep-alives and rekeying included.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.sim.star import HUB, Star
from tunnel.core.node import Node

BATCH = 100
"""Inputs timed together."""
PACKET_INTERVAL = 0.0005
"""Seconds of virtual time between two packets."""


class Metered:
    """A node, and the CPU time spent in it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.seconds = 0.0
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.node, name)
        return self._meter(found) if callable(found) else found

    def _meter(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def metered(*arguments: Any) -> Any:
            began = time.thread_time()
            result = call(*arguments)
            self.seconds += time.thread_time() - began
            self.calls += 1
            return result

        return metered


def settle(node: Node, now: float) -> None:
    """As a driver does after every input."""
    node.datagrams_to_send(now)
    while node.next_event() is not None:
        pass
    node.get_timer()


class Measured(Star):
    def send_batch(self) -> float:
        """CPU seconds of one packet to one peer, and of settling after it."""
        node, now = self.node(HUB), self.hosts[HUB].now
        packet = [self.packet(HUB, self.names[0], bytes(64))]
        began = time.thread_time()
        for _ in range(BATCH):
            now += PACKET_INTERVAL
            node.send_packets(packet, now)
            settle(node, now)
        return (time.thread_time() - began) / BATCH

    def receive_batch(self) -> float:
        """CPU seconds of one packet from one peer, and of settling after it."""
        node, now = self.node(HUB), self.hosts[HUB].now
        sender, hub = self.node(self.names[0]), self.hosts[HUB].endpoint()
        source = self.hosts[self.names[0]].endpoint()
        packet = [self.packet(self.names[0], HUB, bytes(64))]
        frames = []
        for number in range(BATCH):
            sender.send_packets(packet, now + number * PACKET_INTERVAL)
            sent = sender.datagrams_to_send(now)
            frames += [[bytes(transmit.data)] for transmit in sent if transmit.endpoint == hub]
        began = time.thread_time()
        for frame in frames:
            now += PACKET_INTERVAL
            node.receive_datagrams(frame, source, now)
            settle(node, now)
        return (time.thread_time() - began) / len(frames)

    def pass_time(self) -> None:
        """As much as a batch took, so that echoes are answered."""
        self.net.run_for(BATCH * PACKET_INTERVAL)

    def idle(self, minutes: float) -> float:
        """CPU seconds of the node in a minute in which nobody sends anything."""
        host = self.hosts[HUB]
        metered = Metered(self.node(HUB))
        host.machine = metered
        self.net.run_for(60 * minutes)
        host.machine = metered.node
        return metered.seconds / minutes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--settle", type=float, default=300.0, help="virtual seconds before that")
    arguments = parser.parse_args()
    stars = {}
    for count in arguments.counts:
        began = time.monotonic()
        stars[count] = Measured(count, arguments.settle, is_examined=False)
        print(f"{count} peers: built in {time.monotonic() - began:.0f} s", file=sys.stderr)
    sent: dict[int, list[float]] = {count: [] for count in stars}
    received: dict[int, list[float]] = {count: [] for count in stars}
    for _ in range(arguments.rounds):
        for count, star in stars.items():
            sent[count].append(star.send_batch())
            star.pass_time()
            received[count].append(star.receive_batch())
            star.pass_time()
    for what, rounds in (("sent", sent), ("received", received)):
        first = statistics.median(next(iter(rounds.values())))
        for count, seconds in rounds.items():
            median = statistics.median(seconds)
            print(
                f"{count} peers: a packet {what} and settling {median * 1e6:.1f} µs "
                f"(least {min(seconds) * 1e6:.1f}), {median / first:.2f} × the first"
            )
    for count, star in stars.items():
        spent = star.idle(arguments.minutes)
        print(f"{count} peers: {spent * 1000:.1f} ms of an idle minute, {spent / 60:.3%} of a core")


if __name__ == "__main__":
    main()
