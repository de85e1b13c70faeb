"""What happened to every datagram, as compact tuples, and what it cost.

One record is ``(time, what, number, where, source, destination, size, note)``: `what` is one of
:data:`SENT`, :data:`DELIVERED`, :data:`DROPPED`, :data:`NOTE`; `number` is the datagram's; `where`
names the host or router; `size` includes the IP and UDP headers; `note` is a label for what was
sent, the reason of a drop, or text.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tunnel.wire.endpoint import Endpoint

SENT, DELIVERED, DROPPED, NOTE = "sent", "delivered", "dropped", "note"
Record = tuple[float, str, int, str, "Endpoint | None", "Endpoint | None", int, str]
Describe = Callable[[bytes], str]
"""A short label for a datagram, e.g. "ping". It shows in the drawing."""

IPV4_OVERHEAD = 28
IPV6_OVERHEAD = 48
DAY = 86400.0


class Why(str, Enum):
    """Why a datagram was dropped."""

    LOSS = "loss"
    TOO_BIG = "too big"
    TTL = "ttl expired"
    LINK_DOWN = "link down"
    ROUTER_DOWN = "router down"
    BLOCKED = "blocked"
    UDP_BLOCKED = "udp blocked"
    NO_ROUTE = "no route"
    NO_ADDRESS = "no address of that family"
    NO_SOCKET = "no socket"
    SUSPENDED = "suspended"
    NO_MAPPING = "no mapping"
    FILTERED = "filtered"
    NO_HAIRPIN = "no hairpin"
    TABLE_FULL = "table full"
    PORTS_EXHAUSTED = "ports exhausted"


def wire_size(data: bytes, destination: Endpoint) -> int:
    """Bytes of `data` on the wire, with IP and UDP headers."""
    return len(data) + (IPV6_OVERHEAD if ":" in destination.host else IPV4_OVERHEAD)


@dataclass(slots=True)
class Statistics:
    """Traffic of one host; bytes include IP and UDP headers."""

    datagrams_sent: int = 0
    bytes_sent: int = 0
    datagrams_received: int = 0
    bytes_received: int = 0

    @property
    def bytes(self) -> int:
        return self.bytes_sent + self.bytes_received

    def bytes_per_day(self, duration: float) -> float:
        """What a day costs at this rate, if all this took `duration` seconds."""
        return self.bytes * DAY / duration


class Trace:
    """Keeps at least the last `limit` records; the digest and the counts cover all of them."""

    def __init__(self, describe: Describe | None = None, limit: int = 100_000) -> None:
        self.records: list[Record] = []
        self.statistics: defaultdict[str, Statistics] = defaultdict(Statistics)
        """By host name."""
        self.destinations: defaultdict[str, Counter[Endpoint]] = defaultdict(Counter)
        """Host name → endpoint → datagrams sent there, whatever became of them."""
        self.drops: Counter[tuple[str, Why]] = Counter()
        """By (where, why)."""
        self._describe = describe
        self._limit = limit
        self._hash = hashlib.sha256()

    def sent(
        self, time: float, number: int, host: str, source: Endpoint, to: Endpoint, data: bytes
    ) -> None:
        label = f"{zlib.crc32(data):08x}" if self._describe is None else self._describe(data)
        size = wire_size(data, to)
        counts = self.statistics[host]
        counts.datagrams_sent += 1
        self.destinations[host][to] += 1
        counts.bytes_sent += size
        self._append((time, SENT, number, host, source, to, size, label))

    def delivered(
        self, time: float, number: int, host: str, source: Endpoint, to: Endpoint, data: bytes
    ) -> None:
        size = wire_size(data, to)
        counts = self.statistics[host]
        counts.datagrams_received += 1
        counts.bytes_received += size
        self._append((time, DELIVERED, number, host, source, to, size, ""))

    def dropped(
        self, time: float, number: int, where: str, source: Endpoint | None, to: Endpoint, why: Why
    ) -> None:
        self.drops[where, why] += 1
        self._append((time, DROPPED, number, where, source, to, 0, why.value))

    def note(self, time: float, where: str, text: str) -> None:
        """Records something that is no datagram, e.g. a router's reboot."""
        self._append((time, NOTE, 0, where, None, None, 0, text))

    def dropped_because(self, why: Why, where: str | None = None) -> int:
        """How many datagrams were dropped for this reason (at this place)."""
        return sum(
            count
            for (place, reason), count in self.drops.items()
            if reason is why and where in (None, place)
        )

    def digest(self) -> str:
        """SHA-256 over all records so far: the same run has the same digest."""
        total = self._hash.copy()
        for record in self.records:
            total.update(repr(record).encode())
        return total.hexdigest()

    def mermaid(self, limit: int = 100, since: float = 0.0) -> str:
        """A Mermaid sequence diagram of the first `limit` datagrams and notes from `since` on."""
        outcomes: defaultdict[int, list[Record]] = defaultdict(list)
        for record in self.records:
            if record[1] in (DELIVERED, DROPPED):
                outcomes[record[2]].append(record)
        shown = [r for r in self.records if r[1] in (SENT, NOTE) and r[0] >= since][:limit]
        names: dict[str, None] = {}
        lines: list[str] = []
        for time, what, number, where, _, to, size, note in shown:
            names[where] = None
            if what == NOTE:
                lines.append(f"Note over {_alias(where)}: {time:.3f} {note}")
                continue
            for end in outcomes[number]:
                names[end[3]] = None
                arrow = "->>" if end[1] == DELIVERED else "-x"
                text = f"{time:.3f} {note} {size} B" + (f" to {to} {end[7]}" if end[7] else "")
                lines.append(f"{_alias(where)}{arrow}{_alias(end[3])}: {text}")
        participants = [f"participant {_alias(name)} as {name}" for name in names]
        return "\n    ".join(["sequenceDiagram", *participants, *lines]) + "\n"

    def _append(self, record: Record) -> None:
        self.records.append(record)
        if len(self.records) >= 2 * self._limit:
            for old in self.records[: self._limit]:
                self._hash.update(repr(old).encode())
            del self.records[: self._limit]


def _alias(name: str) -> str:
    """A name Mermaid takes as an identifier."""
    return "".join(c if c.isalnum() else "_" for c in name)
