"""The port mapper's sockets, its router as the routing table has it, and its thread for UPnP."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.queue import Queue

from tunnel.core.events import Event as CoreEvent
from tunnel.core.port_mapping import CLOSE_PATIENCE, SERVICE_PORT, MapperState, PortMapper
from tunnel.core.upnp_operations import Internal, UpnpOperation
from tunnel.drivers import clock
from tunnel.drivers.igd import Igd
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.network import default_gateway
from tunnel.drivers.threads import run_in_thread
from tunnel.drivers.udp import UdpSocket
from tunnel.errors import OperatorError
from tunnel.noise.keys import PrivateKey
from tunnel.wire.endpoint import Endpoint

log = logging.getLogger(__name__)

ANNOUNCEMENTS = ("224.0.0.1", 5350)
"""Where routers say that they have started (RFC 6886 §3.2.1, RFC 6887 §14.1)."""
_LONGEST = 1100


class PortMapping:
    """Runs a `PortMapper`. `on_mapped` is called in the hub with where peers may send, when that
    has changed; `on_event` with what is to be told; `on_state` with the state's name in status."""

    def __init__(
        self,
        static: PrivateKey,
        tunnel_interface: str,
        on_mapped: Callable[[Endpoint | None], None],
        on_event: Callable[[CoreEvent], None],
        on_state: Callable[[str], None] | None = None,
    ) -> None:
        self._mapper = PortMapper(static, clock.random_bytes)
        self._tunnel_interface = tunnel_interface
        self._on_mapped = on_mapped
        self._on_event = on_event
        self._on_state = on_state
        self._state = ""
        self._mapped: Endpoint | None = None
        self._socket = UdpSocket("0.0.0.0", 0)
        self._announcements: socket.socket | None = None
        self._loop = MachineLoop(self._mapper, [self._socket], after_settling=self._report)
        self._igd = Igd()
        self._operations: Queue[UpnpOperation] = Queue()
        self._worker: Any = None
        self._closed = Event()
        self._loop.start()

    def describe(self) -> dict[str, Any]:
        return self._mapper.describe(clock.now())

    def network_changed(self, port: int) -> None:
        """To be called at start and whenever routes, addresses or our UDP port may have changed.
        Takes milliseconds, and must not be called in the hub."""
        internal, reason = self._find_router(port)
        self._listen(internal)
        now = clock.now()
        self._mapper.set_network(internal, now, reason)
        self._loop.settle(now)

    def check(self) -> None:
        """See whether the router still forwards."""
        now = clock.now()
        self._mapper.check(now)
        self._loop.settle(now)

    def close(self) -> None:
        """Give the mapping up, which blocks the calling greenlet for 3 s at most."""
        now = clock.now()
        self._mapper.close(now)
        self._loop.settle(now)
        self._closed.wait(CLOSE_PATIENCE + 1)
        self._loop.close()
        if self._worker is not None:
            self._worker.kill()
        self._socket.close()
        if self._announcements is not None:
            self._announcements.close()

    def _report(self) -> None:
        """After every input of the mapper."""
        for operation in self._mapper.take_operations():
            self._operations.put(operation)
            if self._worker is None:
                self._worker = gevent.spawn(self._work)
        while (event := self._mapper.next_event()) is not None:
            self._on_event(event)
        state = str(self.describe()["state"])
        if self._on_state is not None and state != self._state:
            self._state = state
            self._on_state(state)
        if self._mapper.state is MapperState.CLOSED:
            self._closed.set()
        elif self._mapper.external != self._mapped:
            self._mapped = self._mapper.external
            self._on_mapped(self._mapped)

    def _work(self) -> None:
        while True:
            result = run_in_thread(self._igd.carry_out, self._operations.get())
            now = clock.now()
            self._mapper.receive_result(result, now)
            self._loop.settle(now)

    # The network

    def _find_router(self, port: int) -> tuple[Internal | None, str]:
        try:
            gateway = default_gateway([self._tunnel_interface])
            if gateway is None:
                return None, "there is no router: no default route for IPv4"
            return Internal(gateway, _local_address(gateway), port), ""
        except (OperatorError, OSError) as error:
            return None, f"the router is not to be found: {error}"

    def _listen(self, internal: Internal | None) -> None:
        """Join the group on the interface that leads to the router."""
        if self._announcements is not None:
            self._loop.unwatch(self._announcements.fileno())
            self._announcements.close()
            self._announcements = None
        if internal is None:
            return
        try:
            self._announcements = _join(internal.host)
        except OSError as error:
            # Only a router that starts again is noticed later.
            log.info("no announcements of the router: UDP port 5350: %s", error.strerror)
            return
        self._loop.watch(self._announcements.fileno(), self._announced)

    def _announced(self) -> None:
        assert self._announcements is not None
        try:
            datagram, (host, port) = self._announcements.recvfrom(_LONGEST)
        except OSError:
            return
        now = clock.now()
        self._mapper.receive_datagrams([datagram], Endpoint(host, port), now)
        self._loop.settle(now)


def _local_address(gateway: str) -> str:
    """From which of our addresses packets to it leave. Nothing is sent. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((gateway, SERVICE_PORT))
        return str(probe.getsockname()[0])


def _join(host: str) -> socket.socket:
    """A socket of the announcements that arrive at the interface with that address."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        # Other programs of this machine listen for the same.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(ANNOUNCEMENTS)
        membership = struct.pack("=4s4s", *map(socket.inet_aton, (ANNOUNCEMENTS[0], host)))
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    except OSError:
        opened.close()
        raise
    return opened
