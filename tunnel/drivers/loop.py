"""Turning the crank of one machine: readable sockets, one timer, and settling after every input.

Callbacks run in gevent's hub and never block. Each drains its descriptor up to a budget and
returns: ``gevent.sleep(0)`` in a loop would starve the other direction (measured: 160 of 800
packets arrived; 800 with a budget).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gevent

from tunnel.core.machine import Machine, Transmit
from tunnel.dataplane.train import join
from tunnel.drivers import clock
from tunnel.drivers.udp import UdpSocket
from tunnel.wire.endpoint import Endpoint

log = logging.getLogger(__name__)

RECEIVE_BUDGET = 32
"""Receive calls a turn; each may bring a whole train."""


class MachineLoop:
    """Drives `machine` with datagrams from `sockets` (numbered as in ``Transmit.local``).

    If it has a ``receive_error(endpoint, mtu, now)``, that is called with each of
    :meth:`UdpSocket.read_errors`.
    """

    def __init__(
        self,
        machine: Any,
        sockets: Sequence[UdpSocket],
        *,
        on_packets: Callable[[list[bytes]], None] | None = None,
        after_settling: Callable[[], None] | None = None,
    ) -> None:
        self.machine: Machine = machine
        self.sockets = list(sockets)
        self._receive_datagrams = machine.receive_datagrams
        self._receive_error: Callable[[Endpoint, int | None, float], None] | None = getattr(
            machine, "receive_error", None
        )
        self._on_packets = on_packets
        self._after_settling = after_settling
        self._watchers: dict[int, Any] = {}
        self._timer: Any = None
        self._armed_at: float | None = None

    def start(self) -> None:
        for number, socket in enumerate(self.sockets):
            self.watch(socket.fileno(), partial(self._readable, number))

    def replace_socket(self, number: int, socket: UdpSocket) -> None:
        """Go on with `socket` instead, and close the other."""
        old = self.sockets[number]
        self._unwatch(old.fileno())
        self.sockets[number] = socket
        old.close()
        self.watch(socket.fileno(), partial(self._readable, number))

    def watch(self, fileno: int, callback: Callable[[], None]) -> None:
        """Call `callback` in the hub whenever `fileno` is readable."""
        watcher = gevent.get_hub().loop.io(fileno, 1)
        watcher.start(_guard(callback))
        self._watchers[fileno] = watcher

    def close(self) -> None:
        """Stop watching. The sockets stay open."""
        for fileno in list(self._watchers):
            self._unwatch(fileno)
        self._disarm()

    def _unwatch(self, fileno: int) -> None:
        watcher = self._watchers.pop(fileno)
        watcher.stop()
        watcher.close()

    def settle(self, now: float) -> None:
        """To be called after every input: send, report, re-arm."""
        for transmit in join(self.machine.datagrams_to_send(now)):
            self.transmit(transmit)
        if self._after_settling is not None:
            self._after_settling()
        self._arm(self.machine.get_timer(), now)

    def transmit(self, transmit: Transmit) -> None:
        if transmit.local < len(self.sockets):
            self.sockets[transmit.local].transmit(transmit)

    def _readable(self, number: int) -> None:
        now = clock.now()
        socket = self.sockets[number]
        arrivals = socket.receive(RECEIVE_BUDGET)
        for datagrams, source in arrivals:
            packets = self._receive_datagrams(datagrams, source, now, number)
            if packets and self._on_packets is not None:
                self._on_packets(packets)
        # A descriptor stays readable until its errors are read: what wakes without bringing
        # anything is one nobody noticed yet.
        if socket.has_errors or not arrivals:
            for endpoint, mtu in socket.read_errors():
                if self._receive_error is not None:
                    self._receive_error(endpoint, mtu, now)
        self.settle(now)

    def _timer_expired(self) -> None:
        self._armed_at = None
        now = clock.now()
        self.machine.handle_timer(now)
        self.settle(now)

    def _arm(self, at: float | None, now: float) -> None:
        if at is None:
            self._disarm()
            return
        # A timer that fires a little early is harmless, one that is set anew per packet is not.
        if self._armed_at is not None and now < self._armed_at <= at <= self._armed_at + 0.001:
            return
        self._disarm()
        self._armed_at = at
        self._timer = gevent.get_hub().loop.timer(max(0.0, at - now))
        self._timer.start(_guard(self._timer_expired), update=True)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._armed_at = None


def _guard(callback: Callable[[], None]) -> Callable[[], None]:
    """A callback that reports what should never happen, and lives on: one bad datagram must not
    take the tunnel down, and must not pass unnoticed."""

    def guarded() -> None:
        try:
            callback()
        except Exception:
            log.exception("unexpected error in %s", getattr(callback, "__qualname__", callback))

    return guarded
