"""From what both ends of a stream noted to how bad the outage was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

LATE = 0.2
"""Seconds under way after which a packet counts as late."""


@dataclass(frozen=True, slots=True)
class Log:
    """What one end noted; see `stream`. Times are seconds."""

    sent: Sequence[tuple[int, float]]
    received: Sequence[tuple[int, float]]
    errors: dict[str, int]

    @classmethod
    def read(cls, file: Path) -> Log:
        seen = json.loads(file.read_text())
        sent, received = (
            [(number, at / 1e9) for number, at in seen[key]] for key in ("sent", "received")
        )
        return cls(sent, received, seen["errors"])


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the packets sent in a window of time, in one direction or in the worse of both."""

    sent: int
    lost: int
    """Never arrived."""
    gap: float
    """Seconds, the longest between two arrivals. The window's ends count as arrivals: a direction
    that never recovers has a gap up to the end."""
    late: int
    duplicates: int
    """Arrivals of a packet that had arrived."""
    delay: float
    """Seconds under way, of the slowest that arrived."""
    blind_at_end: float
    """Seconds between the last arrival and the window's end: much if it never recovered."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(sender: Log, receiver: Log, begin: float, end: float) -> Figures:
    """One direction. Packets sent before `begin` and after `end` don't count, nor do their
    arrivals; those sent before `end` may arrive later."""
    sent = {number: at for number, at in sender.sent if begin <= at <= end}
    arrived: dict[int, float] = {}
    duplicates = 0
    for number, at in receiver.received:
        if number in arrived:
            duplicates += 1
        elif number in sent:
            arrived[number] = at
    delays = [at - sent[number] for number, at in arrived.items()]
    times = [begin, *sorted(at for at in arrived.values() if at <= end), end]
    return Figures(
        sent=len(sent),
        lost=len(sent) - len(arrived),
        gap=max(later - earlier for earlier, later in pairwise(times)),
        late=sum(delay > LATE for delay in delays),
        duplicates=duplicates,
        delay=max(delays, default=0.0),
        blind_at_end=end - times[-2],
    )


def worse(one: Figures, other: Figures) -> Figures:
    """The greater of both in every figure."""
    pairs = zip(one.as_json().values(), other.as_json().values(), strict=True)
    return Figures(*(max(pair) for pair in pairs))
