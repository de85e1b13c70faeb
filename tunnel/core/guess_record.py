"""What has been tried for one pair beyond checking candidates, and when to try again."""

from __future__ import annotations

from tunnel.core.prediction import PortRange, count_sends, count_sockets
from tunnel.wire.check import PredictionKind, Refusal

EXACT_DELAYS = (3.0, 6.0, 12.0, 25.0, 50.0, 100.0, 180.0)
"""Seconds after an attempt in vain between two ports that are known, which costs a few datagrams;
the first as long as other ways are tried in turn."""
GUESS_DELAY = 30.0
REST = 300.0
"""The same after FEW or MANY attempts that guess."""
LIKELY = 0.5
WAYS = 5
"""Whose mapping is taken for what it seems: see `begin`."""
DISTRUSTING_ROUNDS = 2
FEW, MANY = 12, 30
"""Attempts in vain after which guessing rests: where one would most likely have succeeded,
something else is in the way; where it is a lottery, one holds out for an hour."""
REFUSED = {Refusal.OFF: 600.0, Refusal.HOPELESS: 600.0, Refusal.UNPREDICTABLE: 60.0}
BUSY_DELAYS = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Each asking costs both routers a round of samples, which must not use up what attempts need."""


class GuessRecord:
    def __init__(self) -> None:
        self.tries = 0
        """Attempts since there was a direct path."""
        self.ours: PortRange | None = None
        self.theirs: PortRange | None = None
        self.chance: float | None = None
        """Of one attempt, as far as both predictions tell."""
        self.refusal: Refusal | None = None
        """Why the last one was not made."""
        self.refused_by_peer = False
        self._busy = 0
        """How often in a row the peer had no time for us, nor we for it."""
        self._stuck_since: float | None = None
        self._not_before = float("-inf")

    @property
    def is_guess(self) -> bool:
        """Whether, as far as is known, ports have to be guessed."""
        return self.chance is not None and not self._is_exact

    @property
    def is_lottery(self) -> bool:
        """Whether both sides guess: attempts follow each other, for each is long and gentle."""
        both = (self.ours, self.theirs)
        return all(r is not None and r.kind is PredictionKind.SCATTERED for r in both)

    @property
    def expected_sends(self) -> int:
        """Endpoints that an attempt sends to, as far as the last one told; 0: not known."""
        if self.ours is None or self.theirs is None:
            return 0
        return count_sends(self.ours, self.theirs.size, count_sockets(self.ours))

    @property
    def _is_exact(self) -> bool:
        return all(
            r is not None and r.kind is PredictionKind.EXACT for r in (self.ours, self.theirs)
        )

    def due_at(self, now: float, patience: float) -> float:
        """When an attempt may begin for a pair that is stuck now; `patience`: seconds granted to
        the peer to begin it."""
        if self._stuck_since is None:
            self._stuck_since = now
        return max(self._stuck_since, self._not_before) + patience

    def note_unstuck(self, is_direct: bool) -> None:
        self._stuck_since = None
        if is_direct:
            self.tries, self.refusal = 0, None
            self._not_before = float("-inf")

    def begin(self) -> tuple[bool, bool]:
        """One more attempt: whether the peer should distrust a mapping that looks steady, and
        whether we should. A mapping may depend on the address alone, which the two ports of one
        server do not show: so next we are not taken at our word, then the peer is not, and at last
        neither is. That is for two rounds; then it is most likely a firewall."""
        self.note_asked()
        turn = (self.tries - 1) % WAYS
        if self.rounds and self.ours and self.theirs and self.ours.size + self.theirs.size > 2:
            # Against ports that vary one that is known is all but certain to succeed. But once in a
            # round it is taken at its word all the same: maybe losses were to blame, and distrust
            # leaves no hope where the others vary over the full range.
            return (self.theirs.size == 1, self.ours.size == 1) if turn else (False, False)
        turn = turn if self.rounds < DISTRUSTING_ROUNDS else 0
        return turn in (2, 4), turn in (1, 4)

    @property
    def rounds(self) -> int:
        """How often all of these ways have been tried."""
        return max(0, self.tries - 1) // WAYS

    def note_asked(self) -> None:
        """The peer begins one."""
        self.tries += 1
        self.refusal = None

    def note_ranges(self, ours: PortRange, theirs: PortRange, chance: float) -> None:
        self.ours, self.theirs, self.chance = ours, theirs, chance
        self._busy = 0

    def fail(self, now: float) -> None:
        """An attempt was in vain."""
        if self.chance is None or self._is_exact:
            settled = max(0, self.tries - DISTRUSTING_ROUNDS * WAYS)
            delay = EXACT_DELAYS[min(settled, len(EXACT_DELAYS) - 1)]
        else:
            most = FEW if self.chance >= LIKELY else MANY
            delay = GUESS_DELAY if self.tries < most else REST
            delay = 1.0 if self.is_lottery and self.tries < most else delay
        self._not_before = now + delay

    def refuse(self, refusal: Refusal, now: float, *, by_peer: bool = False) -> None:
        """An attempt was not made after all."""
        self.refusal, self.refused_by_peer = refusal, by_peer
        if refusal is Refusal.BUSY:
            self.tries = max(0, self.tries - 1)  # The way to try next stays the same.
            self._not_before = now + BUSY_DELAYS[min(self._busy, len(BUSY_DELAYS) - 1)]
            self._busy += 1
        else:
            self._not_before = now + REFUSED[refusal]
