"""How often the paths of one peer are asked whether they still work."""

from __future__ import annotations

from tunnel.constants import KEEPALIVE_INTERVAL
from tunnel.core.machine import RandomBytes
from tunnel.core.path import ECHO_INTERVAL, Path

ACTIVE_FOR = 1.0
"""Seconds after the last packet during which a path counts as carrying traffic."""
RELAY_ECHO_INTERVAL = 1.0
"""The relay carries traffic too, but nothing is won by noticing its failure sooner."""
FORMER_ECHO_INTERVAL = 1.0
"""Between echoes of a path that was lost, while traffic flows by the relay; else keep-alives."""


class EchoPace:
    def __init__(self, random_bytes: RandomBytes) -> None:
        self.keepalive_interval = KEEPALIVE_INTERVAL
        # Punching starts both ends at the same moment. An echo serves both, but only where one end
        # asks before the other does.
        self._eagerness = 0.9 + random_bytes(1)[0] / 2550
        self._active_until = float("-inf")

    def note_activity(self, now: float) -> bool:
        """Whether that is news: nothing went on before, and the next echo may be another one."""
        was_active = self.is_active(now)
        self._active_until = now + ACTIVE_FOR
        return not was_active

    def is_active(self, now: float) -> bool:
        """Whether traffic flows."""
        return now < self._active_until

    def next_of_best(self, path: Path, *, in_doubt: bool) -> float:
        return self._next(path, ECHO_INTERVAL, is_active=in_doubt or self.was_active(path))

    def next_of_relay(self, path: Path) -> float:
        return self._next(path, RELAY_ECHO_INTERVAL, is_active=self.was_active(path))

    def next_of_former(self, path: Path) -> float:
        """Of the path lost last."""
        is_active = self.was_active(path)
        pace = FORMER_ECHO_INTERVAL if is_active else self._keepalive
        return self._next(path, pace, is_active=is_active)

    def was_active(self, path: Path) -> bool:
        """Whether traffic flowed when, or after, the path was last asked. Then it is asked once
        more, at the pace of traffic, although there may be none by now."""
        return (path.pinged_at or float("-inf")) < self._active_until

    def _next(self, path: Path, pace: float, *, is_active: bool) -> float:
        return path.next_echo(pace, is_active=is_active, keepalive=self._keepalive)

    @property
    def _keepalive(self) -> float:
        return self.keepalive_interval * self._eagerness
