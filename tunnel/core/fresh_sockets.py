"""Sockets beside the one for everything: opened for an attempt, kept while a path goes through one.

The driver opens a socket when a Transmit first names its number, and closes it when it is released.
"""

from __future__ import annotations

from collections.abc import Iterable

FIRST_FRESH = 16
"""Their numbers begin here; those below are for measuring."""
MAX_FRESH = 448


class FreshSockets:
    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next = 0
        self._released: list[int] = []

    @property
    def free(self) -> int:
        """How many are to be had."""
        return MAX_FRESH - len(self._taken)

    def take(self, count: int) -> list[int]:
        """Numbers that nothing uses, `count` or as many as there are."""
        found: list[int] = []
        for _ in range(MAX_FRESH):
            if len(found) >= count:
                break
            # Round and round, so that a number just released is not soon another socket.
            local = FIRST_FRESH + self._next
            self._next = (self._next + 1) % MAX_FRESH
            if local not in self._taken:
                self._taken.add(local)
                found.append(local)
        return found

    def release(self, locals_: Iterable[int]) -> None:
        """The driver is to close them."""
        given_up = self._taken.intersection(locals_)
        self._taken -= given_up
        self._released += sorted(given_up)

    def release_all_but(self, in_use: set[int]) -> None:
        self.release(self._taken - in_use)

    def take_released(self) -> tuple[int, ...]:
        released, self._released = self._released, []
        return tuple(released)
