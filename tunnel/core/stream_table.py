"""The streams that are open at the server, how many there may be, and how long.

    =======  ==========================================  ========================================
    state    meaning                                     left by
    =======  ==========================================  ========================================
    unknown  open, nothing authentic has come by it      an authentic frame → owned;
                                                         ``HANDSHAKE_TIME`` → closed
    owned    one node's, and no other's                  ``IDLE_TIME`` without such a frame → closed
    =======  ==========================================  ========================================

A stream is known from the moment it is accepted: TLS and the HTTP upgrade are part of
``HANDSHAKE_TIME``, so that who sends one byte a second does not hold it longer.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush

from tunnel.core.machine import is_stream
from tunnel.core.registrant import Registrant
from tunnel.core.source import is_this_machine, source_of
from tunnel.errors import AuthenticationFailed
from tunnel.wire.endpoint import Endpoint

HANDSHAKE_TIME = 10.0
IDLE_TIME = 90.0
"""Nodes echo every 20 s on a stream."""


class _Stream:
    __slots__ = ("expires_at", "owner", "source")

    def __init__(self, source: bytes | None, expires_at: float) -> None:
        self.source = source
        self.owner: Registrant | None = None
        self.expires_at = expires_at


class StreamTable:
    def __init__(self, max_streams: int, max_per_source: int) -> None:
        self.refused = 0
        self._max_streams = max_streams
        self._max_per_source = max_per_source
        self._streams: dict[int, _Stream] = {}
        self._per_source: Counter[bytes] = Counter()
        self._timers: list[tuple[float, int]] = []
        """When to look at a stream: no later than it expires."""
        self._closings: list[int] = []

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, number: int, source: Endpoint, now: float) -> bool:
        """Whether it may stay open; if not, it is not known any more."""
        key = _key(source)
        is_full = len(self._streams) >= self._max_streams
        if is_full or (key is not None and self._per_source[key] >= self._max_per_source):
            self.refused += 1
            return False
        self._streams[number] = _Stream(key, now + HANDSHAKE_TIME)
        if key is not None:
            self._per_source[key] += 1
        heappush(self._timers, (now + HANDSHAKE_TIME, number))
        return True

    def rename(self, number: int, source: Endpoint) -> None:
        """A proxy on this machine says for whom the stream is. One too many is closed."""
        stream = self._streams.get(number)
        key = _key(source)
        if stream is None or stream.source is not None or key is None:
            return
        if self._per_source[key] >= self._max_per_source:
            self.refused += 1
            self.end(number)
            return
        stream.source = key
        self._per_source[key] += 1

    def close(self, number: int) -> Registrant | None:
        """It has ended; whose it was."""
        stream = self._streams.pop(number, None)
        if stream is None:
            return None
        if stream.source is not None:
            self._per_source[stream.source] -= 1
            if not self._per_source[stream.source]:
                del self._per_source[stream.source]
        return stream.owner

    def source_at(self, source: Endpoint, local: int) -> bytes | None:
        """Whom a datagram from there counts for, by a stream or not; None: a proxy on this machine,
        or the stream has ended."""
        if not is_stream(local):
            return _key(source)
        stream = self._streams.get(local)
        return None if stream is None else stream.source

    def claim(self, number: int, registrant: Registrant, now: float) -> None:
        """An authentic frame of `registrant` came by it. Raises AuthenticationFailed if it is
        another's: one stream, one node."""
        stream = self._streams.get(number)
        if stream is None:
            raise AuthenticationFailed("stream: closed")
        if stream.owner is not None and stream.owner is not registrant:
            raise AuthenticationFailed("stream: another node's")
        stream.owner = registrant
        stream.expires_at = now + IDLE_TIME

    def end(self, number: int) -> None:
        """Close it from here."""
        owner = self.close(number)
        if owner is not None:
            owner.leave_stream(number)
        self._closings.append(number)

    def take_closings(self) -> list[int]:
        """Streams to close."""
        closings, self._closings = self._closings, []
        return closings

    # The clock

    def get_timer(self) -> float | None:
        return self._timers[0][0] if self._timers else None

    def handle_timer(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            _, number = heappop(self._timers)
            stream = self._streams.get(number)
            if stream is None:
                continue
            if stream.expires_at <= now:
                self.end(number)
            else:
                heappush(self._timers, (stream.expires_at, number))


def _key(source: Endpoint) -> bytes | None:
    """None: this machine, so a proxy that stands for many."""
    return None if is_this_machine(source) else source_of(source)
