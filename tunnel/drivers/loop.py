"""Turning the crank of one machine: readable sockets, one timer, and settling after every input.

Callbacks run in gevent's hub and never block. Each drains its descriptor up to a budget and
returns: ``gevent.sleep(0)`` in a loop would starve the other direction (measured: 160 of 800
packets arrived; 800 with a budget).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent

from tunnel.core.machine import Machine, Transmit, is_stream
from tunnel.dataplane.train import join
from tunnel.drivers import clock
from tunnel.drivers.udp import UdpSocket
from tunnel.errors import OperatorError
from tunnel.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from tunnel.drivers.streams import Streams

log = logging.getLogger(__name__)

SETTLE_WITHIN = 0.002
"""Seconds. Under load this is five hundred times a second, and not once a packet; nothing that the
core decides by the clock is finer."""
RECEIVE_BUDGET = 32
"""Arrivals a turn; each may be a whole train."""
_WRITABLE = 2
"""libev's EV_WRITE."""


class MachineLoop:
    """Drives `machine` with datagrams from `sockets` (numbered as in ``Transmit.local``).

    If it has a ``receive_error(endpoint, mtu, now)``, that is called with each of
    :meth:`UdpSocket.read_errors`; if it has a ``receive_time_exceeded(endpoint, router, now,
    local)``, that with each of :meth:`UdpSocket.take_time_exceeded`.
    """

    def __init__(
        self,
        machine: Any,
        sockets: Sequence[UdpSocket],
        *,
        on_packets: Callable[[list[bytes]], None] | None = None,
        after_settling: Callable[[], None] | None = None,
        open_socket: Callable[[], UdpSocket] | None = None,
        read_socket: Callable[[int, UdpSocket, float], bool] | None = None,
        before_sending: Callable[[], None] | None = None,
    ) -> None:
        """`open_socket` makes a socket, on a port of its own, for a number that has none, when the
        machine first sends from it; until :meth:`release_sockets`. It may raise OperatorError.
        `read_socket` takes what has arrived at a socket of that number instead of the machine, and
        settles; it returns whether there was anything. `before_sending` is called before anything
        is sent, after whatever input."""
        self.machine: Machine = machine
        self.sockets = dict(enumerate(sockets))
        self.drops: Counter[str] = Counter()
        """Reason → datagrams that could not even be tried."""
        self._fixed = len(self.sockets)
        self.streams: Streams | None = None
        """For ``Transmit.local`` from FIRST_STREAM on."""
        self._open_socket = open_socket
        self._read_socket = read_socket or self._read_all
        self._receive_datagrams = machine.receive_datagrams
        self._receive_error: Callable[[Endpoint, int | None, float], None] | None = getattr(
            machine, "receive_error", None
        )
        self._receive_time_exceeded: Callable[[Endpoint, str, float, int], None] | None = getattr(
            machine, "receive_time_exceeded", None
        )
        self._on_packets = on_packets
        self._before_sending = before_sending
        self._after_settling = after_settling
        self._watchers: dict[int, Any] = {}
        self._blocked: dict[int, Any] = {}
        """Number of a socket that holds datagrams back → what wakes us when it has room."""
        self._timer: Any = None
        self._armed_at: float | None = None
        self._soon: Any = None

    def start(self) -> None:
        for number, socket in self.sockets.items():
            self._attach(number, socket)

    def replace_socket(self, number: int, socket: UdpSocket) -> None:
        """Go on with `socket` instead, and close the other."""
        old = self.sockets[number]
        self._detach(number, old)
        self.sockets[number] = socket
        old.close()
        self._attach(number, socket)

    def release_sockets(self, numbers: Iterable[int]) -> None:
        """Close those opened when they were needed; a later datagram from such a number leaves from
        a new one. Numbers that have none, and the sockets given at the start, are left alone."""
        for number in numbers:
            if number >= self._fixed and number in self.sockets:
                socket = self.sockets.pop(number)
                self._detach(number, socket)
                socket.close()

    def watch(self, fileno: int, callback: Callable[[], None]) -> None:
        """Call `callback` in the hub whenever `fileno` is readable."""
        watcher = gevent.get_hub().loop.io(fileno, 1)
        watcher.start(_guard(callback))
        self._watchers[fileno] = watcher

    def close(self) -> None:
        """Stop watching. The sockets given at the start stay open."""
        for number in list(self._blocked):
            self.sockets[number].flush()  # good-byes, if they fit now
            self._unblock(number)
        self.release_sockets([*self.sockets])
        for fileno in list(self._watchers):
            self.unwatch(fileno)
        self._disarm()
        self._forget_soon()

    def unwatch(self, fileno: int) -> None:
        watcher = self._watchers.pop(fileno)
        watcher.stop()
        watcher.close()

    def settle(self, now: float) -> None:
        """To be called after every input: send, report, re-arm."""
        transmits = join(self.machine.datagrams_to_send(now))
        if self._before_sending is not None:
            self._before_sending()
        for transmit in transmits:
            self.transmit(transmit)
        if self._after_settling is not None:
            self._after_settling()
        if self.streams is not None:
            self.streams.settle()
        self._arm(self.machine.get_timer(), now)

    def settle_soon(self) -> None:
        """For inputs that come by the thousand and want nothing sent: settle in SETTLE_WITHIN
        seconds. Not at once, either: what is under way now does not wait for that."""
        if self._soon is None:
            self._soon = gevent.get_hub().loop.timer(SETTLE_WITHIN)
            self._soon.start(_guard(self._settle_now), update=True)

    def _settle_now(self) -> None:
        self._forget_soon()
        self.settle(clock.now())

    def _forget_soon(self) -> None:
        if self._soon is not None:
            self._soon.stop()
            self._soon.close()
            self._soon = None

    def transmit(self, transmit: Transmit) -> None:
        if is_stream(transmit.local):
            if self.streams is not None:
                self.streams.transmit(transmit)
            return
        socket = self.sockets.get(transmit.local) or self._open(transmit.local)
        if socket is not None:
            socket.transmit(transmit)

    def receive(self, datagrams: list[bytes], source: Endpoint, now: float, local: int) -> None:
        """Hand in what arrived together. The caller settles."""
        packets = self._receive_datagrams(datagrams, source, now, local)
        if packets and self._on_packets is not None:
            self._on_packets(packets)

    def _open(self, number: int) -> UdpSocket | None:
        if self._open_socket is None:
            self.drops["no such socket"] += 1
            return None
        try:
            socket = self._open_socket()
        except OperatorError as error:  # Descriptors or ports are used up.
            if not self.drops["socket not to be had"]:
                log.warning("%s", error)
            self.drops["socket not to be had"] += 1
            return None
        self.sockets[number] = socket
        self._attach(number, socket)
        return socket

    def _attach(self, number: int, socket: UdpSocket) -> None:
        self.watch(socket.fileno(), partial(self._readable, number))
        socket.call_when_blocked(partial(self._begin_blocking, number))

    def _detach(self, number: int, socket: UdpSocket) -> None:
        self.unwatch(socket.fileno())
        if number in self._blocked:
            self._unblock(number)

    def _begin_blocking(self, number: int) -> None:
        watcher = gevent.get_hub().loop.io(self.sockets[number].fileno(), _WRITABLE)
        watcher.start(_guard(partial(self._writable, number)))
        self._blocked[number] = watcher

    def _writable(self, number: int) -> None:
        if number not in self._blocked:  # Released in the same turn.
            return
        socket = self.sockets[number]
        socket.flush()
        if not socket.is_blocked:
            self._unblock(number)

    def _unblock(self, number: int) -> None:
        watcher = self._blocked.pop(number)
        watcher.stop()
        watcher.close()

    def _readable(self, number: int) -> None:
        now = clock.now()
        socket = self.sockets.get(number)
        if socket is None:  # Released in the same turn.
            return
        has_read = self._read_socket(number, socket, now)
        # A descriptor stays readable until its errors are read: what wakes without bringing
        # anything is one nobody noticed yet.
        if socket.has_errors or not has_read:
            for endpoint, mtu in socket.read_errors():
                if self._receive_error is not None:
                    self._receive_error(endpoint, mtu, now)
            for endpoint, router in socket.take_time_exceeded():
                if self._receive_time_exceeded is not None:
                    self._receive_time_exceeded(endpoint, router, now, number)
            self.settle(now)

    def _read_all(self, number: int, socket: UdpSocket, now: float) -> bool:
        arrivals = socket.receive(RECEIVE_BUDGET)
        for datagrams, source in arrivals:
            self.receive(datagrams, source, now, number)
        self.settle(now)
        return bool(arrivals)

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
