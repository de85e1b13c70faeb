"""What is measured, and how: each measure takes a site with its contender up, and gives figures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.netns.host import Host
from tests.netns.process import Process

from . import flood
from .contender import Contender
from .costs import peak_memory, spent
from .readings import parse_iperf, parse_ping, percentile
from .search import Trial, highest_rate
from .site import Site

Figures = dict[str, float]

IPERF_PORT = 5201
FLOOD_PORT = 7117
PING_INTERVAL = 0.005
IDLE_PINGS = 500
DRAIN = 0.3
"""Seconds for what is still in queues after a flood."""
TRIAL = 1.0
"""Seconds of one trial of the search."""
GRACE = 15.0
"""Seconds more than it should take, after which a tool is given up."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A site, whose contender is up."""

    site: Site
    contender: Contender
    seconds: float

    @property
    def pids(self) -> list[int]:
        hosts = (self.site.left, self.site.right)
        return [one.pid for host in hosts for one in self.contender.processes(host)]


def take(measure: str, setting: Setting) -> Figures:
    """The figures of a measure, and the largest memory that a process of the contender ever had."""
    figures = MEASURES[measure](setting)
    memory = [peak_memory(pid) for pid in setting.pids]
    return {**figures, "memory": max(memory)} if memory else figures


def bulk(setting: Setting, *options: str) -> Figures:
    """TCP from left to right with iperf3, and what it cost."""
    before = spent(setting.pids)
    transfer = parse_iperf(_iperf(setting, *options))
    cost = spent(setting.pids).since(before)
    gigabytes = transfer.bytes / 1e9
    figures = {
        "bits_per_second": transfer.bits_per_second,
        "machine_per_gigabyte": cost.machine / gigabytes,
    }
    own = {"cpu_per_gigabyte": cost.processes / gigabytes} if setting.pids else {}
    return {**figures, **own}


def small(setting: Setting) -> Figures:
    """As many datagrams as the sender can."""
    trial = _flood(setting, setting.seconds, 0.0)
    return {"delivered_per_second": trial.delivered, "offered_per_second": trial.offered}


def steady(setting: Setting) -> Figures:
    """The highest rate of which at most 1 % is lost."""
    trial = highest_rate(lambda rate: _flood(setting, TRIAL, rate))
    return {"delivered_per_second": trial.delivered, "offered_per_second": trial.offered}


def idle_round_trip(setting: Setting) -> Figures:
    """Pings, nothing else under way."""
    return _round_trips(_ping(setting, IDLE_PINGS))


def loaded_round_trip(setting: Setting) -> Figures:
    """Pings beside one flow of TCP in the same direction."""
    with_load = setting.seconds + 1.0
    server, client = _start_iperf(setting, "-t", f"{with_load:g}")
    try:
        time.sleep(0.5)
        figures = _round_trips(_ping(setting, round(setting.seconds / PING_INTERVAL)))
        client.wait(with_load + GRACE)
        transfer = parse_iperf(client.stdout)
    finally:
        client.stop()
        server.stop()
    return {**figures, "bits_per_second": transfer.bits_per_second}


MEASURES: dict[str, Callable[[Setting], Figures]] = {
    "bulk-1": lambda setting: bulk(setting),
    "bulk-4": lambda setting: bulk(setting, "-P", "4"),
    "both": lambda setting: bulk(setting, "--bidir"),
    "small": small,
    "steady": steady,
    "rtt": idle_round_trip,
    "loaded": loaded_round_trip,
}


def warm_up(setting: Setting) -> bool:
    """Half a second of bulk; whether a frame larger than the MTU allows crossed the cable."""
    server, client = _start_iperf(setting, "-t", "1")
    try:
        too_large = setting.site.frames_too_large(0.5)
        client.wait(1.0 + GRACE)
    finally:
        client.stop()
        server.stop()
    return too_large


def _iperf(setting: Setting, *options: str) -> str:
    server, client = _start_iperf(setting, "-t", f"{setting.seconds:g}", *options)
    try:
        client.wait(setting.seconds + GRACE)
        return client.stdout
    finally:
        client.stop()
        server.stop()


def _start_iperf(setting: Setting, *options: str) -> tuple[Process, Process]:
    """Server on the right, client on the left."""
    site, (_, address) = setting.site, setting.site.addresses
    server = site.right.popen(
        ["iperf3", "-s", "-1", "--forceflush", "-B", address, "-p", str(IPERF_PORT)]
    )
    server.wait_for("Server listening")
    argv = ["iperf3", "-J", "-c", address, "-p", str(IPERF_PORT), "--connect-timeout", "5000"]
    return server, site.left.popen([*argv, *options])


def _ping(setting: Setting, count: int) -> str:
    address = setting.site.addresses[1]
    argv = ["ping", "-n", "-i", f"{PING_INTERVAL:g}", "-c", str(count), "-W", "1", address]
    result = setting.site.left.run(argv, check=False, timeout=count * PING_INTERVAL * 3 + GRACE)
    return str(result.stdout)


def _round_trips(text: str) -> Figures:
    found = parse_ping(text)
    return {
        "p50": percentile(found.times, 50),
        "p99": percentile(found.times, 99),
        "lost": 1 - len(found.times) / found.sent,
    }


def _flood(setting: Setting, seconds: float, rate: float) -> Trial:
    left, right = setting.site.addresses
    port = str(FLOOD_PORT)
    receiver = _run_flood(setting.site.right, "receive", right, port)
    try:
        receiver.wait_for("ready")
        times = ["--seconds", f"{seconds:g}", "--rate", f"{rate:g}"]
        sender = _run_flood(setting.site.left, "send", left, right, port, *times)
        try:
            if sender.wait(seconds + GRACE):
                raise RuntimeError(sender.tail())
        finally:
            sender.stop()
        time.sleep(DRAIN)
        receiver.send_signal(15)
        if receiver.wait(GRACE):
            raise RuntimeError(receiver.tail())
    finally:
        receiver.stop()
    sent = json.loads(sender.stdout)
    seen = json.loads(receiver.stdout.splitlines()[-1])
    return Trial(
        wanted=rate,
        offered=sent["sent"] / sent["seconds"],
        delivered=seen["distinct"] / sent["seconds"],
    )


def _run_flood(host: Host, *arguments: str) -> Process:
    # By path and isolated: it starts fast, and imports nothing it has not asked for.
    return host.popen([sys.executable, "-I", str(flood.__file__), *arguments])
