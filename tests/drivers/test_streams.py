"""Streams over loopback: framing, bounds, slow and silent ends, HTTP, TLS, a proxy."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event
from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, Ping, Request, TextMessage

from tunnel.core.machine import FIRST_STREAM, Transmit
from tunnel.core.transport import Opening, StreamRoute
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.stream import MAX_QUEUED
from tunnel.drivers.stream_connect import find_proxy
from tunnel.drivers.stream_listener import StreamListeners, TlsFiles, listen
from tunnel.drivers.stream_protocol import TlsProtocol, WebSocketClient, WebSocketServer
from tunnel.drivers.streams import Streams
from tunnel.errors import Malformed, OperatorError
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.http import MAX_HEAD, parse_status, take_head
from tunnel.wire.invitation import WebSocketUrl
from tunnel.wire.stream import MAX_DATAGRAM, pack_stream

CERTIFICATE = str(Path(__file__).parent / "tls/cert.pem")
KEY = str(Path(__file__).parent / "tls/key.pem")
PATIENCE = 60.0


class Scripted:
    """A machine that does what the test says, and notes what it is told."""

    def __init__(self) -> None:
        self.opened: list[tuple[int, Endpoint]] = []
        self.closed: list[tuple[int, str]] = []
        self.forwarded: list[tuple[int, Endpoint]] = []
        self.received: list[tuple[int, bytes, Endpoint]] = []
        self.to_send: list[Transmit] = []
        self.openings: list[Opening] = []
        self.closings: list[int] = []
        self.is_echoing = False
        self.changed = Event()

    def receive_datagrams(
        self, datagrams: list[bytes], source: Endpoint, now: float, local: int = 0
    ) -> list[bytes]:
        self.received += [(local, datagram, source) for datagram in datagrams]
        if self.is_echoing:
            self.to_send += [Transmit(d, source, None, local) for d in datagrams]
        self.changed.set()
        return []

    def stream_opened(self, number: int, endpoint: Endpoint, now: float) -> None:
        self.opened.append((number, endpoint))
        self.changed.set()

    def stream_closed(self, number: int, reason: str, now: float) -> None:
        self.closed.append((number, reason))
        self.changed.set()

    def stream_forwarded(self, number: int, source: Endpoint) -> None:
        self.forwarded.append((number, source))

    def take_openings(self) -> list[Opening]:
        openings, self.openings = self.openings, []
        return openings

    def take_closings(self) -> list[int]:
        closings, self.closings = self.closings, []
        return closings

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        transmits, self.to_send = self.to_send, []
        return transmits

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None: ...


class End:
    """A machine with its loop and streams."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.machine = Scripted()
        self.loop = MachineLoop(self.machine, [])
        self.streams = Streams(self.loop, tls=tls)

    def wait(self, condition: Callable[[], bool]) -> None:
        with gevent.Timeout(PATIENCE):
            while not condition():
                self.machine.changed.clear()
                self.machine.changed.wait(0.05)

    def send(self, datagram: bytes, number: int, count: int = 1) -> None:
        transmit = Transmit(datagram, Endpoint("127.0.0.1", 1), None, number)
        self.machine.to_send += [transmit] * count
        self.loop.settle(0.0)

    def open(self, route: StreamRoute, number: int = FIRST_STREAM) -> int:
        self.machine.openings.append(Opening(number, route))
        self.loop.settle(0.0)
        return number

    @property
    def datagrams(self) -> list[bytes]:
        return [datagram for _, datagram, _ in self.machine.received]


class Server(End):
    def __init__(self, tls: TlsFiles | None = None) -> None:
        super().__init__()
        self.machine.is_echoing = True
        self.listeners = StreamListeners(self.loop, self.streams)
        tcp, http = listen("127.0.0.1", 0, "--tcp"), listen("127.0.0.1", 0, "--http")
        self.tcp_port, self.http_port = tcp.getsockname()[1], http.getsockname()[1]
        self.listeners.add_tcp(tcp)
        self.listeners.add_http(http, tls)

    def route(self, kind: str, *, is_secure: bool = False) -> StreamRoute:
        if kind == "tcp":
            return StreamRoute("127.0.0.1", self.tcp_port)
        url = WebSocketUrl(is_secure, "127.0.0.1", self.http_port, "/punchtun")
        return StreamRoute("127.0.0.1", self.http_port, url)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.listeners.close()
    server.streams.close()


