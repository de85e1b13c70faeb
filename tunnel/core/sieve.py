"""What a node goes on reading when strangers send it more than it can read.

What does not fit into a socket's receive buffer is lost, frames of peers too. So whatever does not
name a session or a channel of ours is then left to chance, before it takes up room
(``wire/sieve.py``), and only as much of it is read as costs little.

    ========  ===========================================  ====================================
    state     what is read                                 left by
    ========  ===========================================  ====================================
    open      everything                                   ``BEGINS`` of strangers a second →
                                                           sieving
    sieving   what names a number of ours, and a share of  less than ``ENDS`` a second for
              all else: about ``SAMPLED`` a second         ``CALM`` → open
    ========  ===========================================  ====================================

Nobody is kept out by that. A peer whose initiations are not read is called by us, once the server
has told us of it, and before the keys of a session expire: the response names our index.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tunnel.core.events import FloodBegan, FloodEnded
from tunnel.core.indices import IndexTable
from tunnel.core.peer_table import PeerTable
from tunnel.core.session import Session
from tunnel.wire.sieve import MOST_NUMBERS, named_number

BEGINS, ENDS = 2000.0, 500.0
"""Datagrams of strangers a second. A node reads ten times as many when it does nothing else."""
SAMPLED = 300.0
"""A second: those that prove to know our key are still answered with cookies, and the rate is known
to a few per cent."""
WINDOW = 0.25
"""Seconds within which it is seen that one begins."""
UNSEEN = 16
"""Times what is read: so many are taken to come at first, for most are lost in the kernel then."""
DRAINED_WITHIN = 0.5
"""Seconds until nothing is left in the socket's buffer that came before the share was another."""
LEAST_WINDOW = 0.1
WEIGHED_EVERY = 1.0
CALM = 60.0
"""Seconds. Whoever floods for a moment every now and then causes two lines a minute."""
LEAST_SHARE = 1e-6


class Admitted(NamedTuple):
    """What is to be read, by all sockets."""

    numbers: tuple[int, ...] | None = None
    """What names one of these. None: more than can be told apart, so whatever names any."""
    share: float = 1.0
    """Of all else, by chance."""


EVERYTHING = Admitted()


class Sieve:
    def __init__(self, indices: IndexTable[Session], peers: PeerTable) -> None:
        self._indices = indices
        self._peers = peers
        self._share = 1.0
        self._began_at: float | None = None
        """None: open."""
        self._calm_since: float | None = None
        self._count = 0
        """Datagrams of strangers since `_counted_from`, which may be still to come."""
        self._counted_from = float("-inf")
        self._rate = 0.0
        self._weighed_at = 0.0
        self._draining_until = float("-inf")
        self._total = 0.0
        self._told: tuple[int, int, float] | None = None
        """What the last Admitted was made of; None: EVERYTHING."""

    def note_dropped(self, datagram: bytes, now: float) -> FloodBegan | None:
        """One that arrived by a socket, and was no good."""
        if self.knows(datagram):
            return None  # It would be read in any case.
        if self._began_at is None and now - self._counted_from > WINDOW:
            self._count, self._counted_from = 0, now
        if now < self._counted_from:
            return None
        self._count += 1
        limit = 2 * SAMPLED * WEIGHED_EVERY if self._share < 1.0 else BEGINS * WINDOW
        if self._count < limit:
            return None
        self._calm_since = None
        if self._share == 1.0:
            self._rate, self._weighed_at = self._count / WINDOW, now
            self._draining_until = now + DRAINED_WITHIN
            self._set_share(SAMPLED / (UNSEEN * self._rate), now)
            if self._began_at is None:
                self._began_at = now
                return FloodBegan(round(self._rate))
        elif now - self._counted_from >= LEAST_WINDOW:
            self._weigh(now)
        return None

    def knows(self, datagram: bytes) -> bool:
        """Whether it names a number of ours."""
        number = named_number(datagram)
        return number is not None and (
            self._indices.get(number) is not None or self._peers.has_channel(number)
        )

    def is_draining(self, now: float) -> bool:
        """Whether the sockets' buffers may be full of what came before anything was left to chance:
        what is not known of that is not worth a look, for frames wait behind it."""
        return now < self._draining_until

    def take_change(self) -> Admitted | None:
        """What is to be read from now on; None: as before."""
        if self._began_at is None:
            if self._told is None:
                return None
            self._told = None
            return EVERYTHING
        made_of = self._indices.changes, self._peers.channel_changes, self._share
        if made_of == self._told:
            return None
        self._told = made_of
        return Admitted(self.find_numbers(), self._share)

    def find_numbers(self) -> tuple[int, ...] | None:
        """Of our sessions, handshakes that we have begun, and channels. None: see Admitted."""
        numbers = (*self._indices, *self._peers.channels)
        return None if len(numbers) > MOST_NUMBERS else numbers

    def describe(self, now: float) -> dict[str, Any] | None:
        """For the status; None: open."""
        if self._began_at is None:
            return None
        return {
            "since_s": round(now - self._began_at, 1),
            "datagrams_per_s": round(self._rate),
            "read_share": self._share,
        }

    def get_timer(self) -> float | None:
        return None if self._began_at is None else self._counted_from + WEIGHED_EVERY

    def handle_timer(self, now: float) -> FloodEnded | None:
        timer = self.get_timer()
        if timer is None or now < timer or self._began_at is None:
            return None
        self._weigh(now)
        if self._rate >= ENDS:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= CALM:
            ended = FloodEnded(now - self._began_at, round(self._total))
            self._began_at = self._calm_since = None
            self._share, self._total = 1.0, 0.0
            return ended
        return None

    def _weigh(self, now: float) -> None:
        """How many come, by those that were read, and the share of them to read from now on."""
        self._rate = self._count / self._share / (now - self._counted_from)
        self._total += self._rate * (now - self._weighed_at)
        self._count, self._counted_from, self._weighed_at = 0, now, now
        share = 1.0 if self._rate <= SAMPLED else max(SAMPLED / self._rate, LEAST_SHARE)
        # Else the program would be another one every second.
        if not self._share / 2 < share < self._share * 2 or share == 1.0 != self._share:
            self._set_share(share, now)

    def _set_share(self, share: float, now: float) -> None:
        self._share = share
        self._count, self._counted_from = 0, now + DRAINED_WITHIN
