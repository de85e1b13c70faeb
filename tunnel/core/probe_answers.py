"""What the server answers to probes: where it sees a socket, now and after a silence."""

from __future__ import annotations

from tunnel.core.machine import WallClock, is_stream
from tunnel.core.registrant import Registrant
from tunnel.core.vantage import Vantage
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.wire.check import UNOBSERVED
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import AnswerFrom, Echoed, Probe

MAX_PROBE_DELAY = 180.0
MAX_PROBES = 4
"""Late answers that one node may have outstanding."""


def echoed(transaction: int, source: Endpoint, local: int) -> Echoed:
    """Where we see the sender: over UDP, by one of two ports; a stream shows no mapping."""
    if is_stream(local):
        return Echoed(transaction, 0, UNOBSERVED)
    return Echoed(transaction, local % 2, source)


def wall_microseconds(wall_clock: WallClock) -> int:
    return max(0, int(wall_clock() * 1e6))


class ProbeAnswers:
    def __init__(self, vantage: Vantage, wall_clock: WallClock) -> None:
        self._vantage = vantage
        self._wall_clock = wall_clock

    def answer(
        self,
        registrant: Registrant,
        probe: Probe,
        size: int,
        source: Endpoint,
        local: int,
        now: float,
    ) -> list[tuple[bytes, int]]:
        """What to send now to where the probe came from, and by which of our sockets; a late
        answer is left with the registrant. `size`: of the probe. Raises Malformed,
        AuthenticationFailed."""
        if is_stream(local):
            raise Malformed("probe on a stream")
        late = echoed(probe.transaction, source, local)
        at_once = late._replace(wall_time=wall_microseconds(self._wall_clock))
        if size < len(at_once.pack()):
            at_once = late  # No answer is longer than the question.
        is_later = probe.answer_from == AnswerFrom.SAME_LATER
        if probe.answer_from != AnswerFrom.SAME and not is_later:
            answerer = self._vantage.answerer(local, probe.answer_from)
            if answerer is None:
                raise Malformed("probe: no such socket to answer from")
            if not registrant.vantage_limit.take(now):
                raise AuthenticationFailed("probe: over the rate limit")
            return [(at_once.pack(), answerer)]
        delay = probe.delay / 1000
        if 0 < delay <= MAX_PROBE_DELAY and len(registrant.late_answers) < MAX_PROBES:
            registrant.late_answers.append((now + delay, late.pack(), source, local))
        return [] if is_later else [(at_once.pack(), local)]
