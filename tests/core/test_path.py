from __future__ import annotations

import pytest

from tunnel.core.path import (
    DOUBT_FLOOR,
    FALSE_ALARM,
    HOST_BONUS,
    LATE_FLOOR,
    MAX_PENDING,
    Path,
    is_clearly_better,
)
from tunnel.wire.candidate import CandidateKind
from tunnel.wire.endpoint import Endpoint


def make(kind: CandidateKind = CandidateKind.SERVER_REFLEXIVE, rtt: float | None = None) -> Path:
    path = Path(Endpoint("203.0.113.1", 1), kind, 0.0)
    if rtt is not None:
        path.note_ping(1, 0.0)
        path.note_proof(0.0, rtt)
    return path


def lose(path: Path, share: float, echoes: int = 400) -> None:
    """Echoes every 100 ms, of which that share is lost, evenly."""
    owed = 0.0
    for number in range(echoes):
        at = 1000.0 + number / 10
        path.note_ping(number, at)
        owed += share
        if owed >= 1.0:
            owed -= 1.0
        else:
            path.note_proof(at, at + 0.02)


@pytest.mark.parametrize(
    ("share", "patience"), [(0.0, 0.25), (0.04, 0.25), (0.2, 0.45), (0.5, 1.0), (0.8, 1.2)]
)
def test_a_path_that_always_loses_some_is_given_more_echoes(share: float, patience: float) -> None:
    path = make(rtt=0.02)
    lose(path, share)
    assert path.doubt_after == pytest.approx(patience, rel=0.15)


def test_an_outage_is_soon_forgotten() -> None:
    """What an outage eats is no sign that the path loses packets all the time."""
    path = make(rtt=0.02)
    lose(path, 0.0)
    for number in range(4):
        path.note_ping(1000 + number, 2000.0 + number / 10)
    path.note_ping(2000, 2001.0)
    path.note_proof(2001.0, 2001.02)
    assert path.doubt_after < 0.4
    lose(path, 0.0, echoes=30)
    assert path.doubt_after == DOUBT_FLOOR


def test_lateness_comes_before_doubt() -> None:
    path = make(rtt=0.02)
    path.note_ping(2, 10.0)
    assert not path.needs_copies(10.0 + LATE_FLOOR - 0.001)
    assert path.needs_copies(10.0 + LATE_FLOOR)
    assert not path.is_doubtful(10.0 + LATE_FLOOR)


def test_after_a_false_alarm_lateness_means_nothing_for_a_while() -> None:
    path = make(rtt=0.02)
    path.alarmed_at = 9.0
    path.note_ping(2, 10.0)
    assert not path.needs_copies(10.0 + DOUBT_FLOOR - 0.001)
    assert path.needs_copies(10.0 + DOUBT_FLOOR), "doubt is as soon as ever"
    path.note_proof(10.0, 10.2)
    path.note_ping(3, 9.0 + FALSE_ALARM)
    assert path.needs_copies(9.0 + FALSE_ALARM + 0.1)


def test_unproven_is_doubtful_and_none_is_due() -> None:
    path = make()
    assert path.is_doubtful(0.0)
    assert path.doubted_from() is None


def test_doubt_begins_when_the_oldest_echo_is_late() -> None:
    path = make(rtt=0.02)
    assert not path.is_doubtful(1000.0), "nothing was asked"
    path.note_ping(2, 10.0)
    path.note_ping(3, 10.1)
    assert path.doubted_from() == pytest.approx(10.0 + DOUBT_FLOOR)
    assert not path.is_doubtful(10.0 + DOUBT_FLOOR - 0.001)
    assert path.is_doubtful(10.0 + DOUBT_FLOOR)
    path.note_proof(10.1, 10.3)
    assert path.doubted_from() is None, "an answer to a later one says enough of the earlier"
    assert not path.is_doubtful(1000.0)


def test_an_answer_to_an_earlier_one_leaves_the_later_due() -> None:
    path = make(rtt=0.02)
    path.note_ping(2, 10.0)
    path.note_ping(3, 10.1)
    path.note_proof(10.0, 10.2)
    assert path.doubted_from() == pytest.approx(10.1 + DOUBT_FLOOR)


def test_links_to_a_satellite_are_given_time() -> None:
    path = make(rtt=0.7)
    assert path.doubt_after == pytest.approx(2.1)
    assert make(rtt=0.001).doubt_after == DOUBT_FLOOR


def test_round_trip_is_smoothed() -> None:
    path = make(rtt=0.1)
    assert path.rtt == pytest.approx(0.1)
    path.note_proof(1.0, 1.9)
    assert path.rtt == pytest.approx(0.1 + 0.8 / 8)


def test_pending_and_replies_are_bounded_and_the_oldest_question_is_kept() -> None:
    path = make(rtt=0.02)
    for number in range(10 * MAX_PENDING):
        path.note_ping(100 + number, 10.0 + number)
        path.note_reply(number, 10.0 + number)
    assert len(path.pending) == len(path.replies) == MAX_PENDING
    assert path.doubted_from() == pytest.approx(10.0 + DOUBT_FLOOR)
    assert path.unanswered == 10 * MAX_PENDING
    assert max(path.replies) == 10 * MAX_PENDING - 1


def test_proof_is_for_both_directions() -> None:
    path = make()
    path.note_ping(1, 5.0)
    path.note_proof(5.0, 5.1)
    assert path.proven_at == path.received_at == 5.1
    assert path.proof_sent_at == 5.0
    assert path.unanswered == 0
    path.note_proof(4.0, 5.2)
    assert path.proof_sent_at == 5.0, "an older echo says nothing new of what was sent"


@pytest.mark.parametrize(
    ("rtt", "than", "is_better"),
    [(0.05, 0.1, True), (0.095, 0.1, False), (0.1, 0.1, False), (0.0005, 0.001, False)],
)
def test_a_better_path_is_clearly_better(rtt: float, than: float, is_better: bool) -> None:
    assert is_clearly_better(make(rtt=rtt), make(rtt=than)) is is_better


def test_within_the_lan_is_preferred_though_a_little_slower() -> None:
    inside = make(CandidateKind.HOST, rtt=0.012)
    outside = make(rtt=0.012 - HOST_BONUS / 2)
    assert inside.cost < outside.cost
    assert make(CandidateKind.HOST, rtt=0.02).cost > make(rtt=0.01).cost
