"""Which external port a NAT picks."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from random import Random

from tunnel.wire.endpoint import Endpoint

FIRST_PORT = 1024
LAST_PORT = 65535
_RANGE = LAST_PORT - FIRST_PORT + 1


class Allocation(Enum):
    """How external ports are chosen (RFC 4787 section 4.2)."""

    PRESERVING = "preserving"
    """The inside port if it is free, else a random one."""
    SEQUENTIAL = "sequential"
    """One after the other, whoever asks."""
    RANDOM = "random"
    RANDOM_IN_BLOCK = "random in block"
    """At random within the inside host's own block of ports (RFC 6888, RFC 7422)."""


class PortAllocator:
    """Proposes ports; whether one is free is for the NAT to say."""

    def __init__(self, allocation: Allocation, block_size: int, random: Random) -> None:
        self.allocation = allocation
        self.block_size = block_size
        self.random = random
        self._shift = 0
        self._blocks: dict[str, int] = {}
        self._next: int | None = None

    def candidates(self, source: Endpoint) -> Iterator[int]:
        """Ports for a new mapping of `source`, in the order to try them; ends when there are none
        left."""
        if self.allocation is Allocation.SEQUENTIAL:
            if self._next is None:
                self._next = self.random.randrange(_RANGE)
            for _ in range(_RANGE):
                port = FIRST_PORT + self._next
                self._next = (self._next + 1) % _RANGE
                yield port
        elif self.allocation is Allocation.RANDOM_IN_BLOCK:
            if (first := self.block_of(source.host)) is not None:
                yield from self._random(first, self.block_size)
        else:
            if self.allocation is Allocation.PRESERVING:
                # Ports below 1024 stay as they are as long as nothing was shifted.
                shifted = FIRST_PORT + (source.port - FIRST_PORT + self._shift) % _RANGE
                yield shifted if self._shift else source.port
            yield from self._random(FIRST_PORT, _RANGE)

    def block_of(self, host: str) -> int | None:
        """The first port of the block of an inside host; None if all blocks are given out."""
        if host not in self._blocks:
            taken = set(self._blocks.values())
            free = [
                first
                for first in range(FIRST_PORT, LAST_PORT + 2 - self.block_size, self.block_size)
                if first not in taken
            ]
            if not free:
                return None
            self._blocks[host] = self.random.choice(free)
        return self._blocks[host]

    def restart(self) -> None:
        """From now on the same sources get other ports than before."""
        self._shift = (self._shift + self.random.randrange(1, _RANGE // 2)) % _RANGE or 1
        self._next = None
        old, self._blocks = self._blocks, {}
        for host, first in old.items():
            while len(old) * 2 * self.block_size < _RANGE and self.block_of(host) == first:
                del self._blocks[host]

    def _random(self, first: int, count: int) -> Iterator[int]:
        for _ in range(16):
            yield first + self.random.randrange(count)
        start = self.random.randrange(count)
        for offset in range(count):
            yield first + (start + offset) % count
