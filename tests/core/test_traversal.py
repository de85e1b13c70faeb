"""Traversals in virtual time; the transitions are those of the table in traversal.py."""

from __future__ import annotations

import heapq
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import seeded
from tunnel.constants import KEEPALIVE_INTERVAL, MAX_UNANSWERED_CHECKS
from tunnel.core.path import DOUBT_FLOOR, ECHO_EVERY, LATE_FLOOR, RELAYED
from tunnel.core.path_table import FORGET_PATH_AFTER, MAX_PATHS
from tunnel.core.punch_schedule import PUNCH_ROUNDS, RETRY_DELAYS
from tunnel.core.traversal import (
    LOST_AFTER,
    RELAY_ECHO_INTERVAL,
    Traversal,
    TraversalState,
)
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import UNOBSERVED, CallMe, Check, Confirm, Ping, Pong, parse_check
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
            for endpoint, payload in end.traversal.take_checks():
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
            end.traversal.take_wants_introduction()
        return self

    @property
    def states(self) -> tuple[TraversalState, TraversalState]:
        return self.a.traversal.state, self.b.traversal.state

    def routes(self) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...]]:
        return self.a.traversal.routes(self.now), self.b.traversal.routes(self.now)


# searching → direct


def test_relay_first_then_direct() -> None:
    pair = Pair()
    assert pair.states == (SEARCHING, SEARCHING)
    assert pair.routes() == ((RELAYED,), (RELAYED,))
    pair.punch()
    pair.run(0.1)
    assert pair.states == (DIRECT, DIRECT)
    assert pair.routes() == ((B,), (A,))
    assert [change[1:] for change in pair.a.changes] == [
        ("changed", f"server-reflexive {B}", "introduction")
    ]


def test_without_relay_and_path_there_is_no_way() -> None:
    assert Pair(relay=False).routes() == ((), ())


def test_three_messages_prove_a_path_to_both_ends() -> None:
    """Only A punches: ping, pong, confirm."""
    pair = Pair(delay=0.02)
    pair.b.traversal.set_candidates([])
    pair.a.traversal.punch(pair.now, "introduction")
    # A's next pings come at 20 ms and 60 ms; what follows is about the first.
    pair.run(0.021)
    assert pair.states == (SEARCHING, SEARCHING), "one direction is shown to B, none to A"
    pair.run(0.02)
    assert pair.states == (DIRECT, SEARCHING), "the pong shows A both"
    pair.run(0.02)
    assert pair.states == (DIRECT, DIRECT), "the confirm shows B both"
    assert pair.b.kinds(A)[0] == "Pong"
    assert "Confirm" in pair.a.kinds(B)
    best = pair.b.traversal.best
    assert best is not None
    assert best.rtt == pytest.approx(0.04)
    assert best.kind is CandidateKind.PEER_REFLEXIVE


def test_one_sided_success_is_none() -> None:
    pair = Pair()
    pair.cut(("b", A))
    pair.punch()
    pair.run(60)
    assert pair.states == (SEARCHING, SEARCHING)
    assert any(isinstance(check, Ping) for _, source, check in pair.b.received if source == A)
    assert pair.routes() == ((RELAYED,), (RELAYED,))


def test_a_pong_by_the_relay_proves_no_direct_path() -> None:
    pair = Pair()
    traversal = pair.a.traversal
    traversal.punch(pair.now, "introduction")
    ((_, payload),) = traversal.take_checks()
    ping = parse_check(payload)
    assert isinstance(ping, Ping)
    traversal.receive_pong(Pong(ping.transaction, 9, UNOBSERVED), RELAYED, pair.now + 0.02)
    assert traversal.state is SEARCHING
    assert traversal.take_checks() == [], "and no confirm"
    assert not traversal.relay.is_alive(pair.now)


def test_a_direct_pong_does_not_prove_the_relay() -> None:
    pair = Pair()
    traversal = pair.a.traversal
    traversal.ping_relay(pair.now)
    ((endpoint, payload),) = traversal.take_checks()
    ping = parse_check(payload)
    assert endpoint == RELAYED
    assert isinstance(ping, Ping)
    traversal.note_received(B, pair.now)
    traversal.receive_pong(Pong(ping.transaction, 9, A), B, pair.now + 0.02)
    assert not traversal.relay.is_alive(pair.now + 0.02)
    assert traversal.state is SEARCHING
    traversal.receive_pong(Pong(ping.transaction, 9, UNOBSERVED), RELAYED, pair.now + 0.03)
    assert traversal.relay.is_alive(pair.now + 0.03)
    assert traversal.state is SEARCHING


