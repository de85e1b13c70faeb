"""How many entries our attempts may make in the tables of the NATs before us."""

from __future__ import annotations

from tunnel.core.entry_lifetime import ASSUMED_LIFETIME

MAX_ENTRIES = 440
"""At any moment. Users of a mesh without such a bound lost their, and their office's, internet at
five to six thousand entries; small routers hold 512 of one host."""
MAX_SAMPLES = 40
"""Entries of samples at any moment, beside those: asking in vain must not use up what an attempt
needs. Three rounds of them."""


class EntryBudget:
    def __init__(self) -> None:
        self._spent: list[tuple[float, int]] = []
        self._sampled: list[tuple[float, int]] = []
        self.lifetime = ASSUMED_LIFETIME
        """Seconds for which an entry counts."""

    def left(self, now: float) -> int:
        return MAX_ENTRIES - self._count(self._spent, now)

    def left_for_samples(self, now: float) -> int:
        return MAX_SAMPLES - self._count(self._sampled, now)

    def spend(self, count: int, now: float, until: float | None = None) -> None:
        """`count` entries at any moment from now to `until`, for as long as the NAT keeps them."""
        self._spent.append((max(now, until or now), count))

    def spend_samples(self, count: int, now: float) -> None:
        self._sampled.append((now, count))

    def _count(self, spent: list[tuple[float, int]], now: float) -> int:
        spent[:] = [one for one in spent if one[0] > now - self.lifetime]
        return sum(count for _, count in spent)
