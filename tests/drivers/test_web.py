"""The owner's web server over loopback: who is answered what, and what strangers cannot do."""

from __future__ import annotations

import logging
import select
import socket
import ssl
from collections.abc import Callable, Iterator

import gevent
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.drivers.test_streams import CERTIFICATE, KEY
from tests.drivers.visitor import connect, get, parse, read_all, send
from tunnel.drivers.stream_listener import TlsFiles, listen
from tunnel.drivers.web import (
    FORWARDED,
    MAX_UNHEARD,
    MAX_VISITORS,
    Answer,
    Visit,
    WebServer,
    is_loopback,
    local_only,
)
from tunnel.wire.http import MAX_HEAD, pack_answer

GREETING = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

Serve = Callable[..., WebServer]


def read_ready(opened: socket.socket) -> bool:
    """Whether the other end has said something, or closed."""
    return bool(select.select([opened], [], [], 0)[0])


def tell_who(visit: Visit) -> bytes:
    return pack_answer("200 OK", b"local" if visit.is_local else b"somebody")


@pytest.fixture
def serve() -> Iterator[Serve]:
    started: list[WebServer] = []

    def start(
        answer: Answer = tell_who, host: str | None = "127.0.0.1", tls: TlsFiles | None = None
    ) -> WebServer:
        server = WebServer(listen(host, 0, "--metrics"), answer, tls)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


@pytest.mark.parametrize(
    ("host", "who"),
    [
        ("127.0.0.1", b"local"),
        ("127.0.0.1:9101", b"local"),
        ("LOCALHOST:80", b"local"),
        ("[::1]:80", b"local"),
        ("rebound.example", b"somebody"),
        ("127.0.0.1.rebound.example", b"somebody"),
        ("localhost.rebound.example:80", b"somebody"),
        ("127.0.0.1@rebound.example", b"somebody"),
        ("192.0.2.1", b"somebody"),
        ("", b"somebody"),
        ("[", b"somebody"),
        ("[::1", b"somebody"),
        ("localhost, rebound.example", b"somebody"),
        ("\xe9", b"somebody"),
    ],
)
def test_who_asks_for_this_machine(serve: Serve, host: str, who: bytes) -> None:
    request = b"GET / HTTP/1.1\r\nHost: " + host.encode("latin-1") + b"\r\n\r\n"
    assert send(serve().url, request).body == who


def test_two_hosts_are_none(serve: Serve) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n\r\n"
    assert send(serve().url, request).body == b"somebody"


@pytest.mark.parametrize("field", FORWARDED)
def test_who_comes_by_a_proxy_is_not_local(serve: Serve, field: str) -> None:
    assert get(serve().url, **{field: "127.0.0.1"}).body == b"somebody"


def test_who_speaks_as_nginx_does_is_not_local(serve: Serve) -> None:
    """Unless it is told otherwise, it names the host it asks, and nobody whom it asks for."""
    request = b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert send(serve().url, request).body == b"somebody"


def test_nobody_is_local_where_others_reach(serve: Serve) -> None:
    server = serve(host=None)
    assert not server.is_loopback
    port = server.url.rpartition(":")[2]
    assert get(f"http://127.0.0.1:{port}").body == b"somebody"


@given(st.text(st.characters(codec="latin-1"), max_size=60))
@example("localhost")
@example("127.9.9.9:1")
def test_any_host(host: str) -> None:
    """A name that a stranger could own is never this machine's."""
    from tunnel.drivers.web import _means_this_machine
    from tunnel.wire.http import HttpRequest

    if _means_this_machine(HttpRequest("GET", "/", {"host": host})):
        name = host.rpartition("@")[2].lower()
        assert name.startswith(("localhost", "127.", "[::1]", "[::ffff:7f", "[::ffff:127."))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *((each, True) for each in ("127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1")),
        *((each, False) for each in ("::", "0.0.0.0", "10.0.0.1", "fe80::1%lo", "localhost", "")),
    ],
)
def test_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_local_only(serve: Serve) -> None:
    server = serve(local_only(tell_who))
    assert get(server.url).body == b"local"
    assert get(server.url, host="rebound.example").status == 403


