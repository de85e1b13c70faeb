"""The largest packet that one path carries whole, found by padded checks (RFC 8899).

    =========  ===================================  ==============================================
    state      meaning                              left by
    =========  ===================================  ==============================================
    unknown    nothing was asked; packets go whole  `search` → asking
    asking     one check of the interface's MTU     its answer → settled; a delay, or a router's
                                                    word that it is too big → searching
    searching  checks of every smaller size too;    the largest of all answered → settled; after
               ``limit`` rises with each answer     ``ROUNDS`` with any answer → settled, without
                                                    → unknown
    settled    ``limit`` is what the path carries   large packets sent, ``WATCH_INTERVAL`` after
                                                    the last proof → watching; ``RAISE_AFTER`` on a
                                                    path that carries less than the whole → asking
    watching   large packets are sent: does their   the answer → settled; ``WATCH_TRIES`` without
               size still pass?                     one → searching
    =========  ===================================  ==============================================

Sizes are those of packets of the tunnel, in bytes: a check padded to the size of a packet makes as
large a datagram as that packet would as one segment of a train, which is 4 bytes larger than one
with the packet alone. The check is sent unfragmentable; packets are not, so that before anything is
known they get through wherever fragments do. What ICMP says is only a reason to ask.
"""

from __future__ import annotations

import enum

SMALLEST = 496
"""What fits the least datagram that every host takes (576 bytes, RFC 791 §3.1)."""
RUNGS = (
    *(8900, 4000, 1900, 1440, 1420, 1400, 1392, 1380, 1360, 1340, 1320, 1300, 1280),
    *(1260, 1240, 1220, 1200, 1180, 1152, 1024, 768, SMALLEST),
)
"""Sizes that are tried. With AEGIS, whose tag is the longer one, 1280 bytes of IPv4 leave 1200, of
IPv6 1180; 1500 of IPv6 through the relay 1392, and 1492 (PPPoE) without it; 1460 of IPv4 (DS-Lite)
1380."""
ROUNDS = 3
"""In which every size that was not answered is asked again: single losses are no verdict."""
WATCH_INTERVAL = 2.0
WATCH_TRIES = 4
RAISE_AFTER = 600.0
"""RFC 8899 §5.1.1, PMTU_RAISE_TIMER."""
UNANSWERED_AGAIN = 5.0
"""Seconds until a path that answered no size at all is asked again."""
MAX_PENDING = 64


class MtuState(enum.Enum):
    UNKNOWN = "unknown"
    ASKING = "asking"
    SEARCHING = "searching"
    SETTLED = "settled"
    WATCHING = "watching"


class PathMtu:
    """Of one path, in our direction."""

    __slots__ = (
        "_answered_at",
        "_found",
        "_hint",
        "_next_at",
        "_pending",
        "_raise_at",
        "_top",
        "_tries",
        "limit",
        "state",
    )

    def __init__(self) -> None:
        self.state = MtuState.UNKNOWN
        self.limit: int | None = None
        """Packets larger than this must be divided. None: as far as is known, none."""
        self._top = 0
        self._found = 0
        self._hint: int | None = None
        self._tries = 0
        self._next_at: float | None = None
        self._answered_at = 0.0
        self._raise_at: float | None = None
        self._pending: dict[int, int] = {}
        """Transactions under way → size."""

    @property
    def is_settled(self) -> bool:
        return self.state in (MtuState.SETTLED, MtuState.WATCHING)

    def search(self, top: int, now: float) -> None:
        """Find out, beginning with `top`, the MTU of the interface. Harmless when that is done."""
        if self.state is MtuState.UNKNOWN and (self._next_at is None or now >= self._next_at):
            self._top = top
            self._enter(MtuState.ASKING, now)

    def note_large(self, now: float) -> bool:
        """A packet larger than SMALLEST is sent on this path; whether a check is due for that."""
        if self.state is MtuState.SETTLED and now - self._answered_at >= WATCH_INTERVAL:
            self._enter(MtuState.WATCHING, now)
            return True
        return False

    def suggest(self, size: int, now: float) -> None:
        """Somebody on the way, or somebody who says so, lets no more than `size` through."""
        if not SMALLEST <= size < self._top:
            return
        if self.state is MtuState.ASKING:
            self._hint = size
            self._enter(MtuState.SEARCHING, now)
        elif self.state is MtuState.SETTLED and size < (self.limit or 0):
            self._hint = size
            self._enter(MtuState.WATCHING, now)
        elif self.state is MtuState.WATCHING:
            self._hint = size

    def note_sent(self, transaction: int, size: int) -> None:
        """The check asked for by `take_sizes` has left."""
        if len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[transaction] = size

    def receive_pong(self, transaction: int, now: float) -> bool:
        """Whether it answers a check of ours; if so, that size has passed."""
        size = self._pending.pop(transaction, None)
        if size is None:
            return False
        if self.state is MtuState.WATCHING:
            if size >= (self.limit or 0):
                self._settle(size, now, self._raise_at)
        elif self.state in (MtuState.ASKING, MtuState.SEARCHING):
            self._found = max(self._found, size)
            if self._found >= self._top:
                self._settle(self._top, now, None)
            elif self.state is MtuState.SEARCHING:
                self.limit = max(self.limit or 0, self._found)
        return True

    # The clock

    def get_timer(self) -> float | None:
        return None if self.state is MtuState.UNKNOWN else self._next_at

    def take_sizes(self, now: float, rtt: float | None) -> list[int]:
        """Sizes to send a check of, now that the time has come."""
        if self.state is MtuState.UNKNOWN or self._next_at is None or now < self._next_at:
            return []
        if self.state is MtuState.SETTLED:
            self._enter(MtuState.ASKING, now)
        elif self.state is MtuState.ASKING and self._tries == 1:
            self._enter(MtuState.SEARCHING, now)
        elif self.state is MtuState.WATCHING and self._tries >= (1 if self._hint else WATCH_TRIES):
            # What passed before passes no more, and nobody says so: a black hole.
            self.limit = SMALLEST
            self._enter(MtuState.SEARCHING, now)
        elif self.state is MtuState.SEARCHING and self._tries == ROUNDS:
            if self._found:
                self._settle(self._found, now, now + RAISE_AFTER)
            else:
                self._enter(MtuState.UNKNOWN, now)
                self.limit, self._next_at = None, now + UNANSWERED_AGAIN
            return []
        self._tries += 1
        self._next_at = now + (max(0.1, 2 * rtt) if rtt is not None else 0.5)
        if self.state is MtuState.ASKING:
            return [self._top]
        if self.state is MtuState.WATCHING:
            return [self.limit or self._top]
        sizes = {size for size in RUNGS if self._found < size < self._top} | {self._top}
        if self._hint is not None and self._hint > self._found:
            sizes.add(self._hint)
        return sorted(sizes, reverse=True)

    # Inside

    def _enter(self, state: MtuState, now: float) -> None:
        self.state = state
        self._next_at = now
        self._tries = self._found = 0

    def _settle(self, size: int, now: float, raise_at: float | None) -> None:
        self._enter(MtuState.SETTLED, now)
        self.limit = size
        self._hint = None
        self._answered_at = now
        self._next_at = self._raise_at = raise_at
