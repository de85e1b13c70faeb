"""Pairs for which checking the candidates is in vain, and which of them makes the next attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tunnel.core.guess_record import GuessRecord
from tunnel.core.machine import earliest
from tunnel.core.peer import Peer

ROLE_DELAY = 2.0
"""The node with the smaller key asks; the other does so this much later, if it has not."""
BUSY_DELAY = 5.0
SPACING = 20.0
"""Seconds between the starts of attempts that guess."""


class StuckPairs:
    """Looks at a pair when something has happened to it (`note`), and when it is due."""

    def __init__(self, own_key: bytes) -> None:
        self.next_at: float | None = None
        """When one of them may be due; not before."""
        self.guessed_at = float("-inf")
        """When the last attempt began that guesses."""
        self._own_key = own_key
        self._records: dict[bytes, GuessRecord] = {}
        self._noted: dict[bytes, Peer] = {}
        self._stuck: dict[bytes, Peer] = {}
        """Or will be, as far as was known when they were last looked at."""
        self._has_ports = False

    def record(self, peer: Peer) -> GuessRecord:
        """What has been tried for that peer."""
        return self._records.setdefault(peer.key.data, GuessRecord())

    def note(self, peer: Peer) -> None:
        """Something has happened to that peer: whether the pair is stuck is to be seen."""
        self._noted[peer.key.data] = peer

    def forget(self, peer: Peer) -> None:
        """It is a member no more."""
        for table in (self._records, self._noted, self._stuck):
            table.pop(peer.key.data, None)

    def reset(self) -> None:
        """What was tried means nothing any more."""
        self._records.clear()
        self._noted |= self._stuck
        self._stuck.clear()

    def take_due(
        self,
        peers: Iterable[Peer],
        now: float,
        *,
        has_ports: bool,
        can_afford: Callable[[GuessRecord], bool],
    ) -> Peer | None:
        """The one of all `peers` that is due first, if any is; `has_ports`: whether the server's
        ports can be asked, without which nobody is. Brings `next_at` up to date."""
        if has_ports is not self._has_ports:
            self._has_ports = has_ports
            self._noted |= {peer.key.data: peer for peer in peers}
        noted = [self._look_at(peer, now) for peer in self._noted.values()]
        self._noted.clear()
        self.next_at = earliest((self.next_at, *noted))
        if self.next_at is None or now < self.next_at:
            return None
        self.next_at = None
        first: tuple[float, Peer] | None = None
        for peer in list(self._stuck.values()):
            at = self._look_at(peer, now)
            if at is not None and at <= now and not can_afford(self.record(peer)):
                at = now + BUSY_DELAY
            if at is None or at > now:
                self.next_at = earliest((self.next_at, at))
            elif first is None or at < first[0]:
                first = at, peer
        return None if first is None else first[1]

    def _look_at(self, peer: Peer, now: float) -> float | None:
        """When an attempt for that pair may begin, which is stuck, or will be at that time."""
        record, relay = self.record(peer), peer.traversal.relay
        stuck_from = peer.traversal.stuck_from if peer.has_keys and self._has_ports else None
        if stuck_from is None or relay is None or not relay.is_alive(now):
            self._stuck.pop(peer.key.data, None)
            record.note_unstuck(peer.traversal.best is not None)
            return None
        self._stuck[peer.key.data] = peer
        if stuck_from > now:
            record.note_unstuck(peer.traversal.best is not None)
            return stuck_from
        patience = 0.0 if self._own_key < peer.key.data else ROLE_DELAY
        at = record.due_at(now, patience)
        return max(at, self.guessed_at + SPACING) if record.is_guess else at