@pytest.fixture
def tls_server() -> Iterator[Server]:
    server = Server(TlsFiles(CERTIFICATE, KEY))
    yield server
    server.listeners.close()
    server.streams.close()


@pytest.fixture
def node() -> Iterator[End]:
    node = End(ssl.create_default_context(cafile=CERTIFICATE))
    yield node
    node.streams.close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def raw(port: int) -> socket.socket:
    """An end without manners."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def read(opened: socket.socket, size: int = 65536) -> bytes:
    """Without blocking the hub."""
    data: bytes = gevent.get_hub().threadpool.apply(opened.recv, (size,))
    return data


# Both kinds


@pytest.mark.parametrize("kind", ["tcp", "websocket"])
def test_datagrams_there_and_back(server: Server, node: End, kind: str) -> None:
    number = node.open(server.route(kind))
    node.wait(lambda: bool(node.machine.opened))
    assert node.machine.opened[0][0] == number
    sent = [b"a", bytes(1400), bytes(MAX_DATAGRAM), b"z"]
    for datagram in sent:
        node.send(datagram, number)
    node.wait(lambda: len(node.datagrams) == len(sent))
    assert node.datagrams == server.datagrams == sent
    # A train is cut again.
    node.machine.to_send.append(Transmit(b"aabbc", Endpoint("127.0.0.1", 1), 2, number))
    node.loop.settle(0.0)
    node.wait(lambda: node.datagrams[len(sent) :] == [b"aa", b"bb", b"c"])
    node.machine.closings.append(number)
    node.loop.settle(0.0)
    server.wait(lambda: bool(server.machine.closed))
    assert node.machine.closed == []
    assert len(node.streams) == len(server.streams) == 0


def test_websocket_inside_tls(tls_server: Server, node: End) -> None:
    number = node.open(tls_server.route("websocket", is_secure=True))
    node.wait(lambda: bool(node.machine.opened))
    node.send(b"sealed twice", number, count=100)
    node.wait(lambda: len(node.datagrams) == 100)
    assert set(node.datagrams) == {b"sealed twice"}


def test_the_server_closes(server: Server, node: End) -> None:
    node.open(server.route("tcp"))
    node.wait(lambda: bool(node.machine.opened))
    server.wait(lambda: bool(server.machine.opened))
    server.machine.closings.append(server.machine.opened[0][0])
    server.loop.settle(0.0)
    node.wait(lambda: bool(node.machine.closed))
    assert node.machine.closed == [(FIRST_STREAM, "the other end closed it")]
    assert server.machine.closed == []


def test_a_stream_that_is_refused_at_once(server: Server, node: End) -> None:
    server.machine.closings.append(FIRST_STREAM)  # As the core does when there are too many.
    node.open(server.route("tcp"))
    node.wait(lambda: bool(node.machine.closed))
    assert len(server.streams) == 0


def test_nobody_listens(node: End) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        node.open(StreamRoute("127.0.0.1", bound.getsockname()[1]))
        node.wait(lambda: bool(node.machine.closed))
    assert node.machine.closed == [(FIRST_STREAM, "Connection refused")]
    assert node.machine.opened == []


def test_closing_what_is_still_being_opened(node: End) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(0)
        url = WebSocketUrl(False, "127.0.0.1", bound.getsockname()[1], "/punchtun")
        number = node.open(StreamRoute(url.host, url.port, url))
        gevent.sleep(0.05)
        node.machine.closings.append(number)
        node.loop.settle(0.0)
        gevent.sleep(0.05)
    assert node.machine.opened == node.machine.closed == []
    assert len(node.streams) == 0


# Bounds


def test_who_reads_too_slowly_loses_datagrams_and_nobody_waits(server: Server) -> None:
    client = raw(server.tcp_port)
    server.machine.is_echoing = False
    client.sendall(pack_stream(b"here"))
    server.wait(lambda: bool(server.machine.received))
    number = server.machine.opened[0][0]
    for count in range(1000):
        server.send(count.to_bytes(2, "big") + bytes(60_000), number)
    stream = server.streams._streams[number]
    assert stream.dropped > 0
    assert len(stream._outgoing) <= MAX_QUEUED
    # What was not dropped arrives whole, in order, the oldest first.
    expected = 1000 - stream.dropped
    received = b""
    while len(received) < expected * 60_004:
        received += read(client)
    numbers = [received[i + 2 : i + 4] for i in range(0, len(received), 60_004)]
    assert numbers[0] == b"\0\0"
    assert numbers == sorted(numbers)
    client.close()


def test_zero_length_ends_a_stream(server: Server) -> None:
    client = raw(server.tcp_port)
    client.sendall(pack_stream(b"x") + b"\0\0" + pack_stream(b"y"))
    server.wait(lambda: bool(server.machine.closed))
    assert server.machine.closed[0][1] == "stream: length 0"
    assert server.streams.counters["stream: stream: length 0"] == 1
    assert server.datagrams == []
    client.close()


def test_half_open(server: Server) -> None:
    """The other end has said all it will; a datagram cut off is none."""
    client = raw(server.tcp_port)
    client.sendall(pack_stream(b"whole") + pack_stream(b"cut off")[:5])
    client.shutdown(socket.SHUT_WR)
    server.wait(lambda: bool(server.machine.closed))
    assert server.datagrams == [b"whole"]
    client.close()


def test_reset(server: Server) -> None:
    client = raw(server.tcp_port)
    client.sendall(pack_stream(b"x"))
    server.wait(lambda: bool(server.machine.received))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    server.wait(lambda: bool(server.machine.closed))
    assert server.machine.closed[0][1] in ("Connection reset by peer", "the other end closed it")


def test_who_pings_and_never_reads(server: Server) -> None:
    client, websocket = upgraded(server)
    ping = websocket.send(Ping(bytes(100)))
    client.settimeout(0.2)
    try:
        for _ in range(400):
            gevent.get_hub().threadpool.apply(client.sendall, (ping * 1000,))
    except OSError:
        pass
    server.wait(lambda: bool(server.machine.closed))
    assert server.machine.closed[0][1] in (
        "it asks more than it reads",
        "Connection reset by peer",
        "Broken pipe",
    )
    client.close()


# HTTP


def upgraded(server: Server) -> tuple[socket.socket, WSConnection]:
    client = raw(server.http_port)
    websocket = WSConnection(ConnectionType.CLIENT)
    client.sendall(websocket.send(Request(host="a", target="/punchtun")))
    server.wait(lambda: bool(server.machine.opened))
    websocket.receive_data(read(client))
    assert list(websocket.events())
    return client, websocket


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404, b"punchtun\n"),
        (b"GET /punchtun HTTP/1.1\r\nHost: a\r\n\r\n", 404, b"punchtun\n"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 404, b"punchtun\n"),
        (b"\x16\x03\x01 no http\r\n\r\n", 400, b"punchtun: bad request\n"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_HEAD, 400, b"punchtun: bad request\n"),
        (
            b"GET /punchtun HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            400,
            b"punchtun: no proper WebSocket\n",
        ),
    ],
)
def test_what_is_no_websocket(server: Server, request_: bytes, status: int, body: bytes) -> None:
    client = raw(server.http_port)
    client.sendall(request_)
    answer = b""
    while data := read(client):
        answer += data
    head = take_head(answer)
    assert head is not None
    assert parse_status(head) == status
    assert answer[len(head) :] == body
    server.wait(lambda: bool(server.machine.closed))
    assert server.datagrams == []
    client.close()


def test_a_head_byte_by_byte(server: Server) -> None:
    """The core's clock ends whoever takes too long; until then it is taken as it comes."""
    client = raw(server.http_port)
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\n\r\n":
        client.send(bytes([byte]))
        gevent.sleep(0)
    assert read(client).startswith(b"HTTP/1.1 404")
    client.close()


