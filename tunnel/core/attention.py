"""Whom to look at, out of many: those that something was done to, and those whose time has come.

After every input a node takes from its peers what they want sent and reported, and asks when they
want to be woken. With a thousand peers it must not ask them all: whatever is done to one *touches*
it, and the others are as they were when they were last looked at.
"""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

from tunnel.core.machine import earliest


class Timed(Protocol):
    def get_timer(self) -> float | None: ...


T = TypeVar("T", bound=Timed)
Entry = tuple[float, int, T]
"""When, a number that no other has, and whom to wake."""
SPARE = 64


class Attention(Generic[T]):
    """Shared by those that may be touched, each of which touches itself (clause 6 of the contract:
    none of them knows its owner). Orders are those of touching and planning: no hash matters."""

    def __init__(self) -> None:
        self._touched: dict[T, None] = {}
        self._planned: dict[T, Entry[T]] = {}
        self._heap: list[Entry[T]] = []
        """Entries that are planned, and some that were: those are dropped when they come up."""
        self._number = 0

    def touch(self, one: T) -> None:
        """Something was done to it: it may want something, and its timer may be another."""
        self._touched[one] = None

    @property
    def has_touched(self) -> bool:
        return bool(self._touched)

    def take_touched(self) -> list[T]:
        """To be looked at now, then planned."""
        touched = list(self._touched)
        self._touched.clear()
        return touched

    def plan(self, one: T) -> None:
        """It has been looked at: wake it at its timer."""
        at, before = one.get_timer(), self._planned.get(one)
        if before is not None and before[0] == at:
            return
        if at is None:
            self._planned.pop(one, None)
        else:
            self._number += 1
            entry = self._planned[one] = (at, self._number, one)
            heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._planned) + SPARE:
            self._heap = sorted(self._planned.values())
        self._tidy()

    def forget(self, one: T) -> None:
        """It is none of them any more."""
        self._touched.pop(one, None)
        self._planned.pop(one, None)
        self._tidy()

    def get_timer(self) -> float | None:
        """The first timer of all, those included that were touched and not looked at yet."""
        first = self._heap[0][0] if self._heap else None
        if self._touched:
            return earliest((first, *(one.get_timer() for one in self._touched)))
        return first

    def take_due(self, now: float) -> list[T]:
        """Those whose time has come, the longest due first; they are touched by that."""
        for one in self._touched:
            self.plan(one)
        due = []
        while self._heap and self._heap[0][0] <= now:
            one = heapq.heappop(self._heap)[2]
            del self._planned[one]
            self.touch(one)
            due.append(one)
            self._tidy()
        return due

    def _tidy(self) -> None:
        """So that the first entry is one that counts."""
        while self._heap and self._planned.get(self._heap[0][2]) is not self._heap[0]:
            heapq.heappop(self._heap)
