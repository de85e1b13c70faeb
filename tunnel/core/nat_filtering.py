"""The filtering behaviour of our NAT (RFC 4787 section 5): who may answer a datagram of ours.

From a port of its own, from which nothing was sent before, the server's first port is asked for
answers from three places (the reasoning of RFC 5780 section 4.4, inside our session with it):

    ==============================  ==========================================================
    answers that arrive             behaviour
    ==============================  ==========================================================
    from another address            endpoint-independent
    from the other port only        address-dependent; if the server has one address only, at
                                    least that
    from where we sent to only      address-and-port-dependent
    none                            what was known before, if anything: the server is away, or
                                    does not know the question
    ==============================  ==========================================================

    =========  ====================================  ==========================================
    state      meaning                               left by
    =========  ====================================  ==========================================
    idle       nothing asked, or the answer known    ``start`` → asking
    asking     answers are awaited                   an answer from the farthest place there is,
                                                     or ``TRIES`` rounds → idle
    =========  ====================================  ==========================================
"""

from __future__ import annotations

from tunnel.core.machine import RandomBytes, draw_number
from tunnel.core.nat_mapping import ADDRESS, ADDRESS_AND_PORT, INDEPENDENT
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import AnswerFrom, Echoed, Probe

PLACES = (AnswerFrom.SAME, AnswerFrom.OTHER_PORT, AnswerFrom.OTHER_ADDRESS)
TRIES = 4
"""Rounds: with 10 % of datagrams lost, one verdict in 150 is too strict until the next one."""
PATIENCE = 1.0
"""Seconds for the answers of a round."""


class FilteringDiscovery:
    def __init__(self, random_bytes: RandomBytes) -> None:
        self.behaviour: str | None = None
        self.evidence: tuple[str, ...] = ()
        self.observed: Endpoint | None = None
        """Where the server sees the socket that asks."""
        self._random_bytes = random_bytes
        self._server: Endpoint | None = None
        self._has_alternate = False
        self._asked: dict[int, AnswerFrom] = {}
        """Transaction → from where the answer was asked for."""
        self._heard: dict[AnswerFrom, Endpoint] = {}
        self._tries = 0
        self._at: float | None = None
        self._probes: list[Probe] = []

    @property
    def is_running(self) -> bool:
        return self._at is not None

    @property
    def server(self) -> Endpoint | None:
        """Whom it asks."""
        return self._server

    def start(self, server: Endpoint, now: float, *, has_alternate: bool) -> None:
        """Ask `server`, which has a second address or not. What was known stands until then."""
        self._server, self._has_alternate = server, has_alternate
        self._asked, self._heard, self.observed = {}, {}, None
        self._tries = 0
        self._ask(now)

    def stop(self) -> None:
        """Forget what is known."""
        self.behaviour, self.evidence, self.observed = None, (), None
        self._asked, self._at = {}, None
        self._probes.clear()

    def take_probes(self) -> list[Probe]:
        """What to send to the server now, from the socket of its own."""
        probes, self._probes = self._probes, []
        return probes

    def receive(self, message: Echoed, source: Endpoint, now: float) -> bool:
        """An answer of the server from `source`; whether it was one to us."""
        place = self._asked.get(message.transaction)
        if place is None:
            return False
        assert self._server is not None
        is_address_same = source.host == self._server.host
        is_from_there = {
            AnswerFrom.SAME: source == self._server,
            AnswerFrom.OTHER_PORT: is_address_same and source.port != self._server.port,
            AnswerFrom.OTHER_ADDRESS: not is_address_same,
        }
        # A server that does not know the question answers from where it was asked.
        if is_from_there[place]:
            self._heard[place] = source
            self.observed = message.observed
        if self._at is not None and AnswerFrom.SAME in self._heard and self._is_decided():
            self._conclude()
        return True

    def get_timer(self) -> float | None:
        return self._at

    def handle_timer(self, now: float) -> None:
        if self._at is None or now < self._at:
            return
        if self._tries < TRIES:
            self._ask(now)
        else:
            self._conclude()

    def _is_decided(self) -> bool:
        farthest = AnswerFrom.OTHER_ADDRESS if self._has_alternate else AnswerFrom.OTHER_PORT
        return farthest in self._heard

    def _ask(self, now: float) -> None:
        places = [place for place in PLACES if place not in self._heard]
        if not self._has_alternate:
            places = [place for place in places if place is not AnswerFrom.OTHER_ADDRESS]
        for place in places:
            transaction = draw_number(self._random_bytes)
            self._asked[transaction] = place
            self._probes.append(Probe(transaction, 0, place))
        self._tries += 1
        self._at = now + PATIENCE

    def _conclude(self) -> None:
        self._at = None
        heard = self._heard
        evidence = tuple(f"an answer came from {source}" for source in heard.values())
        if AnswerFrom.OTHER_ADDRESS in heard:
            self.behaviour = INDEPENDENT
        elif AnswerFrom.OTHER_PORT in heard:
            self.behaviour = ADDRESS
            if not self._has_alternate:
                evidence += (
                    "only a server with a second address could tell whether others come in",
                )
        elif AnswerFrom.SAME in heard:
            self.behaviour = ADDRESS_AND_PORT
            evidence += (f"no answer came from any other endpoint in {TRIES} rounds",)
        else:
            return
        self.evidence = evidence
