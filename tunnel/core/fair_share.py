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
LEAST_SHARE = 3000.0
"""Saved up for one at least: a large datagram or two."""


class FairShare:
    def __init__(self, rate: float, burst: float) -> None:
        """`rate` a second, and at most `burst` saved up."""
        self._rate = rate
        self._burst = burst
        self._all = TokenBucket(rate, burst)
        self._owed: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """Who asked lately → what it is owed, and when that was reckoned; longest ago first."""

    def __len__(self) -> int:
        return len(self._owed)

    def take(self, who: Hashable, now: float, amount: float) -> bool:
        self._forget_idle(now)
        count = len(self._owed) + (who not in self._owed)
        most = max(self._burst / 2 / count, LEAST_SHARE)
        owed, at = self._owed.pop(who, (most, now))
        owed = min(most, owed + (now - at) * self._rate / count)
        is_owed = owed >= amount
        reserve = 0.0 if is_owed else self._burst / 2
        is_given = self._all.take(now, amount, reserve)
        if is_given and is_owed:
            owed -= amount
        self._owed[who] = (owed, now)
        return is_given

    def _forget_idle(self, now: float) -> None:
        while self._owed:
            who, (_, at) = next(iter(self._owed.items()))
            if now - at < ACTIVE:
                break
            del self._owed[who]
