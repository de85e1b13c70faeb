"""Streams that a stranger opens at the server, and what he says by them."""

from __future__ import annotations

import contextlib
import random
import resource
import selectors
import socket
import ssl
import time
from collections.abc import Sequence
from typing import NamedTuple

IP_FREEBIND = 15
ROOM = 65536
TOLD_WITHIN = 1.0
"""Seconds until the server has looked at a stream."""


class Poured(NamedTuple):
    streams: int
    opened: int
    """Of them; the kernel refused the others."""
    ended: int
    """Of the opened, by the server, before we gave up."""
    most_open: int
    """At once, of those that were open for TOLD_WITHIN."""
    longest: float
    """Seconds one was open."""
    bytes: int
    """Sent, TLS not counted."""
    answered: int
    seconds: float


class _Stream:
    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.began = time.monotonic()
        self.said = 0


def hold(
    target: Sequence[object], count: int, seconds: float, say: str = "", sources: int = 1
) -> Poured:
    """Open `count` streams, from so many addresses, and say the bytes of `say` (hex) by each, one
    every half second, and then nothing, for `seconds` or until all are closed."""
    words = bytes.fromhex(say)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    waiting = selectors.DefaultSelector()
    began = time.monotonic()
    opened = ended = most_open = size = answered = 0
    longest, next_word = 0.0, began
    for number in range(count):
        stream = _open(target, number % sources)
        if stream is not None:
            opened += 1
            waiting.register(stream.socket, selectors.EVENT_READ, stream)
    while (now := time.monotonic()) < began + seconds and (held := _streams(waiting)):
        if now >= next_word:
            next_word = now + 0.5
            for stream in held:
                if stream.said < len(words):
                    with contextlib.suppress(OSError):
                        stream.socket.send(words[stream.said : stream.said + 1])
                    stream.said += 1
                    size += 1
        for key, _ in waiting.select(0.05):
            answer = _receive(key.data.socket)
            if answer:
                answered += len(answer)
            elif answer is not None:
                waiting.unregister(key.data.socket)
                key.data.socket.close()
                ended += 1
                longest = max(longest, time.monotonic() - key.data.began)
        # Those refused have been told by now.
        now = time.monotonic()
        open_now = sum(now - stream.began > TOLD_WITHIN for stream in _streams(waiting))
        most_open = max(most_open, open_now)
    took = time.monotonic() - began
    if _streams(waiting):
        longest = took
    return Poured(count, opened, ended, most_open, longest, size, answered, took)


def pour(
    target: Sequence[object], count: int, most: int, seed: int, head: str = "", tls: bool = False
) -> Poured:
    """By `count` streams, one after the other: `head` (hex), and noise until the server ends it,
    `most` bytes in all."""
    chance = random.Random(seed)
    began = time.monotonic()
    opened = ended = size = answered = 0
    longest = 0.0
    for _ in range(count):
        stream = _open(target, 0)
        if stream is None:
            continue
        opened += 1
        plain: socket.socket = stream.socket
        plain.settimeout(20.0)
        is_over, said = False, 0
        try:
            if tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                plain = context.wrap_socket(plain, suppress_ragged_eofs=False)
            data = bytes.fromhex(head)
            while said < most:
                plain.sendall(data)
                said += len(data)
                data = chance.randbytes(min(16384, most - said))
            while answer := plain.recv(ROOM):
                answered += len(answer)
            is_over = True
        except TimeoutError:
            pass
        except (OSError, ssl.SSLError):
            is_over = True
        longest = max(longest, time.monotonic() - stream.began)
        ended += is_over
        size += said
        plain.close()
    return Poured(count, opened, ended, 1, longest, size, answered, time.monotonic() - began)


def _open(target: Sequence[object], source: int) -> _Stream | None:
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if source:
            # An address that is routed to us, though no interface has it.
            opened.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            opened.bind((f"198.18.{source >> 8}.{source & 255}", 0))
        opened.settimeout(5.0)
        opened.connect(tuple(target))
        opened.setblocking(False)
    except OSError:
        opened.close()
        return None
    return _Stream(opened)


def _receive(stream: socket.socket) -> bytes | None:
    """Empty: it has ended. None: nothing has come."""
    try:
        return stream.recv(ROOM)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _streams(waiting: selectors.BaseSelector) -> list[_Stream]:
    return [key.data for key in waiting.get_map().values()]
