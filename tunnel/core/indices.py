"""Session indices: 32-bit numbers that tell a receiver whose frame it is (white paper §5.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from tunnel.core.machine import RandomBytes

S = TypeVar("S")


class IndexTable(Generic[S]):
    """Random unique indices → whoever they were allocated for."""

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._owners: dict[int, S] = {}
        self.changes = 0
        """How often one was allocated or released."""

    def __len__(self) -> int:
        return len(self._owners)

    def __iter__(self) -> Iterator[int]:
        return iter(self._owners)

    def allocate(self, owner: S) -> int:
        while True:
            index = int.from_bytes(self._random_bytes(4), "little")
            if index and index not in self._owners:
                self._owners[index] = owner
                self.changes += 1
                return index

    def release(self, index: int) -> None:
        if self._owners.pop(index, None) is not None:
            self.changes += 1

    def get(self, index: int) -> S | None:
        return self._owners.get(index)