def test_messages_that_are_no_datagrams(server: Server) -> None:
    for event, reason in [
        (TextMessage("text"), "websocket: refused, or of another kind"),
        (BytesMessage(b""), "websocket: empty message"),
        (BytesMessage(bytes(MAX_DATAGRAM + 1)), "websocket: message too long"),
    ]:
        server.machine.opened.clear()
        server.machine.closed.clear()
        client, websocket = upgraded(server)
        client.sendall(websocket.send(event))
        server.wait(lambda: bool(server.machine.closed))
        assert server.machine.closed[0][1] == reason
        client.close()
    assert server.datagrams == []


def test_a_message_in_fragments(server: Server) -> None:
    client, websocket = upgraded(server)
    client.sendall(websocket.send(BytesMessage(b"in ", message_finished=False)))
    client.sendall(websocket.send(Ping()))
    client.sendall(websocket.send(BytesMessage(b"parts")))
    server.wait(lambda: bool(server.machine.received))
    assert server.datagrams == [b"in parts"]
    client.close()


def test_an_endless_message_is_ended(server: Server) -> None:
    client, websocket = upgraded(server)
    for _ in range(3):
        client.sendall(websocket.send(BytesMessage(bytes(30_000), message_finished=False)))
    server.wait(lambda: bool(server.machine.closed))
    assert server.machine.closed[0][1] == "websocket: message too long"
    client.close()


