"""Whether a router still has the table it had: by the seconds it counts since that was empty."""

from __future__ import annotations

PATIENCE = 2.0
"""Seconds by which two clocks may differ, and a datagram be late (RFC 6887 §8.5)."""
DRIFT = 1 / 16
"""Of the time that passed (ibid.)."""


class EpochCheck:
    """RFC 6887 §8.5. NAT-PMP's rule (RFC 6886 §3.6: less than 7/8 of the time that passed, and 2 s)
    is laxer in one direction and silent in the other."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._noted_at = 0.0

    def note(self, epoch: int, now: float) -> bool:
        """Whether it fits what was heard before. The first to be heard does."""
        before, self._epoch = self._epoch, epoch
        passed, self._noted_at = now - self._noted_at, now
        if before is None:
            return True
        counted = epoch - before
        if counted < -1:
            return False
        is_slow = counted + PATIENCE < passed - passed * DRIFT
        is_fast = passed + PATIENCE < counted - counted * DRIFT
        return not (is_slow or is_fast)
