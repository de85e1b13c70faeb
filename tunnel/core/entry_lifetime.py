"""How long the NAT remembers a datagram that nobody has answered: so long a guess costs an entry.

Linux forgets such an entry after 30 s and an answered one after 120; others do not distinguish. So
the server is asked, from two sockets that have sent nothing else, to answer not now but later. If
an answer still comes in, the NAT is one of those that remember for long.

    =========  ====================================  ==========================================
    state      meaning                               left by
    =========  ====================================  ==========================================
    UNKNOWN    not asked yet                         ``start`` → ASKED
    ASKED      the late answers are awaited          one comes → LONG; none does → SHORT
    SHORT      entries last ``SHORT_LIFETIME``       ``restart`` → UNKNOWN
    LONG       they last ``LONG_LIFETIME``           ``restart`` → UNKNOWN
    =========  ====================================  ==========================================
"""

from __future__ import annotations

import enum

from tunnel.core.machine import RandomBytes, draw_number
from tunnel.core.sampling import Asked
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import AnswerFrom, Probe

SOCKETS = (4, 5)
"""``Transmit.local``: two, for one answer may get lost."""
SHORT_LIFETIME = 30.0
LONG_LIFETIME = 120.0
"""RFC 4787 REQ-5 asks for two minutes at least; who keeps them for longer is rare."""
ASSUMED_LIFETIME = 60.0
"""As long as it is not known, which is for the first half minute."""
SILENCE = 31.5
GRACE = 2.0


class EntryState(enum.Enum):
    UNKNOWN = "unknown"
    ASKED = "asked"
    SHORT = "short"
    LONG = "long"


class EntryLifetime:
    def __init__(self, random_bytes: RandomBytes) -> None:
        self.state = EntryState.UNKNOWN
        self._random_bytes = random_bytes
        self._transactions: tuple[int, ...] = ()
        self._at: float | None = None
        self._released: tuple[int, ...] = ()

    @property
    def is_known(self) -> bool:
        return self.state in (EntryState.SHORT, EntryState.LONG)

    @property
    def seconds(self) -> float:
        if self.state is EntryState.SHORT:
            return SHORT_LIFETIME
        return LONG_LIFETIME if self.state is EntryState.LONG else ASSUMED_LIFETIME

    def start(self, server: Endpoint, now: float) -> list[Asked]:
        """What to send, each from its own socket. Nothing if it is known or being asked."""
        if self.state is not EntryState.UNKNOWN:
            return []
        self.state = EntryState.ASKED
        self._transactions = tuple(draw_number(self._random_bytes) for _ in SOCKETS)
        self._at = now + SILENCE + GRACE
        delay = round(SILENCE * 1000)
        return [
            Asked(Probe(transaction, delay, AnswerFrom.SAME_LATER), server, local)
            for transaction, local in zip(self._transactions, SOCKETS, strict=True)
        ]

    def restart(self) -> None:
        """The network has changed."""
        if self.state is EntryState.ASKED:
            self._released = SOCKETS
        self.state, self._at, self._transactions = EntryState.UNKNOWN, None, ()

    def receive(self, transaction: int) -> bool:
        """An answer of the server; whether it was one of these."""
        if transaction not in self._transactions:
            return False
        self._end(EntryState.LONG)
        return True

    def take_released(self) -> tuple[int, ...]:
        """Sockets to be closed."""
        released, self._released = self._released, ()
        return released

    def get_timer(self) -> float | None:
        return self._at

    def handle_timer(self, now: float) -> None:
        if self._at is not None and now >= self._at:
            self._end(EntryState.SHORT)

    def _end(self, state: EntryState) -> None:
        self.state, self._at, self._transactions = state, None, ()
        self._released = SOCKETS