def test_head_and_other_methods(serve: Serve) -> None:
    url = serve().url
    response = send(url, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (response.status, response.body) == (200, b"")
    assert response.field("Content-Length") == "5"
    for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT"):
        response = send(url, method + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert response.status == 405
        assert response.field("Allow") == "GET, HEAD"


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01 no http\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\x00: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: a\r\n" * 101 + b"\r\n",
        b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_HEAD,
        b"\r\n\r\n",
    ],
)
def test_what_is_no_request(serve: Serve, request_: bytes) -> None:
    assert send(serve().url, request_).status == 400


def test_a_body_does_not_take_the_answer_back(serve: Serve) -> None:
    with connect(serve().url) as opened:
        opened.sendall(GREETING + bytes(MAX_UNHEARD - 1000))
        assert parse(read_all(opened)).status == 200


def test_a_second_request_is_not_heard(serve: Serve) -> None:
    assert send(serve().url, GREETING * 3).body == b"local"


def test_byte_by_byte(serve: Serve) -> None:
    with connect(serve().url) as opened:
        for byte in GREETING:
            opened.send(bytes([byte]))
            gevent.sleep(0)
        assert parse(read_all(opened)).status == 200


def test_who_is_slow_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnel.drivers.web.LIFETIME", 0.05)
    with connect(serve().url) as opened:
        opened.sendall(GREETING[:-1])
        assert read_all(opened) == b""


def test_who_does_not_read_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnel.drivers.web.LIFETIME", 0.2)
    server = serve(lambda _: pack_answer("200 OK", bytes(50_000_000)))
    with connect(server.url) as opened:
        opened.sendall(GREETING)
        gevent.sleep(0.5)
        assert len(read_all(opened)) < 50_000_000


def test_who_stays_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnel.drivers.web.LINGER", 0.01)
    monkeypatch.setattr("tunnel.drivers.web.MAX_VISITORS", 1)
    url = serve().url
    with connect(url) as opened:
        opened.sendall(GREETING)
        assert parse(read_all(opened)).status == 200
        # It has not closed, and others have their turn.
        assert get(url).status == 200


def test_visitors_too_many_wait_for_their_turn(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunnel.drivers.web.LIFETIME", 1.0)
    server = serve()
    silent = [connect(server.url) for _ in range(2 * MAX_VISITORS)]
    most = 0
    while not read_ready(silent[-1]):
        gevent.sleep(0.01)
        most = max(most, len(server._server.pool))
    assert most == MAX_VISITORS
    assert get(server.url).status == 200
    for opened in silent:
        opened.close()


def test_who_leaves_early(serve: Serve) -> None:
    server = serve(lambda _: pack_answer("200 OK", bytes(5_000_000)))
    for data in (b"", GREETING[:9], GREETING):
        opened = connect(server.url)
        opened.sendall(data)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        opened.close()
    assert get(server.url).status == 200


def test_a_mistake_of_ours_is_told_without_it(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(visit: Visit) -> bytes:
        raise ValueError("of the inside")

    response = get(serve(fail).url)
    assert response.status == 500
    assert b"inside" not in response.body
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_inside_tls(serve: Serve) -> None:
    server = serve(tls=TlsFiles(CERTIFICATE, KEY))
    assert server.url.startswith("https://")
    context = ssl.create_default_context(cafile=CERTIFICATE)

    def ask() -> bytes:
        with context.wrap_socket(connect(server.url), server_hostname="localhost") as opened:
            opened.sendall(GREETING)
            data = b""
            while more := opened.recv(65536):
                data += more
            return data

    answer: bytes = gevent.get_hub().threadpool.apply(ask)
    assert parse(answer).body == b"local"
    with connect(server.url) as opened:
        opened.sendall(GREETING)
        assert not read_all(opened).startswith(b"HTTP")
    assert gevent.get_hub().threadpool.apply(ask) == answer
