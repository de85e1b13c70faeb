"""What all rivals share: Debian's programs, started in namespaces, and a proof of directness."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from tests.netns.host import Host
from tests.netns.process import Process, stop_all

from ..contender import Unavailable

SERVER, LEFT, RIGHT = "10.99.0.1", "10.99.0.2", "10.99.0.3"
"""Addresses in the tunnel; all of them in one /24."""

_START_TIMEOUT = 60.0
_PINGS = 50


class Rival:
    """A contender but for `launch`, which says how its programs are configured and started."""

    name = ""
    patience = 40.0
    packages: tuple[tuple[str, str], ...] = ()
    """Commands, and the Debian package each is in."""

    def __init__(self, programs: Mapping[str, str] | None = None) -> None:
        """`programs`: for some of the commands, the file to run instead of what PATH has."""
        self._programs = programs or {}
        self._running: list[tuple[Host, Process]] = []
        self._server: Process | None = None

    def launch(self, vps: Host, left: Host, right: Host, folder: Path) -> None:
        """Start the server, if it has one, and a node on each side."""
        raise NotImplementedError

    def start(self, vps: Host, left: Host, right: Host, folder: Path) -> tuple[str, str]:
        """See `Contender.start`. No direct path within a minute is a reason to be unavailable."""
        missing = {
            package
            for command, package in self.packages
            if shutil.which(self._program(command)) is None
        }
        if missing:
            raise Unavailable(f"{self.name} needs the Debian packages {', '.join(sorted(missing))}")
        self.launch(vps, left, right, folder)
        deadline = time.monotonic() + _START_TIMEOUT
        while not is_direct(vps, left, right):
            ended = [process for _, process in self._running if process.returncode is not None]
            if ended:
                raise Unavailable(f"{self.name} ended by itself\n{ended[0].tail()}")
            if time.monotonic() > deadline:
                said = "\n".join(process.tail(10) for _, process in self._running)
                raise Unavailable(f"{self.name}: no direct path in {_START_TIMEOUT:g} s\n{said}")
        return LEFT, RIGHT

    def kill_server(self) -> None:
        """SIGKILL for the server; nothing where there is none."""
        if self._server is not None:
            self._server.send_signal(signal.SIGKILL)

    def processes(self, host: Host) -> list[Process]:
        """Its programs on that host."""
        return [process for where, process in self._running if where is host]

    def stop(self) -> None:
        """End them all."""
        stop_all([process for _, process in self._running])
        self._running.clear()
        self._server = None

    def _program(self, command: str) -> str:
        return self._programs.get(command, command)

    def _run_node(self, host: Host, argv: list[str]) -> Process:
        process = host.popen(argv)
        self._running.append((host, process))
        return process

    def _run_server(self, host: Host, argv: list[str]) -> Process:
        self._server = self._run_node(host, argv)
        return self._server


def is_direct(vps: Host, left: Host, right: Host) -> bool:
    """Whether pings pass both ways and all of them without crossing the server's interface.

    Left and right each have one interface, so what they sent and the server didn't see went
    straight from one public address to the other.
    """
    for source, target in ((left, RIGHT), (right, LEFT)):
        if source.run(["ping", "-c1", "-W0.5", "-q", target], check=False).returncode:
            return False
    carried, relayed = left.interface_counters(), vps.interface_counters()
    for source, target in ((left, RIGHT), (right, LEFT)):
        ping = ["ping", "-c", str(_PINGS), "-i", "0.02", "-W", "0.5", "-q", target]
        if f"{_PINGS} received" not in source.run(ping, check=False).stdout:
            return False
    carried_now, relayed_now = left.interface_counters(), vps.interface_counters()
    sent = carried_now.tx_packets - carried.tx_packets
    # Keep-alives and probes do reach the server meanwhile; relayed pings would be four times as
    # many as this.
    allowed = _PINGS // 2
    return sent >= 2 * _PINGS and relayed_now.rx_packets - relayed.rx_packets < allowed
