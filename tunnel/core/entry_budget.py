"""How many entries our attempts may make in the tables of the NATs before us."""

from __future__ import annotations

from tunnel.core.entry_lifetime import ASSUMED_LIFETIME

MAX_ENTRIES = 480
"""At any moment. Users of a mesh without such a bound lost their, and their office's, internet at
five to six thousand entries; small routers hold 512 of one host."""


class EntryBudget:
    def __init__(self) -> None:
        self._spent: list[tuple[float, int]] = []
        self.lifetime = ASSUMED_LIFETIME
        """Seconds for which an entry counts."""

    def left(self, now: float) -> int:
        self._spent = [spent for spent in self._spent if spent[0] > now - self.lifetime]
        return MAX_ENTRIES - sum(count for _, count in self._spent)

    def spend(self, count: int, now: float, until: float | None = None) -> None:
        """`count` entries at any moment from now to `until`, for as long as the NAT keeps them."""
        self._spent.append((max(now, until or now), count))