@pytest.mark.parametrize("source", [B_MOVED, RELAYED])
def test_a_confirm_by_another_way_than_the_pong_proves_nothing(source: Endpoint) -> None:
    pair = Pair()
    traversal = pair.a.traversal
    traversal.note_received(B, pair.now)
    traversal.note_received(source, pair.now)
    traversal.receive_ping(Ping(5), B, pair.now)
    ((_, payload),) = traversal.take_checks()
    pong = parse_check(payload)
    assert pong == Pong(5, pong.reply, B)  # type: ignore[union-attr]
    assert isinstance(pong, Pong)
    traversal.receive_confirm(Confirm(pong.reply), source, pair.now + 0.02)
    assert traversal.state is SEARCHING
    traversal.receive_confirm(Confirm(pong.reply + 1), B, pair.now + 0.02)
    assert traversal.state is SEARCHING
    traversal.receive_confirm(Confirm(pong.reply), B, pair.now + 0.02)
    assert traversal.state is DIRECT


def test_a_pong_nobody_asked_for_or_twice() -> None:
    pair = Pair()
    traversal = pair.a.traversal
    traversal.note_received(B, pair.now)
    traversal.receive_pong(Pong(1, 2, A), B, pair.now)
    assert traversal.state is SEARCHING
    traversal.punch(pair.now, "introduction")
    ping = parse_check(traversal.take_checks()[0][1])
    assert isinstance(ping, Ping)
    for _ in range(2):
        traversal.receive_pong(Pong(ping.transaction, 2, A), B, pair.now + 0.05)
    assert len(traversal.take_checks()) == 1, "one confirm"


def test_a_pong_from_where_a_varying_mapping_answers() -> None:
    """The ping goes to one endpoint of the peer, its answer comes from another: the way is good."""
    pair = Pair()
    pair.ways["b", A] = B_MOVED
    pair.punch()
    pair.run(1)
    assert pair.states == (DIRECT, DIRECT)


def test_the_relay_answers_pings_with_no_endpoint() -> None:
    pair = Pair()
    pair.a.traversal.ping_relay(pair.now)
    pair.run(0.1)
    assert pair.a.traversal.relay.is_alive(pair.now)
    assert pair.b.traversal.relay.is_alive(pair.now)
    pongs = [check for _, _, check in pair.a.received if isinstance(check, Pong)]
    assert [pong.observed for pong in pongs] == [UNOBSERVED]


def test_what_comes_through_no_relay_of_ours_is_ignored() -> None:
    traversal = Pair(relay=False).a.traversal
    traversal.note_received(RELAYED, 1000.0)
    traversal.receive_ping(Ping(1), RELAYED, 1000.0)
    assert traversal.take_checks() == []
    assert traversal.paths() == []
    assert traversal.ask(RELAYED, 1000.0) is None


# Punching


def test_rounds_and_a_common_start() -> None:
    pair = Pair()
    pair.cut_direct()
    pair.a.traversal.punch(pair.now, "introduction", delay=0.5)
    pair.run(4)
    times = [at - 1000.0 for at, to, _ in pair.a.sent if to == B]
    assert times == pytest.approx([0.5 + offset for offset in PUNCH_ROUNDS])


def test_retries_become_gentler_and_never_end() -> None:
    pair = Pair(relay=False)
    pair.cut_direct()
    pair.a.traversal.punch(pair.now, "introduction")
    pair.run(3600)
    times = [at for at, to, _ in pair.a.sent if to == B]
    starts = [times[0], *(later for earlier, later in pairwise(times) if later - earlier > 1)]
    pauses = [later - earlier - PUNCH_ROUNDS[-1] for earlier, later in pairwise(starts)]
    expected = [*RETRY_DELAYS, *[RETRY_DELAYS[-1]] * len(pauses)][: len(pauses)]
    assert pauses == pytest.approx(expected)
    assert len(pauses) > 20
    assert pair.a.traversal.take_wants_introduction()
    assert not pair.a.traversal.take_wants_introduction()


