"""Traversals in virtual time; the transitions are those of the table in traversal.py."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.core.pair import (
    B_LAN,
    B_MOVED,
    DIRECT,
    DOUBT,
    HOST,
    REFLEXIVE,
    SEARCHING,
    VICTIM,
    A,
    B,
    Pair,
)
from tunnel.constants import KEEPALIVE_INTERVAL
from tunnel.core.echoes import RELAY_ECHO_INTERVAL
from tunnel.core.path import DOUBT_FLOOR, ECHO_EVERY, LATE_FLOOR, RELAYED
from tunnel.core.traversal import (
    LOST_AFTER,
)
from tunnel.wire.candidate import Candidate
from tunnel.wire.check import Ping
from tunnel.wire.endpoint import Endpoint

# direct


def test_idle_echoes_keep_the_mapping() -> None:
    pair = Pair().direct()
    pair.run(900)
    interval = pair.a.traversal.echoes.keepalive_interval
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


@pytest.mark.parametrize("delay", [0.002, 0.02])
def test_traffic_ends_with_one_echo(delay: float) -> None:
    """Not with the keep-alives of minutes, all at once."""
    pair = Pair(delay).direct()
    for _ in range(50):
        pair.a.traversal.note_activity(pair.now)
        pair.run(0.1)
    pair.run(5)
    moments = [(at, to) for at, to, check in pair.a.sent if isinstance(check, Ping)]
    assert len(moments) == len(set(moments))
    assert len(pair.a.kept) == len(pair.a.sent), "no empty frame among them"


def test_ask_is_answered_with_its_time() -> None:
    pair = Pair(delay=0.05).direct()
    transaction = pair.a.traversal.ask(B, pair.now)
    pair.run(1)
    assert pair.a.traversal.asking.take_answers() == [(transaction, pytest.approx(0.1), B)]
    assert pair.a.traversal.asking.take_answers() == []
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
    assert pair.a.traversal.wishes.take_wants_introduction()
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
    assert traversal.wishes.take_resend_since() is not None
    assert traversal.wishes.take_wants_witness()
    assert not traversal.wishes.take_wants_witness()
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
    interval = pair.a.traversal.echoes.keepalive_interval
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
    assert not pair.a.traversal.wishes.take_was_moved()
    moved = Endpoint(A.host, 4)
    pair.ways |= {("a", B): moved, ("b", moved): B}
    pair.a.traversal.echo_now(pair.now)
    pair.run(0.2)
    assert pair.a.traversal.wishes.take_was_moved()
    assert not pair.a.traversal.wishes.take_was_moved()


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
