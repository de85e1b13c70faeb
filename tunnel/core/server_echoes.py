"""What the server was asked and has not answered yet, and how long its answers take."""

from __future__ import annotations

from typing import NamedTuple

from tunnel.core.machine import RandomBytes, draw_number
from tunnel.wire.endpoint import Endpoint

MAX_PENDING = 16


class SentEcho(NamedTuple):
    at: float
    endpoint: Endpoint
    """Of the server."""
    is_main: bool
    """Whether that is where we register."""


class ServerEchoes:
    def __init__(self, random_bytes: RandomBytes) -> None:
        self.rtt: float | None = None
        """Seconds from where we register and back, smoothed as in RFC 6298 §2."""
        self._random_bytes = random_bytes
        self._pending: dict[int, SentEcho] = {}

    def begin(self, endpoint: Endpoint, now: float, *, is_main: bool) -> int:
        """The transaction to send. The oldest pending one makes room for it."""
        transaction = draw_number(self._random_bytes)
        if len(self._pending) >= MAX_PENDING:
            self._pending.pop(next(iter(self._pending)))
        self._pending[transaction] = SentEcho(now, endpoint, is_main)
        return transaction

    def end(self, transaction: int, now: float) -> SentEcho | None:
        """What was answered; None if that is not pending."""
        sent = self._pending.pop(transaction, None)
        if sent is not None and sent.is_main:
            self.note_rtt(now - sent.at)
        return sent

    def clear(self) -> None:
        """Answers of before are of no use any more."""
        self._pending.clear()

    def note_rtt(self, sample: float) -> None:
        self.rtt = sample if self.rtt is None else self.rtt + (sample - self.rtt) / 8