def test_unanswered_checks_are_bounded_per_endpoint() -> None:
    pair = Pair()
    traversal = pair.a.traversal
    traversal.set_candidates([Candidate(REFLEXIVE, VICTIM)])
    traversal.punch(pair.now, "introduction")
    pair.run(PUNCH_ROUNDS[-1])
    assert len(pair.a.kinds(VICTIM)) == len(PUNCH_ROUNDS) <= MAX_UNANSWERED_CHECKS


def test_nobody_aims_us_at_a_victim_by_calling_again_and_again() -> None:
    pair = Pair()
    victims = [Candidate(REFLEXIVE, VICTIM)]
    for _ in range(1000):
        pair.a.traversal.receive_call(CallMe(0, tuple(victims)), pair.now)
        pair.run(0.01)
    assert len(pair.a.kinds(VICTIM)) <= 11 * MAX_UNANSWERED_CHECKS, "10 seconds of it"


def test_nobody_aims_us_at_ever_more_victims() -> None:
    pair = Pair()
    for number in range(500):
        victim = Candidate(REFLEXIVE, Endpoint(VICTIM.host, 1000 + number))
        pair.a.traversal.receive_call(CallMe(0, (victim,)), pair.now)
        pair.a.traversal.note_moved(victim, pair.now)
        pair.run(0.01)
    assert len(pair.a.traversal.path_table.candidates) <= MAX_PATHS
    assert len(pair.a.traversal.paths()) <= MAX_PATHS
    pair.a.sent.clear()
    pair.a.traversal.punch(pair.now, "introduction")
    pair.settle()
    assert len(pair.a.sent) <= MAX_PATHS


def test_paths_are_bounded_and_the_best_stays() -> None:
    pair = Pair().direct()
    for port in range(1000, 1500):
        pair.a.traversal.note_received(Endpoint(VICTIM.host, port), pair.now)
    assert len(pair.a.traversal.paths()) == MAX_PATHS
    assert pair.a.traversal.best in pair.a.traversal.paths()
    pair.run(FORGET_PATH_AFTER + 30)
    assert [path.endpoint for path in pair.a.traversal.paths()] == [B]


def test_call_peer() -> None:
    """Over the relay: my candidates; it starts when the message has arrived, I half a round trip
    later."""
    pair = Pair()
    pair.b.traversal.set_candidates([])
    pair.a.traversal.ping_relay(pair.now)
    pair.run(0.1)
    pair.a.traversal.call_peer(pair.now)
    pair.run(0.1)
    (call,) = (check for _, _, check in pair.b.received if isinstance(check, CallMe))
    assert call == CallMe(0, (Candidate(REFLEXIVE, A),))
    assert pair.states == (DIRECT, DIRECT)
    first = {
        end.name: min(at for at, to, _ in end.sent if to != RELAYED) for end in (pair.a, pair.b)
    }
    assert first["a"] == pytest.approx(first["b"])


def test_call_peer_without_relay_or_candidates_says_nothing() -> None:
    pair = Pair(relay=False)
    pair.a.traversal.call_peer(pair.now)
    assert pair.a.traversal.take_checks() == []


# direct


def test_idle_echoes_keep_the_mapping() -> None:
    pair = Pair().direct()
    pair.run(900)
    interval = pair.a.traversal.keepalive_interval
    for end in (pair.a, pair.b):
        times = [pair.now - 900, *end.kept, pair.now]
        assert max(later - earlier for earlier, later in pairwise(times)) <= interval
        assert len(end.kept) <= 1.2 * 900 / (0.9 * interval) * 2
    pings = [at for end in (pair.a, pair.b) for at, _, c in end.sent if isinstance(c, Ping)]
    expected = 900 / interval / ECHO_EVERY
    assert expected * 0.8 <= len(pings) <= expected * 2.5, "an echo now and then, of either end"
    assert pair.states == (DIRECT, DIRECT)
    assert pair.a.changes == pair.b.changes == []


def test_echoes_while_traffic_flows() -> None:
    pair = Pair().direct()
    for _ in range(50):
        pair.a.traversal.note_activity(pair.now)
        pair.run(0.1)
    pings = [check for _, _, check in pair.a.sent if isinstance(check, Ping)]
    assert 40 <= len(pings) <= 55


