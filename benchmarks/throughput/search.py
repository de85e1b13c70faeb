"""The highest rate that is carried nearly without loss, found by trying."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LOSS = 0.01
"""Share that may be lost."""
FIRST, LOWEST, HIGHEST = 20_000.0, 500.0, 4_000_000.0
"""Datagrams a second."""
PRECISION = 1.05
"""Ratio of a rate that failed to one that passed, at which the search ends."""
_FALLS_SHORT = 0.95
"""Share of the rate wanted below which the sender is taken to be at its end."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt; datagrams a second."""

    wanted: float
    """0: as many as possible."""
    offered: float
    """What the sender really sent."""
    delivered: float

    @property
    def passes(self) -> bool:
        return self.delivered >= (1 - LOSS) * self.offered


def highest_rate(attempt: Callable[[float], Trial]) -> Trial:
    """The best attempt that passed: doubling (or halving) first, then by bisection.

    What fails is tried once more: one hiccup of the machine is not the tunnel's. Where the sender
    can no more, its own rate is the answer. If even the lowest rate fails: that attempt, with
    nothing delivered.
    """

    def try_twice(rate: float) -> Trial:
        trial = attempt(rate)
        return trial if trial.passes else attempt(rate)

    best = try_twice(FIRST)
    while not best.passes:
        if best.wanted <= LOWEST:
            return Trial(best.wanted, best.offered, 0.0)
        best = try_twice(best.wanted / 2)
    too_high = best.wanted * 2 if best.wanted < FIRST else math.inf
    while too_high / best.wanted > PRECISION:
        if best.offered < _FALLS_SHORT * best.wanted or best.wanted >= HIGHEST:
            break
        rate = best.wanted * 2 if too_high == math.inf else math.sqrt(best.wanted * too_high)
        trial = try_twice(rate)
        if trial.passes:
            best = trial
        else:
            too_high = rate
    return best
