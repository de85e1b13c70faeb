"""The rendezvous server's process."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket as system_socket
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from tunnel import __version__
from tunnel.core.configuration import ServerConfig
from tunnel.core.rendezvous import RendezvousServer
from tunnel.drivers import clock, systemd
from tunnel.drivers.control import ControlServer
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.load import read_load
from tunnel.drivers.log import tell_ready
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.stream_listener import StreamListeners, TlsFiles, allow_many_descriptors, listen
from tunnel.drivers.streams import Streams
from tunnel.drivers.threads import run_in_thread
from tunnel.drivers.udp import UdpSocket
from tunnel.errors import OperatorError, UsageError
from tunnel.state import RELAY_FILE, pack_relay_use
from tunnel.wire.endpoint import Endpoint

log = logging.getLogger(__name__)

SAVE_INTERVAL = 60.0
"""Seconds of relaying at most that a quota forgets in a power cut."""


class ServerDriver:
    """Two sockets for each address listened on: the port itself and the next one."""

    def __init__(
        self,
        config: ServerConfig,
        sockets: Sequence[UdpSocket],
        control_path: Path,
        stream_sockets: StreamSockets | None = None,
        directory: StateDirectory | None = None,
    ) -> None:
        """`directory`: where the use of the relay is kept."""
        self._server = RendezvousServer(
            config,
            now=clock.now(),
            random_bytes=clock.random_bytes,
            wall_clock=clock.wall_clock,
        )
        self._sockets = sockets
        self._loop = MachineLoop(self._server, sockets)
        self._streams = Streams(self._loop)
        self._listeners = StreamListeners(self._loop, self._streams)
        self._stream_sockets = stream_sockets or StreamSockets()
        self._control = ControlServer(control_path, self._answer)
        self.page_link: dict[str, Any] | None = None
        """``url``, ``token`` and ``is_loopback`` of its page, if it has one."""
        self._stopped = Event()
        self._directory = directory
        self._cannot_write = False

    def status(self) -> dict[str, Any]:
        """What ``punchtun server status --json`` shows."""
        status = self._server.status(clock.now())
        errors: Counter[str] = Counter()
        for counters in [*(socket.errors for socket in self._sockets), self._streams.counters]:
            errors.update(counters)
        load = read_load()
        return {
            "version": __version__,
            "uptime_s": round(load.uptime, 3),
            "cpu_s": round(load.cpu, 3),
            "memory_bytes": load.memory,
            **status,
            "ports": [socket.port for socket in self._sockets],
            "errors": dict(errors),
        }

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._stopped.set)
        self._loop.start()
        allow_many_descriptors()
        for listening in self._stream_sockets.tcp:
            self._listeners.add_tcp(listening)
        for listening in self._stream_sockets.http:
            self._listeners.add_http(listening, self._stream_sockets.tls)
        self._control.start()
        ports = ", ".join(str(socket.port) for socket in self._sockets)
        serving = f"UDP {ports}{self._stream_sockets.describe()}"
        tell_ready(f"rendezvous server on {serving}")
        systemd.obey_reload(self._reload)
        systemd.ready(f"serving on {serving}")
        keeping = gevent.spawn(self._keep_relay_use)
        try:
            self._beat_until_stopped()
        finally:
            systemd.stopping()
            self._stopped.set()
            keeping.join()  # Of two that write, the one with the older news may be the last.
            self._write_relay_use()
            self._control.close()
            self._listeners.close()
            self._streams.close()
            self._loop.close()
            for socket in self._sockets:
                socket.close()

    def _beat_until_stopped(self) -> None:
        interval = systemd.watchdog_interval()
        while not self._stopped.wait(interval):
            systemd.alive()

    def _keep_relay_use(self) -> None:
        while not self._stopped.wait(SAVE_INTERVAL):
            self._write_relay_use()

    def _write_relay_use(self) -> None:
        """What networks have had relayed, so that a restart gives nobody a quota anew."""
        use = self._server.take_relay_use() if self._directory is not None else None
        if self._directory is None or use is None:
            return
        try:
            run_in_thread(self._directory.write_json, RELAY_FILE, pack_relay_use(use))
            self._cannot_write = False
        except OperatorError as error:
            if not self._cannot_write:
                log.warning("what networks have had relayed is not kept: %s", error)
            self._cannot_write = True

    def _reload(self) -> None:
        if self._stream_sockets.tls is not None:
            self._stream_sockets.tls.context()  # Also reads what has been replaced.

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | Iterator[dict[str, Any]]:
        if request.get("command") == "page":
            if self.page_link is None:
                raise OperatorError(
                    "this server has no page: start it with --web, `--web 8080` for example"
                )
            return self.page_link
        if request.get("command") != "status":
            raise UsageError(f"unknown command {request.get('command')!r}")
        return self.status()


def describe_listeners(
    addresses: Sequence[tuple[str | None, int]], sockets: Sequence[UdpSocket]
) -> tuple[Endpoint | None, ...]:
    """``ServerConfig.listeners``: `sockets` are those of :func:`open_listeners` for `addresses`."""
    any_address = (None, "::", "0.0.0.0")
    return tuple(
        None if host in any_address else Endpoint(str(ipaddress.ip_address(host)), first.port)
        for (host, _), first in zip(addresses, sockets[::2], strict=True)
    )


@dataclass
class StreamSockets:
    """Sockets that listen for streams."""

    tcp: list[system_socket.socket] = field(default_factory=list)
    http: list[system_socket.socket] = field(default_factory=list)
    tls: TlsFiles | None = None
    """For `http`."""

    def describe(self) -> str:
        kinds = (("TCP", self.tcp), ("HTTPS" if self.tls else "HTTP", self.http))
        return "".join(
            f", {kind} {', '.join(str(each.getsockname()[1]) for each in sockets)}"
            for kind, sockets in kinds
            if sockets
        )

    def close(self) -> None:
        for each in [*self.tcp, *self.http]:
            each.close()


def open_stream_sockets(
    tcp: Sequence[tuple[str | None, int]] | None,
    http: Sequence[tuple[str | None, int]],
    tls: TlsFiles | None,
    default: Sequence[tuple[str | None, int]],
) -> StreamSockets:
    """Listen on what was asked for. `tcp` None: on `default`, those that are free. Raises
    OperatorError; then none stays open."""
    found = StreamSockets(tls=tls)
    try:
        for host, port in default if tcp is None else tcp:
            try:
                found.tcp.append(listen(host, port, "--tcp"))
            except OperatorError as error:
                if tcp is not None:
                    raise
                log.warning("going on without TCP: %s", error)
        for host, port in http:
            found.http.append(listen(host, port, "--http"))
    except BaseException:
        found.close()
        raise
    return found


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