def test_ask_is_answered_with_its_time() -> None:
    pair = Pair(delay=0.05).direct()
    transaction = pair.a.traversal.ask(B, pair.now)
    pair.run(1)
    assert pair.a.traversal.take_answers() == [(transaction, pytest.approx(0.1), B)]
    assert pair.a.traversal.take_answers() == []
    assert pair.a.traversal.ask(VICTIM, pair.now) is None


def test_a_clearly_better_path_is_taken() -> None:
    pair = Pair(delay=0.05).direct()
    lan = Endpoint("192.168.8.1", 1)
    pair.ways |= {("a", B_LAN): lan, ("b", lan): B_LAN}
    pair.delay = 0.001
    for end, endpoint in ((pair.a, B_LAN), (pair.b, lan)):
        end.traversal.add_candidate(Candidate(HOST, endpoint))
    pair.punch()
    pair.run(1)
    assert pair.routes() == ((B_LAN,), (lan,))
    assert pair.a.changes[0][1:] == ("changed", f"host {B_LAN}", "faster")
    assert pair.states == (DIRECT, DIRECT)


# direct → doubt → direct


def test_doubt_duplicates_at_once() -> None:
    pair = Pair().direct()
    pair.cut_direct()
    pair.a.traversal.note_activity(pair.now)
    pair.run(0.02)
    assert pair.states[0] is DIRECT
    pair.run(DOUBT_FLOOR + 0.1)
    assert pair.states[0] is DOUBT
    assert pair.routes()[0] == (B, RELAYED)
    assert pair.a.changes[0][1] == "doubted"
    assert pair.a.traversal.take_wants_introduction()
    assert "CallMe" in pair.a.kinds(RELAYED)
    assert pair.b.traversal.punches > 1, "the peer punches too"


def test_a_late_echo_is_a_precaution_and_no_change() -> None:
    """Copies by the relay, what went before goes again, and the server is shown where we are."""
    pair = Pair().direct()
    pair.cut(("b", A))
    traversal = pair.a.traversal
    traversal.note_activity(pair.now)
    traversal.echo_now(pair.now)
    pair.run(LATE_FLOOR + 0.01)
    assert pair.routes()[0] == (B, RELAYED)
    assert pair.states[0] is DIRECT
    assert traversal.take_resend_since() is not None
    assert traversal.take_wants_witness()
    assert not traversal.take_wants_witness()
    pair.ways["b", A] = B
    pair.run(0.1)
    assert pair.a.changes == []
    assert pair.routes()[0] == (B,)
    assert traversal.best.alarmed_at > pair.now - 0.2, "it was for nothing"


def test_without_a_relay_doubt_has_one_route() -> None:
    pair = Pair(relay=False).direct()
    pair.cut_direct()
    pair.a.traversal.note_activity(pair.now)
    pair.run(0.5)
    assert pair.states[0] is DOUBT
    assert pair.routes()[0] == (B,)


def test_repaired_on_the_same_path() -> None:
    pair = Pair().direct()
    ways = dict(pair.ways)
    pair.cut_direct()
    for end in (pair.a, pair.b):
        end.traversal.note_activity(pair.now)
    pair.run(2)
    assert pair.states == (DOUBT, DOUBT)
    pair.ways = ways
    pair.run(1)
    assert pair.states == (DIRECT, DIRECT)
    assert pair.routes() == ((B,), (A,))
    assert [kind for _, kind, _, _ in pair.a.changes] == ["doubted", "repaired"]


def test_repaired_on_another_path() -> None:
    pair = Pair().direct()
    pair.ways = {
        ("a", B_MOVED): A,
        ("b", A): B_MOVED,
        ("a", RELAYED): RELAYED,
        ("b", RELAYED): RELAYED,
    }
    for end in (pair.a, pair.b):
        end.traversal.note_activity(pair.now)
    pair.run(2)
    assert pair.states == (DIRECT, DIRECT)
    assert pair.routes() == ((B_MOVED,), (A,))
    assert pair.a.changes[-1][1:3] == ("changed", f"peer-reflexive {B_MOVED}")


