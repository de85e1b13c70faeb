"""How long the NAT remembers a mapping: measured on a socket of its own, never on the live path.

The server is asked to answer at once and once more after a silence (RFC 5780 §4.6 has a second
socket make the first one speak; here the server waits instead, so that filters have no say). If
the late answer arrives, the mapping outlived the silence.

    =========  ==========================================  =======================================
    state      meaning                                     left by
    =========  ==========================================  =======================================
    IDLE       nothing to do until ``restart``
    WARMING    two exchanges, 3 s apart: Linux grants its  both answered → SILENT; ``TRIES``
               long timeout only to flows of that age      unanswered → IDLE
    SILENT     the late answer is awaited                  it comes → the next step's WARMING;
                                                           it does not → the same step once more,
                                                           then half way back to what had held,
                                                           then IDLE
    =========  ==========================================  =======================================
"""

from __future__ import annotations

import enum

from tunnel.constants import KEEPALIVE_INTERVAL
from tunnel.core.machine import RandomBytes, draw_number
from tunnel.wire.rendezvous import Probe

STEPS = (12.0, 20.0, 35.0, 65.0, 100.0, 150.0)
"""Seconds of silence tried, in order: a little above what carriers use (10, 30, 60, 120)."""
SAFETY = 0.75
KEEPALIVE_FLOOR = 8.0
KEEPALIVE_CEILING = 110.0
WARM_AGE = 3.0
RETRY = 1.0
TRIES = 5
GRACE = 2.0
"""Seconds for which a late answer may be late."""
AGAIN_AFTER = 24 * 3600.0


class LifetimeState(enum.Enum):
    IDLE = "idle"
    WARMING = "warming"
    SILENT = "silent"


def keepalive_for(lifetime: float) -> float:
    """The interval that keeps a mapping of that lifetime, in seconds."""
    return min(max(SAFETY * lifetime, KEEPALIVE_FLOOR), KEEPALIVE_CEILING)


class LifetimeProbe:
    def __init__(self, random_bytes: RandomBytes) -> None:
        self.state = LifetimeState.IDLE
        self.lifetime: float | None = None
        """The longest silence survived, in seconds; None before the first result."""
        self.is_exact = False
        """Whether a longer silence was seen to fail."""
        self.keepalive_interval = KEEPALIVE_INTERVAL
        self._random_bytes = random_bytes
        self._step = 0
        self._silence = STEPS[0]
        self._failures = 0
        self._tries = 0
        self._warm_since: float | None = None
        self._transaction = 0
        self._is_acknowledged = False
        self._at: float | None = None
        self._probes: list[Probe] = []

    def restart(self, now: float) -> None:
        """Measure anew: at start, and when the network has changed."""
        self.lifetime, self.is_exact = None, False
        # Until the first steps are through, assume the shortest lifetime known in the field.
        self.keepalive_interval = keepalive_for(STEPS[0])
        self._step = self._failures = 0
        self._silence = STEPS[0]
        self._warm(now)

    def take_probes(self) -> list[Probe]:
        """What to send to the server now, from the second socket."""
        probes, self._probes = self._probes, []
        return probes

    def receive(self, transaction: int, now: float) -> bool:
        """An answer of the server; whether it was one to us."""
        if self.state is LifetimeState.IDLE or transaction != self._transaction:
            return False
        if self.state is LifetimeState.WARMING:
            self._tries = 0
            if self._warm_since is None:
                self._warm_since = now
                self._at = now + WARM_AGE
            elif now - self._warm_since >= WARM_AGE:
                self._fall_silent(now)
        elif not self._is_acknowledged:
            self._is_acknowledged = True
            self._at = now + self._silence + GRACE
        else:
            self._hold(now)
        return True

    def get_timer(self) -> float | None:
        return self._at

    def handle_timer(self, now: float) -> None:
        if self._at is None or now < self._at:
            return
        if self.state is LifetimeState.IDLE:
            self.restart(now)
        elif self.state is LifetimeState.WARMING:
            if self._tries >= TRIES:
                self._rest(now)  # The server is away: no measurement, and no verdict.
            else:
                self._probe(now, 0.0)
        elif not self._is_acknowledged:
            self._warm(now)  # The request itself was lost.
        else:
            self._fail(now)

    def _warm(self, now: float) -> None:
        self.state = LifetimeState.WARMING
        self._warm_since = None
        self._tries = 0
        self._probe(now, 0.0)

    def _probe(self, now: float, delay: float) -> None:
        self._transaction = draw_number(self._random_bytes)
        self._probes.append(Probe(self._transaction, round(delay * 1000)))
        self._tries += 1
        self._at = now + RETRY

    def _fall_silent(self, now: float) -> None:
        self.state = LifetimeState.SILENT
        self._is_acknowledged = False
        self._probe(now, self._silence)

    def _hold(self, now: float) -> None:
        self.lifetime = self._silence
        self.keepalive_interval = keepalive_for(self.lifetime)
        self._failures = 0
        self._step += 1
        if self._step < len(STEPS) and not self.is_exact:
            self._silence = STEPS[self._step]
            self._warm(now)
        else:
            self._rest(now)

    def _fail(self, now: float) -> None:
        self._failures += 1
        if self._failures < 2:
            self._warm(now)
            return
        is_refined, self.is_exact = self.is_exact, True
        if self.lifetime is None:
            self.keepalive_interval = KEEPALIVE_FLOOR
        if is_refined or self.lifetime is None:
            self._rest(now)
            return
        # The steps are coarse, and every second between two keep-alives saves traffic.
        self._failures = 0
        self._silence = (self.lifetime + self._silence) // 2
        self._warm(now)

    def _rest(self, now: float) -> None:
        self.state = LifetimeState.IDLE
        self._at = now + AGAIN_AFTER
