"""One TCP stream that carries datagrams: reads, writes, and never waits.

The kernel's buffer is kept short, and what waits behind it as well: a datagram that would wait
longer than that is dropped, as on any full link, so that what carries TCP inside does not learn of
congestion by seconds of delay.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

import gevent

from tunnel.drivers.stream_protocol import StreamProtocol
from tunnel.errors import Malformed

log = logging.getLogger(__name__)

MAX_QUEUED = 256 * 1024
"""Bytes that wait to be written; a datagram for which there is no room is dropped."""
MAX_UNSENT = 128 * 1024
"""Bytes that the kernel takes beyond what is under way (TCP_NOTSENT_LOWAT)."""
READ_SIZE = 65536
READ_BUDGET = 4
"""Reads a turn, so that other streams get theirs."""
GIVE_UP_MS = 20_000
"""Milliseconds for which data may stay unacknowledged (TCP_USER_TIMEOUT): the way is dead then."""
_READ, _WRITE = 1, 2


class Stream:
    """Takes over `opened`, a connected TCP socket.

    `on_datagrams` is given what arrived in a turn, `on_ready` called once, when datagrams can be
    sent, and `on_closed` once, with the reason, when it ended other than by `close`. All in the
    hub, none from within a call of ours.
    """

    def __init__(
        self,
        opened: socket.socket,
        protocol: StreamProtocol,
        *,
        on_datagrams: Callable[[list[bytes]], None],
        on_closed: Callable[[str], None],
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self.protocol = protocol
        self.dropped = 0
        """Datagrams for which there was no room."""
        self._socket = opened
        self._on_datagrams = on_datagrams
        self._on_closed = on_closed
        self._on_ready = on_ready
        self._outgoing = bytearray()
        self._is_closed = False
        self._has_ended = False
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP_MS)
        opened.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, MAX_UNSENT)
        loop = gevent.get_hub().loop
        self._reader: Any = loop.io(opened.fileno(), _READ)
        self._writer: Any = loop.io(opened.fileno(), _WRITE)
        self._loop: Any = loop

    def start(self) -> None:
        self._reader.start(self._readable)
        self._outgoing += self.protocol.take_output()
        self.flush()
        # What is ready from the first byte on says so in a turn of its own, too.
        self._loop.run_callback(self._check_ready)

    def send(self, datagram: bytes) -> None:
        """Queue a datagram, to be written by `flush`; dropped when there is no room."""
        if self._is_closed or not self.protocol.is_ready or self.protocol.is_finished:
            return
        if len(self._outgoing) + len(datagram) > MAX_QUEUED:
            self.dropped += 1
            return
        self._outgoing += self.protocol.pack(datagram)

    def flush(self) -> None:
        """Write what the kernel takes; the rest follows when there is room."""
        if self._is_closed or not self._outgoing:
            return
        try:
            while self._outgoing:
                sent = self._socket.send(self._outgoing)
                del self._outgoing[:sent]
        except (BlockingIOError, InterruptedError):
            if not self._writer.active:
                self._writer.start(self._writable)
            return
        except OSError as error:
            self._end(error.strerror or "error")
            return
        self._writer.stop()
        if self.protocol.is_finished:
            self._end("the other end closed it")

    def close(self) -> None:
        """Say good-bye if there is room, and close. Nothing is called any more."""
        if self._is_closed:
            return
        self._outgoing += self.protocol.close()
        with contextlib.suppress(OSError):
            self._socket.send(self._outgoing)
        self._release()

    def _readable(self) -> None:
        try:
            self._read()
        except Exception:
            # One stream must not be read for ever in vain, nor end unnoticed.
            log.exception("unexpected error in a stream")
            self._end("unexpected error")

    def _read(self) -> None:
        try:
            for _ in range(READ_BUDGET):
                data = self._socket.recv(READ_SIZE)
                if not data:
                    self._end("the other end closed it")
                    return
                datagrams = self.protocol.receive(data)
                self._outgoing += self.protocol.take_output()
                self._check_ready()
                if datagrams and not self._is_closed:
                    self._on_datagrams(datagrams)
                if self._is_closed:
                    return
                if len(self._outgoing) > 2 * MAX_QUEUED:
                    self._end("it asks more than it reads")
                    return
                if len(data) < READ_SIZE:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._end(error.strerror or "error")
            return
        except Malformed as error:
            # A last word, such as a TLS alert, tells the other end why.
            self._outgoing += self.protocol.take_output()
            with contextlib.suppress(OSError):
                self._socket.send(self._outgoing)
            self._end(str(error))
            return
        self.flush()

    def _writable(self) -> None:
        self.flush()

    def _check_ready(self) -> None:
        if self._on_ready is not None and self.protocol.is_ready and not self._is_closed:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()

    def _end(self, reason: str) -> None:
        """It is over; the owner is told in a turn of its own."""
        if self._is_closed:
            return
        self._release()
        self._loop.run_callback(self._on_closed, reason)

    def _release(self) -> None:
        self._is_closed = True
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._socket.close()


_TCP_NOTSENT_LOWAT = 25
"""linux/tcp.h; Python has the name only from 3.12."""
