"""Checks on their way out: what a traversal wants said, by which socket and to where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunnel.core.machine import RandomBytes, draw_number
from tunnel.core.path import RELAYED, Path
from tunnel.wire.candidate import Candidate
from tunnel.wire.check import UNOBSERVED, CallMe, Confirm, Ping, Pong
from tunnel.wire.endpoint import Endpoint

OPENER = b"\0"
"""A datagram that is to die on the way: it opens our own NAT, and the peer's never sees it. Whoever
gets it all the same drops it as of unknown type."""


class Outgoing(NamedTuple):
    endpoint: Endpoint
    """Or RELAYED."""
    payload: bytes | None
    """To be sealed; None: an opener, which is sent as it is."""
    local: int = 0
    """Which of our sockets sends it (``Transmit.local``)."""
    ttl: int | None = None


class CheckQueue:
    def __init__(self, random_bytes: RandomBytes) -> None:
        self.pings = 0
        """Sent since the beginning."""
        self._random_bytes = random_bytes
        self._queue: list[Outgoing] = []

    def take(self) -> list[Outgoing]:
        queue, self._queue = self._queue, []
        return queue

    def ping(self, path: Path, now: float) -> int:
        """Its transaction."""
        transaction = draw_number(self._random_bytes)
        path.note_ping(transaction, now)
        self.pings += 1
        self._queue.append(Outgoing(path.endpoint, Ping(transaction).pack(), path.local))
        return transaction

    def pong(self, ping: Ping, path: Path, local: int, now: float) -> None:
        """By the socket it was heard on, whichever the path uses."""
        reply = draw_number(self._random_bytes)
        path.note_reply(reply, now)
        observed = UNOBSERVED if path.endpoint == RELAYED else path.endpoint
        packed = Pong(ping.transaction, reply, observed).pack()
        self._queue.append(Outgoing(path.endpoint, packed, local))

    def confirm(self, pong: Pong, path: Path) -> None:
        self._queue.append(Outgoing(path.endpoint, Confirm(pong.reply).pack(), path.local))

    def call(self, candidates: Sequence[Candidate]) -> None:
        self._queue.append(Outgoing(RELAYED, CallMe(0, tuple(candidates)).pack()))

    def keepalive(self, path: Path) -> None:
        self._queue.append(Outgoing(path.endpoint, b"", path.local))

    def open(self, path: Path, ttl: int) -> None:
        self._queue.append(Outgoing(path.endpoint, None, path.local, ttl))
