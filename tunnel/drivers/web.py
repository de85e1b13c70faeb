"""A small web server for the owner of the machine: metrics, and the rendezvous server's page.

One request a connection, answered as a whole. What strangers may take up is bounded:
``MAX_VISITORS`` at a time, ``LIFETIME`` seconds each, TLS included, and a head of ``http.MAX_HEAD``
bytes. Pages from elsewhere must not learn it through the owner's browser: see `Visit.is_local`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import urllib.parse
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent
import gevent.socket
from gevent.pool import Pool
from gevent.server import StreamServer

from tunnel.drivers.stream_listener import TlsFiles
from tunnel.drivers.stream_protocol import StreamProtocol, TlsProtocol
from tunnel.errors import Malformed
from tunnel.wire.http import HttpRequest, pack_answer, parse_request, take_head

log = logging.getLogger(__name__)

MAX_VISITORS = 32
LIFETIME = 10.0
LINGER = 1.0
"""Seconds for a visitor to take the answer in and leave. Closing with something of his unread would
take the answer back (ECONNRESET)."""
MAX_UNHEARD = 65_536
"""Bytes of his that are read for that and thrown away."""
READ_SIZE = 4096
FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Fields of which one at least comes from a proxy, as they are usually set up."""


class Visit(NamedTuple):
    request: HttpRequest
    is_local: bool
    """Whether somebody on this machine asks for this machine, by ``127.0.0.1`` or ``localhost``.
    Not so: who comes by a proxy, and a page from elsewhere whose name points to this machine just
    now (DNS rebinding)."""


Answer = Callable[[Visit], bytes]
"""A whole response, to a GET or HEAD."""


def local_only(answer: Answer) -> Answer:
    """The same, told to nobody but local visitors."""

    def answer_here(visit: Visit) -> bytes:
        if visit.is_local:
            return answer(visit)
        return pack_answer("403 Forbidden", b"for this machine only: ask 127.0.0.1 or localhost\n")

    return answer_here


class WebServer:
    """Answers from `start` to `close`."""

    def __init__(
        self, listening: socket.socket, answer: Answer, tls: TlsFiles | None = None
    ) -> None:
        """`listening` comes from ``stream_listener.listen``, and is taken over. `answer` is called
        in a greenlet and must not block."""
        self._answer = answer
        self._tls = tls
        host, port = listening.getsockname()[:2]
        self.is_loopback = is_loopback(host)
        self.url = _url(host, port, is_secure=tls is not None)
        self._server: Any = StreamServer(
            gevent.socket.socket(fileno=listening.detach()), self._serve, spawn=Pool(MAX_VISITORS)
        )

    def start(self) -> None:
        self._server.start()

    def close(self) -> None:
        self._server.stop(timeout=0)

    def _serve(self, client: Any, address: Any) -> None:
        is_local = self.is_loopback and is_loopback(address[0])
        inner = OneRequest(self._answer, is_local=is_local)
        protocol: StreamProtocol = inner
        if self._tls is not None:
            protocol = TlsProtocol(inner, self._tls.context())
        ended = contextlib.suppress(OSError, Malformed)
        with contextlib.closing(client), ended, gevent.Timeout(LIFETIME, False):
            if _converse(client, protocol):
                _part(client)


class OneRequest:
    """A head in, an answer out."""

    def __init__(self, answer: Answer, *, is_local: bool) -> None:
        self.is_ready = False
        self.is_finished = False
        self._answer = answer
        self._is_local = is_local
        self._head = b""
        self._output = b""

    def receive(self, data: bytes) -> list[bytes]:
        if self.is_finished:
            return []
        self._head += data
        try:
            head = take_head(self._head)
            if head is None:
                return []
            self._output = self._respond(parse_request(head))
        except Malformed:
            self._output = pack_answer("400 Bad Request", b"bad request\n")
        except Exception:
            log.exception("unexpected error in answering a web request")
            self._output = pack_answer("500 Internal Server Error", b"see the log\n")
        self.is_finished = True
        return []

    def take_output(self) -> bytes:
        output, self._output = self._output, b""
        return output

    def pack(self, datagram: bytes) -> bytes:
        raise AssertionError("it is never ready for datagrams")

    def close(self) -> bytes:
        return b""

    def _respond(self, request: HttpRequest) -> bytes:
        if request.method not in ("GET", "HEAD"):
            fields = {"Allow": "GET, HEAD"}
            return pack_answer("405 Method Not Allowed", b"GET only\n", fields=fields)
        is_local = self._is_local and _means_this_machine(request)
        answer = self._answer(Visit(request, is_local))
        return answer if request.method == "GET" else take_head_of(answer)


def take_head_of(answer: bytes) -> bytes:
    """What HEAD is answered (RFC 9110 §9.3.2)."""
    return answer[: answer.index(b"\r\n\r\n") + 4]


def is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _means_this_machine(request: HttpRequest) -> bool:
    # Browsers and Prometheus speak 1.1; nginx that was told nothing more of it speaks 1.0.
    if request.version == "1.0" or any(name in request.fields for name in FORWARDED):
        return False
    try:
        name = urllib.parse.urlsplit(f"//{request.fields.get('host', '')}").hostname
    except ValueError:
        return False
    return name is not None and (name == "localhost" or is_loopback(name))


def _converse(client: Any, protocol: StreamProtocol) -> bool:
    """Until the request is answered; False if the visitor left. Raises OSError, Malformed."""
    while not protocol.is_finished:
        data = client.recv(READ_SIZE)
        if not data:
            return False
        try:
            protocol.receive(data)
        finally:
            client.sendall(protocol.take_output())
    return True


def _part(client: Any) -> None:
    client.shutdown(socket.SHUT_WR)
    with gevent.Timeout(LINGER, False):
        heard = 0
        while heard < MAX_UNHEARD and (data := client.recv(READ_SIZE)):
            heard += len(data)


def _url(host: str, port: int, *, is_secure: bool) -> str:
    host = host.removeprefix("::ffff:")
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if is_secure else 'http'}://{shown}:{port}/"