def test_the_lateness_of_a_left_path_is_no_false_alarm_of_the_next() -> None:
    """Otherwise the new path would do without the precaution for a minute."""
    pair = Pair().direct()
    pair.cut_direct()
    for end in (pair.a, pair.b):
        end.traversal.note_activity(pair.now)
    pair.run(0.6)
    assert pair.states == (DOUBT, DOUBT)
    pair.ways |= {("a", B_MOVED): A, ("b", A): B_MOVED}
    pair.a.traversal.note_moved(Candidate(REFLEXIVE, B_MOVED), pair.now)
    for _ in range(10):
        pair.a.traversal.note_activity(pair.now)
        pair.run(0.1)
    assert pair.routes()[0] == (B_MOVED,)
    assert pair.a.traversal.best.alarmed_at == float("-inf")


def test_lost_after_ten_seconds_of_doubt() -> None:
    pair = Pair().direct()
    pair.cut_direct()
    pair.a.traversal.note_activity(pair.now)
    pair.run(LOST_AFTER)
    assert pair.states[0] is DOUBT
    assert pair.routes()[0] == (B, RELAYED)
    pair.run(0.5)
    assert pair.states[0] is SEARCHING
    assert pair.routes()[0] == (RELAYED,)
    at, kind, after, cause = pair.a.changes[-1]
    assert (kind, after, cause) == ("changed", "relay", "no echo for 10 s")
    doubted = pair.a.changes[0][0]
    assert at - doubted == pytest.approx(LOST_AFTER)


def test_lost_and_found_again() -> None:
    pair = Pair().direct()
    ways = dict(pair.ways)
    pair.cut_direct()
    pair.a.traversal.note_activity(pair.now)
    pair.run(300)
    assert pair.states == (SEARCHING, SEARCHING)
    pair.ways = ways
    pair.run(KEEPALIVE_INTERVAL + 1)
    assert pair.states == (DIRECT, DIRECT)
    assert pair.a.changes[-1][3] in ("it answers again", "retry", "peer asked", "introduction")


def test_a_lost_path_is_found_at_once_while_traffic_flows() -> None:
    """By its own echo, long before the next punch."""
    pair = Pair().direct()
    ways = dict(pair.ways)
    pair.cut_direct()
    for second in range(120):
        pair.a.traversal.note_activity(pair.now)
        if second == 110:
            pair.ways = ways
        pair.run(1)
    assert pair.states == (DIRECT, DIRECT)
    asked = [c for _, to, c in pair.a.sent if to == B and isinstance(c, Ping)]
    assert len(asked) < 400, "gently"


def test_traffic_elsewhere_does_not_quell_doubt() -> None:
    """Liveness is per path: what arrives by the relay, or one way, proves nothing."""
    pair = Pair().direct()
    pair.cut(("a", B))
    for _ in range(20):
        pair.a.traversal.note_activity(pair.now)
        pair.a.traversal.note_received(RELAYED, pair.now)
        pair.a.traversal.note_received(B, pair.now)
        pair.run(0.05)
    assert pair.states[0] is DOUBT


def test_a_single_lost_echo_is_asked_again_before_doubt() -> None:
    pair = Pair().direct()
    interval = pair.a.traversal.keepalive_interval
    pair.cut(("b", A))
    while not any(isinstance(c, Ping) for _, _, c in pair.a.sent):
        pair.run(0.01)
        assert pair.now < 1000 + 40 + (ECHO_EVERY + 1) * interval
    pair.run(0.03)
    pair.ways["b", A] = B
    pair.run(1)
    assert pair.a.changes == []


# The peer moves


def test_the_peer_appears_elsewhere_while_its_old_path_works() -> None:
    pair = Pair().direct()
    del pair.ways["a", B]
    pair.ways |= {("b", A): B_MOVED, ("a", B_MOVED): A}
    pair.b.traversal.echo_now(pair.now)
    pair.run(0.021)
    assert pair.routes()[0] == (B, RELAYED), "duplicated while it is not decided"
    pair.run(0.2)
    assert pair.routes()[0] == (B_MOVED,)
    assert pair.states[0] is DIRECT
    assert ("changed", f"peer-reflexive {B_MOVED}", "peer moved") in [
        change[1:] for change in pair.a.changes
    ]


