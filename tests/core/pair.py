"""Two traversals and the ways between them, in virtual time."""

from __future__ import annotations

import heapq

from tests.core.ends import seeded
from tunnel.core.path import RELAYED
from tunnel.core.traversal import (
    Traversal,
    TraversalState,
)
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import CallMe, Check, Confirm, Ping, Pong, parse_check
from tunnel.wire.endpoint import Endpoint

SEARCHING, DIRECT, DOUBT = TraversalState
A, B = Endpoint("203.0.113.1", 1), Endpoint("203.0.113.2", 2)
B_MOVED, B_LAN = Endpoint("203.0.113.2", 3), Endpoint("192.168.8.2", 2)
VICTIM = Endpoint("198.51.100.99", 99)
REFLEXIVE, HOST = CandidateKind.SERVER_REFLEXIVE, CandidateKind.HOST


class End:
    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.traversal = Traversal(seeded(seed))
        self.received: list[tuple[float, Endpoint, Check]] = []
        self.kept: list[float] = []
        """When anything was sent directly."""
        self.openers: list[tuple[float, Endpoint]] = []
        """When, where to."""
        self.sent: list[tuple[float, Endpoint, Check]] = []
        self.changes: list[tuple[float, str, str, str]] = []

    def receive(self, payload: bytes, source: Endpoint, now: float) -> None:
        traversal = self.traversal
        traversal.note_received(source, now, len(payload))
        if not payload:
            return
        check = parse_check(payload)
        self.received.append((now, source, check))
        if isinstance(check, Ping):
            traversal.receive_ping(check, source, now)
        elif isinstance(check, Pong):
            traversal.receive_pong(check, source, now)
        elif isinstance(check, Confirm):
            traversal.receive_confirm(check, source, now)
        elif isinstance(check, CallMe):
            traversal.receive_call(check, now)

    def kinds(self, to: Endpoint) -> list[str]:
        return [type(check).__name__ for _, target, check in self.sent if target == to]


class Pair:
    """Two ends and the ways between: what A sends to an endpoint arrives at B from another."""

    def __init__(self, delay: float = 0.02, relay: bool = True) -> None:
        self.now = 1000.0
        self.delay = delay
        self.a, self.b = End("a", 1), End("b", 2)
        self.ways: dict[tuple[str, Endpoint], Endpoint] = {("a", B): A, ("b", A): B}
        if relay:
            self.ways |= {("a", RELAYED): RELAYED, ("b", RELAYED): RELAYED}
            for end in (self.a, self.b):
                end.traversal.set_relay(True, self.now)
        self.a.traversal.set_local_candidates([Candidate(REFLEXIVE, A)])
        self.b.traversal.set_local_candidates([Candidate(REFLEXIVE, B)])
        self.a.traversal.set_candidates([Candidate(REFLEXIVE, B)])
        self.b.traversal.set_candidates([Candidate(REFLEXIVE, A)])
        self._queue: list[tuple[float, int, End, bytes, Endpoint]] = []
        self._count = 0

    def cut(self, *ways: tuple[str, Endpoint]) -> None:
        for way in ways:
            del self.ways[way]

    def cut_direct(self) -> None:
        self.ways = {way: source for way, source in self.ways.items() if source == RELAYED}

    def settle(self) -> None:
        for end, other in ((self.a, self.b), (self.b, self.a)):
            for endpoint, payload, *_ in end.traversal.take_checks():
                if payload is None:
                    end.openers.append((self.now, endpoint))  # It does not get there.
                    continue
                if endpoint != RELAYED:
                    end.kept.append(self.now)
                if payload:
                    end.sent.append((self.now, endpoint, parse_check(payload)))
                source = self.ways.get((end.name, endpoint))
                if source is not None:
                    self._count += 1
                    entry = (self.now + self.delay, self._count, other, payload, source)
                    heapq.heappush(self._queue, entry)
            for change in end.traversal.take_changes():
                end.changes.append((self.now, change.kind, change.after, change.cause))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        self.settle()
        while True:
            timers = [end.traversal.get_timer() for end in (self.a, self.b)]
            at = min((t for t in timers if t is not None), default=until + 1)
            if self._queue:
                at = min(at, self._queue[0][0])
            if at > until:
                break
            self.now = max(self.now, at)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, end, payload, source = heapq.heappop(self._queue)
                end.receive(payload, source, self.now)
                self.settle()
            for end in (self.a, self.b):
                end.traversal.handle_timer(self.now)
            self.settle()
        self.now = until

    def punch(self) -> None:
        for end in (self.a, self.b):
            end.traversal.punch(self.now, "introduction")

    def direct(self) -> Pair:
        """Both ends in DIRECT, and idle."""
        self.punch()
        self.run(30)
        assert self.states == (DIRECT, DIRECT)
        for end in (self.a, self.b):
            end.changes.clear()
            end.sent.clear()
            end.kept.clear()
            end.traversal.wishes.take_wants_introduction()
        return self

    @property
    def states(self) -> tuple[TraversalState, TraversalState]:
        return self.a.traversal.state, self.b.traversal.state

    def routes(self) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...]]:
        return self.a.traversal.routes(self.now), self.b.traversal.routes(self.now)
