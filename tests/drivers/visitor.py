"""Asking a web server of ours, with manners or without."""

from __future__ import annotations

import socket
import urllib.parse
from typing import NamedTuple

import gevent

from tunnel.wire.http import parse_status, take_head

PATIENCE = 10.0
"""Seconds after which a test gives up."""


class Response(NamedTuple):
    status: int
    head: str
    body: bytes

    def field(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None


def connect(url: str) -> socket.socket:
    where = urllib.parse.urlsplit(url)
    return socket.create_connection((where.hostname, where.port), timeout=PATIENCE)


def read_all(opened: socket.socket) -> bytes:
    """Until the other end closes, without blocking the hub."""
    data = b""
    while more := gevent.get_hub().threadpool.apply(opened.recv, (65536,)):
        data += more
    return data


def parse(answer: bytes) -> Response:
    head = take_head(answer)
    assert head is not None, answer
    return Response(parse_status(head), head.decode().strip(), answer[len(head) :])


def get(url: str, path: str = "/", **fields: str) -> Response:
    """`fields` with underscores for hyphens; by default the host is the URL's."""
    fields = {"host": urllib.parse.urlsplit(url).netloc, **fields}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return send(url, "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())


def send(url: str, request: bytes) -> Response:
    with connect(url) as opened:
        opened.sendall(request)
        return parse(read_all(opened))
