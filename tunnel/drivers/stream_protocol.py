"""What bytes on a stream mean: datagrams behind their lengths, or in WebSocket messages, maybe
inside TLS. No sockets here: bytes in, datagrams and bytes out.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
)
from wsproto.events import Event as WebSocketEvent
from wsproto.utilities import ProtocolError

from tunnel.errors import Malformed
from tunnel.wire.http import HttpRequest, pack_answer, parse_request, take_head
from tunnel.wire.invitation import WebSocketUrl
from tunnel.wire.stream import MAX_DATAGRAM, StreamParser, pack_stream

WEBSOCKET_PATH = "/punchtun"
ROOM = 65536
"""Bytes of TLS read at once."""

AnswerRequest = Callable[[HttpRequest], bytes]
"""What a visitor is answered who does not ask for the WebSocket: a whole response."""


class StreamProtocol(Protocol):
    @property
    def is_ready(self) -> bool:
        """Whether datagrams may be packed."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether the stream is to be closed as soon as the output is written."""
        ...

    def receive(self, data: bytes) -> list[bytes]:
        """Datagrams in what has arrived. Raises Malformed: the stream is of no use any more."""
        ...

    def take_output(self) -> bytes:
        """What is to be written for the protocol's own sake."""
        ...

    def pack(self, datagram: bytes) -> bytes:
        """What is to be written for a datagram."""
        ...

    def close(self) -> bytes:
        """What is to be written last."""
        ...


class LengthProtocol:
    """A stream of datagrams from the first byte on (``wire/stream.py``)."""

    def __init__(self) -> None:
        self.is_ready = True
        self.is_finished = False
        self._parser = StreamParser()

    def receive(self, data: bytes) -> list[bytes]:
        return self._parser.feed(data)

    def take_output(self) -> bytes:
        return b""

    def pack(self, datagram: bytes) -> bytes:
        return pack_stream(datagram)

    def close(self) -> bytes:
        return b""


class _WebSocket:
    """What both ends of a WebSocket have in common."""

    def __init__(self, end: ConnectionType) -> None:
        self.is_ready = False
        self.is_finished = False
        self._websocket = WSConnection(end)
        self._output = bytearray()
        self._message = bytearray()

    def take_output(self) -> bytes:
        output, self._output = bytes(self._output), bytearray()
        return output

    def pack(self, datagram: bytes) -> bytes:
        return self._websocket.send(BytesMessage(datagram))

    def close(self) -> bytes:
        if not self.is_ready or self.is_finished:
            return b""
        self.is_finished = True
        return self._websocket.send(CloseConnection(code=1000))

    def _feed(self, data: bytes) -> list[bytes]:
        datagrams: list[bytes] = []
        try:
            self._websocket.receive_data(data)
            for event in self._websocket.events():
                self._take(event, datagrams)
        except (ProtocolError, ValueError) as error:
            # wsproto decodes what is in a head; what is no text makes it raise UnicodeError.
            raise Malformed("websocket: protocol") from error
        return datagrams

    def _take(self, event: WebSocketEvent, datagrams: list[bytes]) -> None:
        if isinstance(event, BytesMessage):
            self._message += event.data
            if len(self._message) > MAX_DATAGRAM:
                raise Malformed("websocket: message too long")
            if event.message_finished:
                if not self._message:
                    raise Malformed("websocket: empty message")
                datagrams.append(bytes(self._message))
                self._message.clear()
        elif isinstance(event, Ping):
            self._output += self._websocket.send(event.response())
        elif isinstance(event, CloseConnection):
            self._output += self._websocket.send(event.response())
            self.is_finished = True
        elif isinstance(event, (Request, AcceptConnection)):
            self._agree(event)
        elif not isinstance(event, Pong):
            raise Malformed("websocket: refused, or of another kind")

    def _agree(self, event: Request | AcceptConnection) -> None:
        if isinstance(event, Request):
            self._output += self._websocket.send(AcceptConnection())
        self.is_ready = True


class WebSocketClient(_WebSocket):
    """The end that asks for it."""

    def __init__(self, url: WebSocketUrl) -> None:
        super().__init__(ConnectionType.CLIENT)
        host = f"[{url.host}]" if ":" in url.host else url.host
        if url.port != (443 if url.is_secure else 80):
            host = f"{host}:{url.port}"
        self._output += self._websocket.send(Request(host=host, target=url.target))

    def receive(self, data: bytes) -> list[bytes]:
        return self._feed(data)


class WebSocketServer(_WebSocket):
    """A web server with one WebSocket, at ``WEBSOCKET_PATH``."""

    def __init__(self, answer: AnswerRequest | None = None) -> None:
        super().__init__(ConnectionType.SERVER)
        self.request: HttpRequest | None = None
        """What was asked for, once it is known."""
        self._answer = answer or _answer_nothing
        self._head = b""

    def receive(self, data: bytes) -> list[bytes]:
        if self.is_finished:
            return []
        if self.request is not None:
            return self._feed(data)
        self._head += data
        try:
            head = take_head(self._head)
            if head is None:
                return []
            self.request = parse_request(head)
        except Malformed:
            self._finish(pack_answer("400 Bad Request", b"punchtun: bad request\n"))
            return []
        if self.request.path != WEBSOCKET_PATH or not self.request.is_websocket:
            self._finish(self._answer(self.request))
            return []
        data, self._head = self._head, b""
        try:
            return self._feed(data)
        except Malformed:
            if self.is_ready:
                raise
            self._finish(pack_answer("400 Bad Request", b"punchtun: no proper WebSocket\n"))
            return []

    def _finish(self, answer: bytes) -> None:
        self._output += answer
        self.is_finished = True


def _answer_nothing(request: HttpRequest) -> bytes:
    return pack_answer("404 Not Found", b"punchtun\n")


class TlsProtocol:
    """Another protocol inside TLS."""

    def __init__(
        self, inner: StreamProtocol, context: ssl.SSLContext, *, server_hostname: str | None = None
    ) -> None:
        self.inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self._has_shaken_hands = False
        if server_hostname is not None:
            self._shake_hands()

    @property
    def is_ready(self) -> bool:
        return self._has_shaken_hands and self.inner.is_ready

    @property
    def is_finished(self) -> bool:
        return self.inner.is_finished

    def receive(self, data: bytes) -> list[bytes]:
        self._incoming.write(data)
        datagrams: list[bytes] = []
        try:
            if not self._has_shaken_hands and not self._shake_hands():
                return datagrams
            while plain := self._tls.read(ROOM):
                datagrams += self.inner.receive(plain)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            raise Malformed(f"tls: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise Malformed(f"tls: {error.reason or 'ended'}") from error
        return datagrams

    def take_output(self) -> bytes:
        if self._has_shaken_hands:
            output = self.inner.take_output()
            if output:
                self._tls.write(output)
        return self._outgoing.read()

    def pack(self, datagram: bytes) -> bytes:
        self._tls.write(self.inner.pack(datagram))
        return self._outgoing.read()

    def close(self) -> bytes:
        if self._has_shaken_hands and (last := self.inner.close()):
            self._tls.write(last)
        return self._outgoing.read()

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._has_shaken_hands = True
        return True
