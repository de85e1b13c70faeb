"""All streams of one process, by the numbers the core knows them by.

Does what the core asks (``take_openings``, ``take_closings``) and tells it what became of it
(``stream_opened``, ``stream_closed``). On a server streams come from outside, too (`add`).
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent

from tunnel.core.machine import Transmit
from tunnel.core.transport import Opening
from tunnel.dataplane.train import split
from tunnel.drivers import clock
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.stream import Stream
from tunnel.drivers.stream_connect import connect
from tunnel.drivers.stream_protocol import StreamProtocol
from tunnel.errors import Malformed
from tunnel.wire.endpoint import Endpoint

log = logging.getLogger(__name__)


class Streams:
    """Of the machine that `loop` drives."""

    def __init__(self, loop: MachineLoop, *, tls: ssl.SSLContext | None = None) -> None:
        self.counters: Counter[str] = Counter()
        """Reason → datagrams dropped, or streams ended, for it."""
        self._loop = loop
        self._machine: Any = loop.machine
        self._tls = tls
        self._streams: dict[int, Stream] = {}
        self._sources: dict[int, Endpoint] = {}
        self._connecting: dict[int, gevent.Greenlet[..., None]] = {}
        self._dirty: set[int] = set()
        loop.streams = self

    def __len__(self) -> int:
        return len(self._streams)

    def add(
        self,
        number: int,
        opened: socket.socket,
        protocol: StreamProtocol,
        source: Endpoint,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        """Take over a connected socket, with `source` at its other end."""
        stream = Stream(
            opened,
            protocol,
            on_datagrams=partial(self._receive, number),
            on_closed=partial(self._closed, number),
            on_ready=on_ready,
        )
        self._streams[number] = stream
        self._sources[number] = source
        stream.start()

    def set_source(self, number: int, source: Endpoint) -> None:
        """Whom its datagrams are from, where that is not who opened it: a proxy did."""
        self._sources[number] = source

    def transmit(self, transmit: Transmit) -> None:
        stream = self._streams.get(transmit.local)
        if stream is None:
            return
        for datagram in split(bytes(transmit.data), transmit.segment_size):
            stream.send(datagram)
        self._dirty.add(transmit.local)

    def settle(self) -> None:
        """Write what is to be sent, and do what the machine asks."""
        dirty, self._dirty = self._dirty, set()
        for number in dirty:
            if number in self._streams:
                self._streams[number].flush()
        for number in self._machine.take_closings():
            self._forget(number, must_close=True)
        take_openings = getattr(self._machine, "take_openings", None)
        for opening in take_openings() if take_openings is not None else ():
            self._connecting[opening.number] = gevent.spawn(self._open, opening)

    def close(self) -> None:
        """Close all. The machine is not told."""
        for number in [*self._streams, *self._connecting]:
            self._forget(number, must_close=True)

    def _open(self, opening: Opening) -> None:
        number, route = opening
        try:
            opened, protocol = connect(route, self._tls)
        except (OSError, Malformed) as error:
            self._connecting.pop(number, None)
            reason = str(getattr(error, "strerror", None) or error)
            log.debug("%s to %s:%d: %s", route.kind, route.host, route.port, reason)
            self._tell(lambda now: self._machine.stream_closed(number, reason, now))
            return
        self._connecting.pop(number, None)
        host, port = opened.getpeername()[:2]
        source = Endpoint(host.removeprefix("::ffff:").split("%")[0], port)

        def ready() -> None:
            self._tell(lambda now: self._machine.stream_opened(number, source, now))

        self.add(number, opened, protocol, source, ready)

    def _receive(self, number: int, datagrams: list[bytes]) -> None:
        now = clock.now()
        self._loop.receive(datagrams, self._sources[number], now, number)
        self._loop.settle(now)

    def _closed(self, number: int, reason: str) -> None:
        if number not in self._streams:
            return
        self.counters[f"stream: {reason}"] += 1
        self._forget(number, must_close=False)
        self._tell(lambda now: self._machine.stream_closed(number, reason, now))

    def _forget(self, number: int, *, must_close: bool) -> None:
        connecting = self._connecting.pop(number, None)
        if connecting is not None:
            connecting.kill(block=False)
        stream = self._streams.pop(number, None)
        self._sources.pop(number, None)
        if stream is not None:
            if stream.dropped:
                self.counters["stream: full"] += stream.dropped
            if must_close:
                stream.close()

    def _tell(self, call: Callable[[float], None]) -> None:
        now = clock.now()
        call(now)
        self._loop.settle(now)
