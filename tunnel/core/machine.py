"""The contract of every state machine in the core.

A machine is driven by three sources: datagrams and packets, commands, and the clock. Time is the
caller's monotonic seconds and never decreases; randomness is a function handed in; wall-clock time
(for TAI64N and expiry dates) is another. The driver settles after *every* input, in this order:
send :meth:`datagrams_to_send`, report events, re-arm at :meth:`get_timer`.

1. Nothing a remote sends raises. Bad input is dropped with a counted reason and changes nothing.
2. ``get_timer()`` only reads; ``handle_timer()`` early or twice is harmless.
3. Same configuration, seed and inputs: same outputs, byte for byte.
4. Events are rare. Packets never become objects.
5. Buffers handed in are borrowed until the call returns; buffers returned belong to the caller.
6. A machine never holds a reference to its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from tunnel.wire.endpoint import Endpoint

Buffer = bytes | bytearray | memoryview
RandomBytes = Callable[[int], bytes]
"""Like os.urandom: that many cryptographically random bytes."""
WallClock = Callable[[], float]
"""Like time.time: seconds since the Unix epoch."""


FIRST_STREAM = 1 << 16
"""``local`` numbers from here on are streams (TCP, WebSocket), one number each, never used again.
Below are the UDP sockets."""


def is_stream(local: int) -> bool:
    return local >= FIRST_STREAM


def earliest(times: Iterable[float | None]) -> float | None:
    """The first of them that is set: what ``get_timer`` makes of its parts' timers."""
    first = None  # A loop, for `min` of a generator takes three times as long.
    for at in times:
        if at is not None and (first is None or at < first):
            first = at
    return first


def draw_number(random_bytes: RandomBytes) -> int:
    """64 random bits, which nobody else will draw: a transaction."""
    return int.from_bytes(random_bytes(8), "little")


class Transmit(NamedTuple):
    """Datagrams for one endpoint: `data` holds them back to back, each `segment_size` bytes long,
    the last one maybe shorter."""

    data: Buffer
    endpoint: Endpoint
    segment_size: int | None = None
    """None: `data` is one datagram."""
    local: int = 0
    """Which of the driver's sockets sends it, by its number. A node's driver has 0 and 1, and opens
    any other number when something is first sent from it (see ``events.SocketsReleased``). Or the
    number of a stream, and then `endpoint` only says who is at its other end."""
    ttl: int | None = None
    """IP time to live, where it is not the system's default."""
    dont_fragment: bool = False
    """Whether it is dropped rather than fragmented where it is too large: what finds a path's
    MTU."""


class Machine(Protocol):
    def handle_timer(self, now: float) -> None: ...

    def get_timer(self) -> float | None: ...

    def datagrams_to_send(self, now: float) -> list[Transmit]: ...
