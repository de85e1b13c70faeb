"""The inputs of the core that only the system has: time and randomness."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

now: Callable[[], float] = time.monotonic
"""Seconds, never decreasing, of no particular origin. Stands still while the machine sleeps."""

wall_clock: Callable[[], float] = time.time
"""Seconds since the Unix epoch. May jump."""

random_bytes: Callable[[int], bytes] = os.urandom
"""That many cryptographically random bytes."""

_SLEEP_MINIMUM = 0.5
"""Seconds. Below it no NAT forgets anything; above it no clock correction reaches."""
_READING_MAXIMUM = 0.05
"""Seconds between which the two clocks have to be read to be compared."""


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SuspendWatch:
    """Tells whether the machine slept: CLOCK_BOOTTIME counts on then, CLOCK_MONOTONIC does not."""

    def __init__(
        self,
        boottime: Callable[[], float] = _boottime,
        monotonic: Callable[[], float] = now,
    ) -> None:
        self._boottime = boottime
        self._monotonic = monotonic
        self._ahead = self._read()

    def slept(self) -> float:
        """Seconds slept since last asked, 0.0 if the machine was awake."""
        before, self._ahead = self._ahead, self._read()
        sleep = self._ahead - before
        return sleep if sleep >= _SLEEP_MINIMUM else 0.0

    def _read(self) -> float:
        for _ in range(10):
            before = self._monotonic()
            boottime = self._boottime()
            after = self._monotonic()
            # A process taken off the CPU between two readings must not look like a sleep.
            if after - before <= _READING_MAXIMUM:
                break
        return boottime - after
