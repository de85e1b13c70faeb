"""Samples of our mappings: probes to the server's two ports, from sockets nothing else has used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunnel.core.machine import RandomBytes, draw_number
from tunnel.core.prediction import Sample
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import Probe

TRIES = 3
FIRST_RETRY = 0.25


class Asked(NamedTuple):
    probe: Probe
    endpoint: Endpoint
    local: int


class Sampler:
    """One round of samples; done when all have come back, or after TRIES."""

    def __init__(
        self,
        locals_: Sequence[int],
        ports: Sequence[Endpoint],
        rtt: float | None,
        random_bytes: RandomBytes,
        now: float,
    ) -> None:
        # In the order in which a NAT that counts makes the mappings.
        self._asked = [
            Asked(Probe(draw_number(random_bytes), 0), endpoint, local)
            for local in locals_
            for endpoint in ports
        ]
        self._observed: dict[int, Endpoint] = {}
        self._patience = max(FIRST_RETRY, 2 * (rtt or 0.0))
        self._tries = 0
        self._next_at = now

    def receive(self, transaction: int, observed: Endpoint) -> bool:
        """The server's answer; whether it was to one of these probes."""
        if not any(asked.probe.transaction == transaction for asked in self._asked):
            return False
        self._observed.setdefault(transaction, observed)
        return True

    @property
    def is_complete(self) -> bool:
        return len(self._observed) == len(self._asked)

    def is_done(self, now: float) -> bool:
        return self.is_complete or (self._tries >= TRIES and now >= self._next_at)

    def samples(self) -> list[Sample]:
        """In the order of sending. Empty if more than half of them are missing."""
        found = [
            Sample(asked.local, self._observed[asked.probe.transaction])
            for asked in self._asked
            if asked.probe.transaction in self._observed
        ]
        return found if 2 * len(found) > len(self._asked) else []

    def get_timer(self) -> float:
        return self._next_at

    def take_due(self, now: float) -> list[Asked]:
        """Probes to send now: all of them, then those unanswered."""
        if now < self._next_at or self._tries >= TRIES:
            return []
        self._tries += 1
        self._next_at = now + self._patience
        return [asked for asked in self._asked if asked.probe.transaction not in self._observed]