def test_a_frame_replayed_from_elsewhere_moves_nothing() -> None:
    """It was authentic, in the window and never seen here; but no echo comes from there."""
    pair = Pair().direct()
    pair.a.traversal.note_received(VICTIM, pair.now, 100)
    pair.run(5)
    assert pair.routes()[0] == (B,)
    assert pair.states[0] is DIRECT
    assert pair.a.kinds(VICTIM) == ["Ping"]


def test_no_more_goes_to_an_unproven_endpoint_than_came_from_it() -> None:
    pair = Pair().direct()
    traversal = pair.a.traversal
    traversal.note_received(VICTIM, pair.now, 100)
    assert traversal.take_routes(60, pair.now) == (B, RELAYED, VICTIM)
    assert traversal.take_routes(60, pair.now) == (B, RELAYED)
    assert traversal.take_routes(40, pair.now) == (B, RELAYED, VICTIM)
    assert traversal.take_routes(1, pair.now) == (B, RELAYED)
    pair.run(1.1)
    assert traversal.take_routes(1, pair.now) == (B,)


def test_the_server_saw_it_move() -> None:
    pair = Pair().direct()
    del pair.ways["a", B]
    pair.ways |= {("b", A): B_MOVED, ("a", B_MOVED): A}
    pair.a.traversal.note_moved(Candidate(REFLEXIVE, B_MOVED), pair.now)
    assert pair.routes()[0] == (B, RELAYED)
    pair.run(0.2)
    assert pair.routes()[0] == (B_MOVED,)


def test_our_own_mapping_moved() -> None:
    """The peer's pongs say where it sees us."""
    pair = Pair().direct()
    assert not pair.a.traversal.take_was_moved()
    moved = Endpoint(A.host, 4)
    pair.ways |= {("a", B): moved, ("b", moved): B}
    pair.a.traversal.echo_now(pair.now)
    pair.run(0.2)
    assert pair.a.traversal.take_was_moved()
    assert not pair.a.traversal.take_was_moved()


# The relay


def test_relay_echoes() -> None:
    pair = Pair()
    pair.cut_direct()
    pair.a.traversal.ping_relay(pair.now)
    for _ in range(100):
        pair.a.traversal.note_activity(pair.now)
        pair.run(0.1)
    pings = [check for _, to, check in pair.a.sent if to == RELAYED and isinstance(check, Ping)]
    assert len(pings) == pytest.approx(10 / RELAY_ECHO_INTERVAL, abs=2)
    assert pair.a.traversal.relay.is_alive(pair.now)
    pair.cut(("b", RELAYED))
    pair.run(40)
    assert not pair.a.traversal.relay.is_alive(pair.now)
    assert pair.routes()[0] == (RELAYED,), "it is still the only way there is"


def test_a_dead_relay_is_asked_less_and_less() -> None:
    pair = Pair()
    pair.ways.clear()
    pair.a.traversal.set_candidates([])
    pair.a.traversal.ping_relay(pair.now)
    pair.run(3600)
    assert len(pair.a.kinds(RELAYED)) < 1000


def test_the_relay_goes() -> None:
    pair = Pair().direct()
    pair.a.traversal.set_relay(False, pair.now)
    pair.cut_direct()
    pair.a.traversal.note_activity(pair.now)
    pair.run(1)
    assert pair.routes()[0] == (B,)
    pair.run(LOST_AFTER)
    assert pair.routes()[0] == ()
    assert pair.a.changes[-1][2] == "none"


def test_forget_paths() -> None:
    pair = Pair().direct()
    pair.a.traversal.forget_paths()
    pair.settle()
    assert pair.states[0] is SEARCHING
    assert pair.routes()[0] == (RELAYED,)
    assert pair.a.changes[-1][1:] == ("changed", "none", "peer is gone")
    assert pair.a.traversal.paths() == []
    assert not pair.a.traversal.relay.is_alive(pair.now)
    pair.a.changes.clear()
    pair.a.traversal.forget_paths()
    pair.settle()
    assert pair.a.changes == []


# Whatever happens

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
        for endpoint, payload in self.traversal.take_checks():
            check = parse_check(payload) if payload else None
            if isinstance(check, Ping):
                self.pings.append((endpoint, check.transaction))
            elif isinstance(check, Pong):
                self.replies.append((endpoint, check.reply))
        for change in self.traversal.take_changes():
            assert change.kind in ("changed", "doubted", "repaired")
            assert change.seconds >= 0


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40))
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