def test_for_whom_a_proxy_speaks(server: Server) -> None:
    client = raw(server.http_port)
    websocket = WSConnection(ConnectionType.CLIENT)
    fields = [(b"X-Forwarded-For", b"1.2.3.4, 198.51.100.7")]
    client.sendall(websocket.send(Request(host="a", target="/punchtun", extra_headers=fields)))
    server.wait(lambda: bool(server.machine.forwarded))
    port = client.getsockname()[1]
    assert server.machine.forwarded == [(FIRST_STREAM, Endpoint("198.51.100.7", port))]
    websocket.receive_data(read(client))
    assert list(websocket.events())
    client.sendall(websocket.send(BytesMessage(b"x")))
    server.wait(lambda: bool(server.machine.received))
    assert server.machine.received == [(FIRST_STREAM, b"x", Endpoint("198.51.100.7", port))]
    client.close()


# TLS


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_name_in_the_certificate(tls_server: Server, node: End, name: str) -> None:
    url = WebSocketUrl(True, name, tls_server.http_port, "/punchtun")
    node.open(StreamRoute(name, tls_server.http_port, url))
    node.wait(lambda: bool(node.machine.opened))


def test_a_certificate_nobody_vouches_for(tls_server: Server) -> None:
    node = End()  # The system's authorities.
    node.open(tls_server.route("websocket", is_secure=True))
    node.wait(lambda: bool(node.machine.closed))
    assert node.machine.closed[0][1].startswith("tls: self")
    assert node.machine.opened == []


def test_a_certificate_for_another_name() -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    url = WebSocketUrl(True, "vps.example.org", 443, "/punchtun")
    client = TlsProtocol(WebSocketClient(url), context, server_hostname=url.host)
    server = TlsProtocol(WebSocketServer(), TlsFiles(CERTIFICATE, KEY).context())
    server.receive(client.take_output())
    with pytest.raises(Malformed, match="ostname mismatch"):
        client.receive(server.take_output())
    assert not client.is_ready


def test_no_tls_at_all(tls_server: Server) -> None:
    client = raw(tls_server.http_port)
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    tls_server.wait(lambda: bool(tls_server.machine.closed))
    assert tls_server.machine.closed[0][1].startswith("tls: ")
    client.close()


