"""Accepting streams at the server: plain TCP, and HTTP or HTTPS for the WebSocket."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Any

import gevent

from tunnel.core.machine import FIRST_STREAM
from tunnel.drivers import clock
from tunnel.drivers.bind_errors import explain
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.stream_protocol import (
    AnswerRequest,
    LengthProtocol,
    StreamProtocol,
    TlsProtocol,
    WebSocketServer,
)
from tunnel.drivers.streams import Streams
from tunnel.errors import OperatorError
from tunnel.wire.endpoint import Endpoint

log = logging.getLogger(__name__)

ACCEPT_BUDGET = 16
"""Streams accepted a turn."""
BACKLOG = 512
PAUSE = 0.5
"""Seconds without accepting when there is no descriptor left."""
MAX_DESCRIPTORS = 65536


class TlsFiles:
    """A certificate and its key, read anew when they have been replaced (as certbot does)."""

    def __init__(self, certificate: str, key: str) -> None:
        """Raises OperatorError when they cannot be used."""
        self._files = (certificate, key)
        self._stamp = self._read_stamp()
        try:
            self._context = self._load()
        except (OSError, ssl.SSLError) as error:
            raise OperatorError(
                f"cannot use --tls-cert {certificate} with --tls-key {key}: "
                f"{getattr(error, 'strerror', None) or error}"
            ) from error

    def context(self) -> ssl.SSLContext:
        stamp = self._read_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._load()
                log.info("the TLS certificate has been replaced")
            except (OSError, ssl.SSLError) as error:
                log.warning("the new TLS certificate is of no use, keeping the old one: %s", error)
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files)
        return context

    def _read_stamp(self) -> tuple[float, ...]:
        try:
            return tuple(os.stat(path).st_mtime for path in self._files)
        except OSError:
            return ()


class StreamListeners:
    """Of the server that `loop` drives. Sockets come from :func:`listen`."""

    def __init__(self, loop: MachineLoop, streams: Streams) -> None:
        self._loop = loop
        self._machine: Any = loop.machine
        self._streams = streams
        self._number = FIRST_STREAM
        self._sockets: list[socket.socket] = []
        self._watchers: list[Any] = []

    def add_tcp(self, listening: socket.socket) -> None:
        self._watch(listening, LengthProtocol)

    def add_http(
        self, listening: socket.socket, tls: TlsFiles | None, answer: AnswerRequest | None = None
    ) -> None:
        def protocol() -> StreamProtocol:
            inner = WebSocketServer(answer)
            return inner if tls is None else TlsProtocol(inner, tls.context())

        self._watch(listening, protocol)

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        for listening in self._sockets:
            listening.close()

    def _watch(self, listening: socket.socket, protocol: Callable[[], StreamProtocol]) -> None:
        watcher = gevent.get_hub().loop.io(listening.fileno(), 1)
        self._sockets.append(listening)
        self._watchers.append(watcher)

        def readable() -> None:
            for _ in range(ACCEPT_BUDGET):
                try:
                    opened, address = listening.accept()
                except (BlockingIOError, InterruptedError):
                    return
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        log.warning("cannot accept streams for a moment: %s", error.strerror)
                        watcher.stop()
                        gevent.spawn_later(PAUSE, watcher.start, readable)
                        return
                    continue  # It has ended before it was accepted.
                self._take(opened, address, protocol)

        watcher.start(readable)

    def _take(
        self, opened: socket.socket, address: Any, create: Callable[[], StreamProtocol]
    ) -> None:
        number, self._number = self._number, self._number + 1
        host = address[0].removeprefix("::ffff:").split("%")[0]
        source = Endpoint(host, address[1])
        now = clock.now()
        try:
            protocol = create()
            self._machine.stream_opened(number, source, now)

            def ready() -> None:
                real = _forwarded(protocol, source)
                if real is not None:
                    self._streams.set_source(number, real)
                    self._machine.stream_forwarded(number, real)

            self._streams.add(number, opened, protocol, source, ready)
        except OSError as error:  # The other end is gone already.
            log.debug("stream of %s: %s", source, error)
            opened.close()
            self._machine.stream_closed(number, "gone", now)
        self._loop.settle(now)


def listen(
    host: str | None, port: int, option: str, *, may_come_later: bool = False
) -> socket.socket:
    """Raises OperatorError. `host` None: all addresses, IPv4 and IPv6. `may_come_later`: the
    address need not be there yet."""
    is_any = host in (None, "", "::")
    families = [socket.AF_INET6, socket.AF_INET] if is_any else [_family(str(host))]
    for family in families:
        any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
        bound: socket.socket | None = None
        try:
            bound = socket.socket(family, socket.SOCK_STREAM)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if may_come_later:
                bound.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
            bound.bind((any_address if is_any else str(host), port))
            bound.listen(BACKLOG)
            bound.setblocking(False)
            return bound
        except OSError as error:
            if bound is not None:
                bound.close()
            missing = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
            if missing and family != families[-1]:
                continue
            raise explain(error, "TCP", host, port, option) from error
    raise AssertionError("families is not empty")


def allow_many_descriptors() -> None:
    """A stream is a descriptor, and the soft limit is 1024 nearly everywhere."""
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        # A sandbox may forbid it; the limit that it sets is then what it wants.
        log.info("the limit of open files stays as it is: %s", error)


def _forwarded(protocol: StreamProtocol, source: Endpoint) -> Endpoint | None:
    """For whom a proxy on this machine opened the stream: the last address of X-Forwarded-For,
    which is the one that proxy has seen itself. Nobody else is believed."""
    if not (source.host == "::1" or source.host.startswith("127.")):
        return None
    inner = protocol.inner if isinstance(protocol, TlsProtocol) else protocol
    request = inner.request if isinstance(inner, WebSocketServer) else None
    fields = request.fields if request is not None else {}
    text = fields.get("x-forwarded-for", "").rpartition(",")[2].strip()
    try:
        return Endpoint(str(ipaddress.ip_address(text)), source.port)
    except ValueError:
        return None


_IP_FREEBIND = 15
"""linux/in.h; for IPv6 as well. Python has the name in no version yet."""


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
