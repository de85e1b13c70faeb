"""When to take another local port."""

from __future__ import annotations

from collections.abc import Iterable

from tunnel.core.peer import Peer

FAILURES = 6
"""Punches of one pair that must have failed: more than a minute of other attempts."""
SPACING = 300.0
"""Seconds to the next rebind; twice as long to each following one."""
MAX_DOUBLINGS = 6


class RebindPolicy:
    """A router that took a peer's check for a stranger's maps our port elsewhere for as long as
    either side keeps sending: only a fresh port is free of that. Nobody who has a direct path is
    disturbed for it."""

    def __init__(self) -> None:
        self._not_before = float("-inf")
        self._rebinds = 0

    def is_due(self, woken: Iterable[Peer], peers: Iterable[Peer], now: float) -> bool:
        """Whether to rebind now, for the sake of one of those just `woken`, who count their
        failures then; to be asked while the server is connected. True counts as done."""
        if now < self._not_before or not any(
            peer.traversal.schedule.failures >= FAILURES and peer.state(now) == "relayed"
            for peer in woken
        ):
            return False
        if any(peer.traversal.best for peer in peers):
            return False
        self._not_before = now + SPACING * 2**self._rebinds
        self._rebinds = min(self._rebinds + 1, MAX_DOUBLINGS)
        return True
