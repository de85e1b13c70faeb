"""When to check a peer's candidates: in rounds, and again after a punch in vain."""

from __future__ import annotations

PUNCH_ROUNDS = (0.0, 0.02, 0.06, 0.15, 0.3, 0.6, 1.0, 1.6, 2.4)
"""Seconds after the start. Dense at first, because synchronised sending is what succeeds (97.6 % of
successes come at the first try), then spread over a burst of loss."""
IN_VAIN, IN_VAIN_RTTS = 0.5, 3.0
"""Seconds, or round trips by the relay, of a punch after which something else is tried as well."""
RETRY_DELAYS = (3.0, 6.0, 12.0, 25.0, 50.0, 100.0, 180.0)


class PunchSchedule:
    def __init__(self) -> None:
        self.failures = 0
        """Punches that ended without a direct path, since there was one."""
        self._rounds: list[float] = []
        self._began: float | None = None
        self._retry_at: float | None = None

    @property
    def is_running(self) -> bool:
        return bool(self._rounds)

    def start(self, at: float) -> None:
        """Anew, whatever was under way."""
        self._began = at
        self._rounds = [at + offset for offset in PUNCH_ROUNDS]
        self._retry_at = None

    def succeed(self) -> None:
        """There is a path. Two more rounds let a better candidate still show itself."""
        self._rounds = self._rounds[:2]
        self._retry_at = self._began = None
        self.failures = 0

    def stop(self) -> None:
        self._rounds = []
        self._retry_at = self._began = None

    def in_vain_from(self, rtt: float) -> float | None:
        """When the punch under way will have brought nothing for long, with that round trip."""
        return None if self._began is None else self._began + max(IN_VAIN, IN_VAIN_RTTS * rtt)

    def get_timer(self) -> float | None:
        return self._rounds[0] if self._rounds else self._retry_at

    def count_due_rounds(self, now: float) -> int:
        """Rounds whose time has come since it was last asked."""
        count = sum(1 for at in self._rounds if at <= now)
        del self._rounds[:count]
        return count

    def plan_retry(self, now: float) -> None:
        """After the last round, if there is no path yet."""
        if not self._rounds and self._retry_at is None:
            self._retry_at = now + RETRY_DELAYS[min(self.failures, len(RETRY_DELAYS) - 1)]
            self.failures += 1

    def take_retry(self, now: float) -> bool:
        """Whether it is time to punch again."""
        if self._retry_at is None or now < self._retry_at:
            return False
        self._retry_at = None
        return True
