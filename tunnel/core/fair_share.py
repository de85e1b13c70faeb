"""A rate that several share: who wants little gets it, whatever others want.

Each of those that asked lately is owed its part of the rate. Beyond it one may take what the others
leave, but never the last half of what is saved up: that is kept for whom it is owed to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from tunnel.core.ratelimit import TokenBucket

ACTIVE = 2.0
"""Seconds since it asked last in which one counts."""
LOOK_SPACING = 0.1
"""Seconds between looks for those that ask no more."""
LEAST_SHARE = 3000.0
"""Saved up for one at least: a large datagram or two."""


class FairShare:
    def __init__(self, rate: float, burst: float) -> None:
        """`rate` a second, and at most `burst` saved up."""
        self._rate = rate
        self._burst = burst
        self._all = TokenBucket(rate, burst)
        self._owed: OrderedDict[Hashable, list[float]] = OrderedDict()
        """Who asked lately → what it is owed, and when that was reckoned; longest ago first."""
        self._looked_at = float("-inf")

    def __len__(self) -> int:
        return len(self._owed)

    def take(self, who: Hashable, now: float, amount: float) -> bool:
        if now - self._looked_at >= LOOK_SPACING:
            self._looked_at = now
            self._forget_idle(now)
        entry = self._owed.get(who)
        if entry is None:
            entry = self._owed[who] = [self._burst, now]
        else:
            self._owed.move_to_end(who)
        count = len(self._owed)
        owed = entry[0] + (now - entry[1]) * self._rate / count
        owed = min(owed, max(self._burst / 2 / count, LEAST_SHARE))
        is_owed = owed >= amount
        is_given = self._all.take(now, amount, 0.0 if is_owed else self._burst / 2)
        entry[0] = owed - amount if is_given and is_owed else owed
        entry[1] = now
        return is_given

    def _forget_idle(self, now: float) -> None:
        while self._owed:
            who, (_, at) = next(iter(self._owed.items()))
            if now - at < ACTIVE:
                break
            del self._owed[who]
