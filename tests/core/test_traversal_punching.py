"""Finding a path: proof, punches, and what they must not be used for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.core.pair import (
    B_MOVED,
    DIRECT,
    REFLEXIVE,
    SEARCHING,
    VICTIM,
    A,
    B,
    Pair,
)
from tunnel.constants import MAX_UNANSWERED_CHECKS
from tunnel.core.path import RELAYED
from tunnel.core.path_table import FORGET_PATH_AFTER, MAX_PATHS
from tunnel.core.punch_schedule import PUNCH_ROUNDS, RETRY_DELAYS
from tunnel.core.traversal import OPENER_LEAD, OPENER_SPACING
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.check import UNOBSERVED, CallMe, Confirm, Ping, Pong, parse_check
from tunnel.wire.endpoint import Endpoint


def first_ping(pair: Pair) -> Ping:
    """Of a punch that A has begun to all candidates: one, to B."""
    pair.a.traversal.punch(pair.now, "introduction")
    (opener,) = pair.a.traversal.take_checks()
    assert (opener.endpoint, opener.payload) == (B, None)
    pair.a.traversal.handle_timer(pair.now + OPENER_LEAD)
    (check,) = pair.a.traversal.take_checks()
    ping = parse_check(check.payload or b"")
    assert isinstance(ping, Ping)
    return ping


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
    pair.run(OPENER_LEAD)
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
    ping = first_ping(pair)
    traversal.receive_pong(Pong(ping.transaction, 9, UNOBSERVED), RELAYED, pair.now + 0.02)
    assert traversal.state is SEARCHING
    assert traversal.take_checks() == [], "and no confirm"
    assert not traversal.relay.is_alive(pair.now)


def test_a_direct_pong_does_not_prove_the_relay() -> None:
    pair = Pair()
    traversal = pair.a.traversal
    traversal.ping_relay(pair.now)
    ((endpoint, payload, *_),) = traversal.take_checks()
    assert payload is not None
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
    triggered = traversal.take_checks()
    pong = parse_check(triggered[-1].payload or b"")
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
    traversal.take_checks()
    ping = first_ping(pair)
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
    assert times == pytest.approx([0.5 + OPENER_LEAD + offset for offset in PUNCH_ROUNDS])


def test_retries_become_gentler_and_never_end() -> None:
    pair = Pair(relay=False)
    pair.cut_direct()
    pair.a.traversal.punch(pair.now, "introduction")
    pair.run(3600)
    times = [at for at, to, _ in pair.a.sent if to == B]
    starts = [times[0], *(later for earlier, later in pairwise(times) if later - earlier > 1)]
    length = OPENER_LEAD + PUNCH_ROUNDS[-1]
    pauses = [later - earlier - length for earlier, later in pairwise(starts)]
    expected = [*RETRY_DELAYS, *[RETRY_DELAYS[-1]] * len(pauses)][: len(pauses)]
    assert pauses == pytest.approx(expected)
    assert len(pauses) > 20
    assert pair.a.traversal.wishes.take_wants_introduction()
    assert not pair.a.traversal.wishes.take_wants_introduction()


def test_unanswered_checks_are_bounded_per_endpoint() -> None:
    pair = Pair()
    traversal = pair.a.traversal
    traversal.set_candidates([Candidate(REFLEXIVE, VICTIM)])
    traversal.punch(pair.now, "introduction")
    pair.run(OPENER_LEAD + PUNCH_ROUNDS[-1])
    assert len(pair.a.kinds(VICTIM)) == len(PUNCH_ROUNDS) <= MAX_UNANSWERED_CHECKS


def test_nobody_aims_us_at_a_victim_by_calling_again_and_again() -> None:
    pair = Pair()
    victims = [Candidate(REFLEXIVE, VICTIM)]
    for _ in range(1000):
        pair.a.traversal.receive_call(CallMe(0, tuple(victims)), pair.now)
        pair.run(0.01)
    assert len(pair.a.kinds(VICTIM)) <= 11 * MAX_UNANSWERED_CHECKS, "10 seconds of it"


@pytest.mark.parametrize("how", ["call", "moved", "introduced"])
def test_openers_are_bounded_per_endpoint(how: str) -> None:
    """However often a punch begins: one a second, beside the checks."""
    pair = Pair()
    traversal = pair.a.traversal
    victim = Candidate(REFLEXIVE, VICTIM)
    for _ in range(1000):
        if how == "call":
            traversal.receive_call(CallMe(0, (victim,)), pair.now)
        elif how == "moved":
            traversal.note_moved(victim, pair.now)
        else:
            traversal.set_candidates([victim])
            traversal.punch(pair.now, "introduction")
        pair.run(0.01)
    openers = [at for at, to in pair.a.openers if to == VICTIM]
    assert 1 <= len(openers) <= 10 / OPENER_SPACING + 1
    assert all(b - a >= OPENER_SPACING for a, b in pairwise(openers))
    assert len(pair.a.kinds(VICTIM)) <= 11 * MAX_UNANSWERED_CHECKS


def test_no_opener_goes_to_who_has_proven_to_be_there() -> None:
    pair = Pair().direct()
    pair.a.openers.clear()
    for _ in range(100):
        pair.a.traversal.receive_call(CallMe(0, (Candidate(REFLEXIVE, B),)), pair.now)
        pair.run(0.1)
    assert pair.a.openers == []


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
