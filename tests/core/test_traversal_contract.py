"""Whatever happens to a traversal, in any order."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.ends import seeded
from tests.core.pair import (
    B_LAN,
    B_MOVED,
    HOST,
    REFLEXIVE,
    SEARCHING,
    VICTIM,
    A,
    B,
    Pair,
)
from tunnel.core.path import RELAYED
from tunnel.core.path_table import MAX_PATHS
from tunnel.core.traversal import (
    Traversal,
)
from tunnel.wire.candidate import Candidate
from tunnel.wire.check import CallMe, Check, Confirm, Ping, Pong, parse_check
from tunnel.wire.endpoint import Endpoint

ENDPOINTS = [A, B, B_MOVED, B_LAN, VICTIM, RELAYED]
endpoints = st.sampled_from(ENDPOINTS)
steps = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 20, allow_subnormal=False)),
    st.tuples(st.just("timer"), st.none()),
    st.tuples(st.just("punch"), st.sampled_from([0.0, 0.0, 0.3, 5.0])),
    st.tuples(st.just("frame"), endpoints),
    st.tuples(st.just("ping"), endpoints),
    st.tuples(st.just("answer"), st.integers(0, 50)),
    st.tuples(st.just("answer elsewhere"), endpoints),
    st.tuples(st.just("confirm"), st.integers(0, 50)),
    st.tuples(st.just("call"), endpoints),
    st.tuples(st.just("moved"), endpoints),
    st.tuples(st.just("relay"), st.booleans()),
    st.tuples(st.just("active"), st.none()),
    st.tuples(st.just("ask"), endpoints),
    st.tuples(st.just("call peer"), st.none()),
    st.tuples(st.just("candidates"), st.lists(endpoints, max_size=3)),
    st.tuples(st.just("forget"), st.none()),
)


class Fate:
    """Does to one traversal what `steps` say, and looks at the contract after each."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.traversal = Traversal(seeded(3))
        self.pings: list[tuple[Endpoint, int]] = []
        self.replies: list[tuple[Endpoint, int]] = []

    def step(self, what: str, value: object) -> None:
        traversal, now = self.traversal, self.now
        if what == "wait":
            self.wait(float(value))  # type: ignore[arg-type]
        elif what == "timer":
            timer = traversal.get_timer()
            if timer is not None:
                self.wait(max(0.0, timer - now))
        elif what == "punch":
            traversal.punch(now, "introduction", float(value))  # type: ignore[arg-type]
        elif what == "frame":
            traversal.note_received(value, now, 50)  # type: ignore[arg-type]
        elif what == "ping":
            traversal.note_received(value, now, 50)  # type: ignore[arg-type]
            traversal.receive_ping(Ping(7), value, now)  # type: ignore[arg-type]
        elif what == "answer" and self.pings:
            endpoint, transaction = self.pings[-1 - int(value) % len(self.pings)]  # type: ignore[call-overload]
            traversal.note_received(endpoint, now, 50)
            traversal.receive_pong(Pong(transaction, 8, A), endpoint, now)
        elif what == "answer elsewhere" and self.pings:
            traversal.note_received(value, now, 50)  # type: ignore[arg-type]
            traversal.receive_pong(Pong(self.pings[-1][1], 8, A), value, now)  # type: ignore[arg-type]
        elif what == "confirm" and self.replies:
            endpoint, reply = self.replies[-1 - int(value) % len(self.replies)]  # type: ignore[call-overload]
            traversal.note_received(endpoint, now, 50)
            traversal.receive_confirm(Confirm(reply), endpoint, now)
        elif what == "call":
            traversal.receive_call(CallMe(50, (Candidate(HOST, value),)), now)  # type: ignore[arg-type]
        elif what == "moved" and value != RELAYED:
            traversal.note_moved(Candidate(REFLEXIVE, value), now)  # type: ignore[arg-type]
        elif what == "relay":
            traversal.set_relay(bool(value), now)
        elif what == "active":
            traversal.note_activity(now)
        elif what == "ask":
            traversal.ask(value, now)  # type: ignore[arg-type]
        elif what == "call peer":
            traversal.call_peer(now)
            traversal.ping_relay(now)
        elif what == "candidates":
            found = [Candidate(HOST, e) for e in value if e != RELAYED]  # type: ignore[attr-defined]
            traversal.set_candidates(found)
            traversal.set_local_candidates(found)
        elif what == "forget":
            traversal.forget_paths()
        self.look()

    def wait(self, seconds: float) -> None:
        """As a driver does: the timer is handled when it is due, not later."""
        until = self.now + seconds
        handled = 0
        while (timer := self.traversal.get_timer()) is not None and timer <= until:
            self.now = max(self.now, timer)
            self.traversal.handle_timer(self.now)
            following = self.traversal.get_timer()
            assert following is None or following > self.now, "it must not spin"
            self.look()
            handled += 1
            assert handled < 20 * (seconds + 10)
        self.now = until

    def look(self) -> None:
        traversal, now = self.traversal, self.now
        self.collect()
        # get_timer only reads.
        timer = traversal.get_timer()
        assert traversal.get_timer() == timer
        # Early is harmless.
        if timer is not None and timer > now:
            state, routes = traversal.state, traversal.routes(now)
            traversal.handle_timer(now)
            assert traversal.take_checks() == []
            assert traversal.take_changes() == []
            assert (traversal.state, traversal.routes(now)) == (state, routes)
            again = traversal.get_timer()
            assert again is not None
            assert again <= timer
        # Twice is harmless.
        if timer is not None and timer <= now:
            traversal.handle_timer(now)
            self.collect()
            traversal.handle_timer(now)
            assert traversal.take_checks() == []
            assert traversal.take_changes() == []
        assert (traversal.best is None) == (traversal.state is SEARCHING)
        routes = traversal.routes(now)
        assert len(routes) <= 2
        assert len(set(routes)) == len(routes)
        assert (RELAYED in routes) <= (traversal.relay is not None)
        if traversal.best is not None:
            assert routes[0] == traversal.best.endpoint
            assert traversal.best.proven_at is not None
        assert len(traversal.paths()) <= MAX_PATHS
        for path in traversal.paths():
            assert (path.proven_at is None) == (path.rtt is None)

    def collect(self) -> None:
        for endpoint, payload, *_ in self.traversal.take_checks():
            if payload is None:
                continue
            check = parse_check(payload) if payload else None
            if isinstance(check, Ping):
                self.pings.append((endpoint, check.transaction))
            elif isinstance(check, Pong):
                self.replies.append((endpoint, check.reply))
        for change in self.traversal.take_changes():
            assert change.kind in ("changed", "doubted", "repaired")
            assert change.seconds >= 0


TRAFFIC_ENDS: list[tuple[str, object]] = [
    ("frame", A),
    ("active", None),
    ("ask", A),
    ("wait", 1.0),
    ("answer", 0),
]
"""An echo is answered when traffic has just ended, and the next was due while it flowed."""


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40))
@example(TRAFFIC_ENDS)
def test_contract_over_any_operations(fate: list[tuple[str, object]]) -> None:
    world = Fate()
    for what, value in fate:
        world.step(what, value)
    world.wait(120)


def test_same_seed_same_checks() -> None:
    def run() -> list[tuple[float, Endpoint, Check]]:
        pair = Pair().direct()
        pair.cut_direct()
        pair.a.traversal.note_activity(pair.now)
        pair.run(60)
        return pair.a.sent

    assert run() == run()
