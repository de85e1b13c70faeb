"""The rendezvous server's process."""

from __future__ import annotations

import ipaddress
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from tunnel.core.configuration import ServerConfig
from tunnel.core.rendezvous import RendezvousServer
from tunnel.drivers import clock, systemd
from tunnel.drivers.control import ControlServer
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.udp import UdpSocket
from tunnel.errors import UsageError
from tunnel.wire.endpoint import Endpoint

log = logging.getLogger(__name__)


class ServerDriver:
    """Two sockets for each address listened on: the port itself and the next one."""

    def __init__(
        self,
        config: ServerConfig,
        sockets: Sequence[UdpSocket],
        control_path: Path,
    ) -> None:
        self._server = RendezvousServer(
            config,
            now=clock.now(),
            random_bytes=clock.random_bytes,
            wall_clock=clock.wall_clock,
        )
        self._sockets = sockets
        self._loop = MachineLoop(self._server, sockets)
        self._control = ControlServer(control_path, self._answer)
        self._stopped = Event()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._stopped.set)
        self._loop.start()
        self._control.start()
        ports = ", ".join(str(socket.port) for socket in self._sockets)
        print(f"ready: rendezvous server on UDP {ports}", file=sys.stderr, flush=True)
        systemd.ready(f"serving on UDP {ports}")
        try:
            self._beat_until_stopped()
        finally:
            systemd.stopping()
            self._control.close()
            self._loop.close()
            for socket in self._sockets:
                socket.close()

    def _beat_until_stopped(self) -> None:
        interval = systemd.watchdog_interval()
        while not self._stopped.wait(interval):
            systemd.alive()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | Iterator[dict[str, Any]]:
        if request.get("command") != "status":
            raise UsageError(f"unknown command {request.get('command')!r}")
        status = self._server.status(clock.now())
        errors: dict[str, int] = {}
        for socket in self._sockets:
            for name, count in socket.errors.items():
                errors[name] = errors.get(name, 0) + count
        return status | {"ports": [socket.port for socket in self._sockets], "errors": errors}


def describe_listeners(
    addresses: Sequence[tuple[str | None, int]], sockets: Sequence[UdpSocket]
) -> tuple[Endpoint | None, ...]:
    """``ServerConfig.listeners``: `sockets` are those of :func:`open_listeners` for `addresses`."""
    any_address = (None, "::", "0.0.0.0")
    return tuple(
        None if host in any_address else Endpoint(str(ipaddress.ip_address(host)), first.port)
        for (host, _), first in zip(addresses, sockets[::2], strict=True)
    )


def open_listeners(addresses: Sequence[tuple[str | None, int]]) -> list[UdpSocket]:
    """Two sockets for each address. Raises OperatorError; then none stays open."""
    sockets: list[UdpSocket] = []
    try:
        for host, port in addresses:
            first = UdpSocket(host, port)
            sockets.append(first)
            sockets.append(UdpSocket(host, first.port + 1))
    except BaseException:
        for socket in sockets:
            socket.close()
        raise
    return sockets
