"""Streams from nodes to the server, in virtual time: in order, without loss, as late as the delay
says. What TCP and HTTP do to get there is for the tests of the drivers."""

from __future__ import annotations

from collections.abc import Iterable

from tests.sim.host import Host
from tests.sim.network import VirtualInternet
from tunnel.core.machine import FIRST_STREAM
from tunnel.core.transport import Opening
from tunnel.wire.endpoint import Endpoint

Place = tuple[Host, int]
"""One end of a stream: a host, and the number by which its machine knows it."""


class VirtualStreams:
    """Carries the streams of all hosts it was given to `server`."""

    def __init__(self, internet: VirtualInternet, server: Host, *hosts: Host) -> None:
        self.delay = 0.02
        """One way."""
        self.passes: Iterable[str] = ("tcp", "websocket")
        """Kinds that the network lets through."""
        self.is_dropping = False
        """Whether what does not pass is dropped in silence, instead of refused."""
        self.is_dead = False
        """Streams look open, but nothing comes by them."""
        self.opened: list[tuple[float, str]] = []
        """(internet's time, kind) of all that was asked for."""
        self._internet = internet
        self._server = server
        self._ends: dict[Place, Place] = {}
        self._number = FIRST_STREAM
        for host in (server, *hosts):
            host.streams = self

    def settle(self, host: Host) -> None:
        for number in host.machine.take_closings():
            self._close((host, number))
        take_openings = getattr(host.machine, "take_openings", None)
        for opening in take_openings() if take_openings is not None else ():
            self.opened.append((self._internet.now, opening.route.kind))
            self._internet.call_later(2 * self.delay, self._connect, host, opening)

    def carry(self, host: Host, number: int, datagram: bytes) -> None:
        other = self._ends.get((host, number))
        if other is not None and not self.is_dead:
            self._internet.call_later(self.delay, self._arrive, other, datagram)

    def break_all(self) -> None:
        """Both ends hear that their streams have ended."""
        for place in list(self._ends):
            self._ends.pop(place, None)
            self._tell_closed(place)

    def _connect(self, host: Host, opening: Opening) -> None:
        if opening.route.kind in self.passes and self._server.machine is not None:
            number, self._number = self._number, self._number + 1
            here, there = (host, opening.number), (self._server, number)
            self._ends[here], self._ends[there] = there, here
            source = Endpoint("198.51.100.99", 20000 + number % 20000)
            self._server.call(lambda m, now: m.stream_opened(number, source, now))
            target = Endpoint(self._server.address, opening.route.port)
            host.call(lambda m, now: m.stream_opened(opening.number, target, now))
        elif not self.is_dropping:
            self._tell_closed((host, opening.number))

    def _arrive(self, place: Place, datagram: bytes) -> None:
        if place in self._ends:
            host, number = place
            host.receive([datagram], Endpoint("198.51.100.99", 20000 + number % 20000), number)

    def _close(self, place: Place) -> None:
        other = self._ends.pop(place, None)
        if other is not None:
            self._internet.call_later(self.delay, self._end, other)

    def _end(self, place: Place) -> None:
        if self._ends.pop(place, None) is not None:
            self._tell_closed(place)

    def _tell_closed(self, place: Place) -> None:
        host, number = place
        if host.machine is not None:
            host.call(lambda m, now: m.stream_closed(number, "ended", now))
