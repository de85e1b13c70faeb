"""Small packets for one peer, back to back, and how they are divided into bundles.

::

    +--------+--------+--------+--------+--------+--------+
    | packet | packet | packet | packet | packet | packet |
    +--------+--------+--------+--------+--------+--------+
    '<-- closed[0] -->'<-- closed[1] -->'<- open ->'
                                        begin      end
"""

from __future__ import annotations


class Gathering:
    """`view`: memory for 64 KiB of packets; it is `start` bytes from where the sealer counts."""

    __slots__ = ("begin", "capacity", "closed", "end", "packets", "start", "view")

    def __init__(self, view: memoryview, start: int) -> None:
        self.view = view
        self.start = start
        self.clear()

    def clear(self) -> None:
        self.begin = self.end = self.packets = 0
        """Of the bundle that is open; the packets in all."""
        self.closed: list[int] = []
        """Bytes of the bundles before it."""
        self.capacity = 0
        """Bytes that a bundle may grow to; 0: not asked yet, which is for the second packet."""

    def add(self, end: int, packets: int) -> None:
        """So many packets were written to `view`, and end there."""
        self.end = end
        self.packets += packets

    def close_bundle(self) -> None:
        """What is gathered next goes into another."""
        self.closed.append(self.end - self.begin)
        self.begin = self.end

    @property
    def lengths(self) -> list[int]:
        """Bytes of all bundles. There must be a packet in the open one."""
        return [*self.closed, self.end - self.begin]
