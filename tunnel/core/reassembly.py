"""Packets that come in fragments, put together again."""

from __future__ import annotations

from tunnel.errors import Malformed
from tunnel.wire.fragment import Fragment

MAX_INCOMPLETE = 32
MAX_PACKET = 65_535
FORGET_AFTER = 2.0
"""Seconds. Fragments of a packet leave together; what is missing after that is lost."""


class _Incomplete:
    __slots__ = ("began", "count", "parts", "size")

    def __init__(self, now: float) -> None:
        self.began = now
        self.parts: dict[int, bytes] = {}
        self.size = 0
        self.count: int | None = None
        """Known when the last has arrived."""


class Reassembler:
    """Of one peer. Bounded: MAX_INCOMPLETE packets of MAX_PACKET bytes; the oldest goes first."""

    def __init__(self) -> None:
        self._packets: dict[int, _Incomplete] = {}

    def add(self, fragment: Fragment, now: float) -> bytes | None:
        """The packet, when this was the last that it lacked. Raises Malformed: it contradicts the
        others."""
        packet = self._packets.get(fragment.packet)
        if packet is None or now - packet.began > FORGET_AFTER:
            self._packets.pop(fragment.packet, None)
            if len(self._packets) >= MAX_INCOMPLETE:
                del self._packets[next(iter(self._packets))]
            packet = self._packets[fragment.packet] = _Incomplete(now)
        if fragment.is_last:
            packet.count = fragment.number + 1
        if fragment.number not in packet.parts:
            packet.parts[fragment.number] = fragment.part
            packet.size += len(fragment.part)
        if packet.size > MAX_PACKET or max(packet.parts) >= (packet.count or max(packet.parts) + 1):
            del self._packets[fragment.packet]
            raise Malformed("fragments that do not belong together")
        if packet.count is None or len(packet.parts) < packet.count:
            return None
        del self._packets[fragment.packet]
        return b"".join(packet.parts[index] for index in range(packet.count))