def test_certificates_are_read_again_when_they_are_replaced(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(CERTIFICATE, cert)
    shutil.copy(KEY, key)
    files = TlsFiles(str(cert), str(key))
    first = files.context()
    assert files.context() is first
    cert.write_text("half written")
    assert files.context() is first, "the old one is better than none"
    shutil.copy(CERTIFICATE, cert)
    assert files.context() is not first


def test_certificates_that_are_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="No such file"):
        TlsFiles(str(tmp_path / "none"), KEY)
    with pytest.raises(OperatorError, match="cannot use"):
        TlsFiles(KEY, KEY)


# Listening


def test_a_port_in_use() -> None:
    first = listen("127.0.0.1", 0, "--tcp")
    with pytest.raises(OperatorError, match=r"in use.*--tcp"):
        listen("127.0.0.1", first.getsockname()[1], "--tcp")
    first.close()
    with pytest.raises(OperatorError, match="no address of this machine"):
        listen("192.0.2.1", 0, "--http")


def test_no_descriptors_left_is_survived(server: Server) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [socket.socket() for _ in range(5)]
    lowest = max(client.fileno() for client in clients) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        for client in clients:
            client.connect(("127.0.0.1", server.tcp_port))
        gevent.sleep(0.05)
        opened = len(server.machine.opened)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.wait(lambda: len(server.machine.opened) == 5)
    assert opened < 5
    for client in clients:
        client.close()


# A proxy


class Proxy:
    """One CONNECT, in a thread."""

    def __init__(self, answer: bytes) -> None:
        self.request = b""
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._listening, self._listening.accept()[0] as client:
            client.settimeout(PATIENCE)
            while b"\r\n\r\n" not in self.request:
                self.request += client.recv(4096)
            client.sendall(self._answer)
            if not self._answer.startswith(b"HTTP/1.1 200 "):
                return
            port = int(self.request.split()[1].rpartition(b":")[2])
            with socket.create_connection(("127.0.0.1", port)) as there:
                there.settimeout(PATIENCE)
                back = threading.Thread(target=_pump, args=(there, client), daemon=True)
                back.start()
                _pump(client, there)
                back.join(PATIENCE)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_through_a_proxy(tls_server: Server, node: End, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
    monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
    number = node.open(tls_server.route("websocket", is_secure=True))
    node.wait(lambda: bool(node.machine.opened))
    node.send(b"by the proxy", number)
    node.wait(lambda: node.datagrams == [b"by the proxy"])
    assert proxy.request.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % tls_server.http_port)
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in proxy.request


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy answers 407"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "proxy: bytes after its answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "http: status line"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * MAX_HEAD, "http: head too long"),
        (b"", "the proxy closed the connection"),
    ],
)
def test_a_proxy_that_does_not(
    tls_server: Server, node: End, monkeypatch: pytest.MonkeyPatch, answer: bytes, reason: str
) -> None:
    if answer.endswith(b"more"):
        answer = answer.replace(b"200 OK", b"201 OK")  # The proxy of this test connects no further.
    proxy = Proxy(answer)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
    node.open(tls_server.route("websocket", is_secure=True))
    node.wait(lambda: bool(node.machine.closed))
    assert node.machine.closed == [(FIRST_STREAM, reason)]


def test_which_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_proxy(True, "vps.example.org", 443) is None
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert find_proxy(True, "vps.example.org", 443) == ("proxy.example", 3128, None)
    assert find_proxy(False, "vps.example.org", 80) is None
    monkeypatch.setenv("no_proxy", "example.org")
    assert find_proxy(True, "vps.example.org", 443) is None
    for text in ("socks5://proxy", "http://", "http://proxy:none"):
        monkeypatch.setenv("https_proxy", text)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(Malformed, match="proxy in the environment"):
            find_proxy(True, "vps.example.org", 443)
