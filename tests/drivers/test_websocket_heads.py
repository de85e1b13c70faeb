"""Heads that are no text, from strangers to the server and from whoever answers a node."""

from __future__ import annotations

import pytest

from tunnel.drivers.stream_protocol import WebSocketClient, WebSocketServer
from tunnel.errors import Malformed
from tunnel.wire.invitation import WebSocketUrl

REQUEST = {
    b"Host": b"a",
    b"Upgrade": b"websocket",
    b"Connection": b"upgrade",
    b"Sec-WebSocket-Version": b"13",
    b"Sec-WebSocket-Key": b"AAAAAAAAAAAAAAAAAAAAAA==",
    b"Sec-WebSocket-Protocol": b"a",
    b"Sec-WebSocket-Extensions": b"a",
}
ANSWER = {
    b"Upgrade": b"websocket",
    b"Connection": b"upgrade",
    b"Sec-WebSocket-Accept": b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"Sec-WebSocket-Protocol": b"a",
    b"Sec-WebSocket-Extensions": b"a",
}
NO_TEXT = [b"\x8e", b"a\xff", b"\xc3\xa4", b"xn--\xff", b"." * 70, b"xn--zzzz."]


def head(first: bytes, fields: dict[bytes, bytes]) -> bytes:
    return b"\r\n".join([first, *(name + b": " + value for name, value in fields.items()), b"\r\n"])


@pytest.mark.parametrize("field", REQUEST)
@pytest.mark.parametrize("value", NO_TEXT)
def test_to_the_server(field: bytes, value: bytes) -> None:
    """A refusal or, where nobody looks at the field, the WebSocket; never an exception."""
    server = WebSocketServer()
    assert server.receive(head(b"GET /punchtun HTTP/1.1", REQUEST | {field: value})) == []
    answer = server.take_output()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 101"))
    assert server.is_finished is not server.is_ready


@pytest.mark.parametrize("field", ANSWER)
@pytest.mark.parametrize("value", NO_TEXT)
def test_to_a_node(field: bytes, value: bytes) -> None:
    client = WebSocketClient(WebSocketUrl(False, "a.example", 80, "/punchtun"))
    with pytest.raises(Malformed):
        client.receive(head(b"HTTP/1.1 101 Switching Protocols", ANSWER | {field: value}))
    assert not client.is_ready


@pytest.mark.parametrize("frame", ["888403e8ff00", "8882ffff", "880103", "8901ff", "c28100"])
def test_frames_that_are_no_text(frame: str) -> None:
    """A reason that is not UTF-8, codes that do not exist, reserved bits: Malformed or an end."""
    server = WebSocketServer()
    server.receive(head(b"GET /punchtun HTTP/1.1", REQUEST))
    assert server.is_ready
    masked = bytes.fromhex(frame)
    data = masked[:1] + bytes([masked[1] | 0x80]) + bytes(4) + masked[2:]
    try:
        assert server.receive(data) == []
    except Malformed:
        return
