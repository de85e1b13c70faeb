"""Heads of HTTP messages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.errors import Malformed
from tunnel.wire.http import (
    MAX_FIELDS,
    MAX_HEAD,
    pack_answer,
    pack_connect,
    parse_request,
    parse_status,
    take_head,
)

UPGRADE = (
    b"GET /punchtun?x=1 HTTP/1.1\r\nHost: vps.example.org\r\nUpgrade:  WebSocket \r\n"
    b"X-Forwarded-For: 203.0.113.9\r\nx-forwarded-for: 198.51.100.7\r\n\r\n"
)


def test_request() -> None:
    request = parse_request(UPGRADE)
    assert (request.method, request.target, request.path) == ("GET", "/punchtun?x=1", "/punchtun")
    assert request.is_websocket
    assert request.fields == {
        "host": "vps.example.org",
        "upgrade": "WebSocket",
        "x-forwarded-for": "203.0.113.9, 198.51.100.7",
    }


def test_take_head() -> None:
    assert take_head(UPGRADE + b"rest") == UPGRADE
    assert take_head(UPGRADE[:-1]) is None
    assert take_head(b"") is None
    assert take_head(b"a" * (MAX_HEAD - 1)) is None
    with pytest.raises(Malformed, match="too long"):
        take_head(b"a" * MAX_HEAD)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "head"),
        (b"\r\n\r\n", "request line"),
        (b"GET / HTTP/2.0\r\n\r\n", "request line"),
        (b"get / HTTP/1.1\r\n\r\n", "request line"),
        (b"GET  / HTTP/1.1\r\n\r\n", "request line"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", "request line"),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", "request line"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "field"),
        (b"GET / HTTP/1.1\r\n folded\r\n\r\n", "field"),
        (b"GET / HTTP/1.1\r\nA: \0\r\n\r\n", "field"),
        (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "field"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n", "too many"),
    ],
)
def test_request_that_is_none(head: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        parse_request(head)


def test_status() -> None:
    assert parse_status(b"HTTP/1.1 200 Connection established\r\n\r\n") == 200
    assert parse_status(b"HTTP/1.0 407\r\nA: b\r\n\r\n") == 407
    for head in (b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/1.1 600 No\r\n\r\n", b"SSH-2.0-x\r\n\r\n"):
        with pytest.raises(Malformed, match="status line"):
            parse_status(head)


def test_connect_golden() -> None:
    assert pack_connect("vps.example.org", 443, "dTpw") == (
        b"CONNECT vps.example.org:443 HTTP/1.1\r\nHost: vps.example.org:443\r\n"
        b"Proxy-Authorization: Basic dTpw\r\n\r\n"
    )
    assert pack_connect("2001:db8::1", 80).startswith(b"CONNECT [2001:db8::1]:80 HTTP/1.1\r\n")
    assert parse_status(pack_answer("404 Not Found", b"no\n").removesuffix(b"no\n")) == 404


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_malformed(data: bytes) -> None:
    for head in (data, data + b"\r\n\r\n", b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n"):
        try:
            request = parse_request(head)
        except Malformed:
            continue
        assert all(name == name.lower() for name in request.fields)
        assert "\n" not in request.target + "".join(request.fields.values())
