"""Where the peer has just appeared, while its old path should still have worked."""

from __future__ import annotations

from tunnel.core.path import Path

SUCCESSION_TIME = 1.0
"""Seconds for which the peer's appearance at a new endpoint makes us duplicate."""


class Succession:
    """Copies go to the successor before it is proven, as many bytes as came from it."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._until = 0.0

    def begin(self, path: Path, now: float) -> None:
        self.path, self._until = path, now + SUCCESSION_TIME

    def end(self) -> None:
        self.path = None

    def take_credit(self, size: int) -> Path | None:
        """The successor, if a copy of `size` bytes may go there."""
        path = self.path
        if path is None or path.credit < size:
            return None
        path.credit -= size
        return path

    def get_timer(self) -> float | None:
        return None if self.path is None else self._until

    def handle_timer(self, now: float) -> None:
        if self.path is not None and now >= self._until:
            self.path = None
