"""When a pair's next attempt is due, and whose mapping it trusts."""

from __future__ import annotations

import pytest

from tunnel.core.guess_record import (
    BUSY_DELAYS,
    DISTRUSTING_ROUNDS,
    EXACT_DELAYS,
    FEW,
    GUESS_DELAY,
    MANY,
    REFUSED,
    REST,
    WAYS,
    GuessRecord,
)
from tunnel.core.prediction import PortRange
from tunnel.wire.check import PredictionKind, Refusal
from tunnel.wire.endpoint import Endpoint

EXACT, SEQUENTIAL, SCATTERED = PredictionKind
NOW = 1000.0


def of(kind: PredictionKind, size: int) -> PortRange:
    return PortRange(kind, Endpoint("203.0.113.1", 5000), 5000 + size - 1)


def stuck() -> GuessRecord:
    record = GuessRecord()
    assert record.due_at(NOW, 0.0) == NOW
    return record


def delay_after(record: GuessRecord) -> float:
    record.begin()
    record.fail(NOW)
    return record.due_at(NOW, 0.0) - NOW


def test_due_when_stuck() -> None:
    record = GuessRecord()
    assert record.due_at(NOW, 2.0) == NOW + 2
    assert record.due_at(NOW + 1, 2.0) == NOW + 2
    record.note_unstuck(is_direct=False)
    assert record.due_at(NOW + 5, 2.0) == NOW + 7


def test_two_known_ports_are_tried_ever_more_seldom() -> None:
    record = stuck()
    record.note_ranges(of(EXACT, 1), of(EXACT, 1), 1.0)
    in_turn = [delay_after(record) for _ in range(DISTRUSTING_ROUNDS * WAYS)]
    assert set(in_turn) == {EXACT_DELAYS[0]}, "as long as other ways come in between"
    assert [delay_after(record) for _ in range(8)] == [*EXACT_DELAYS[1:], 180.0, 180.0]
    assert not record.is_guess


def test_a_likely_guess_rests_after_few() -> None:
    record = stuck()
    record.note_ranges(of(EXACT, 1), of(SCATTERED, 512), 0.99)
    delays = [delay_after(record) for _ in range(FEW + 2)]
    assert delays == [GUESS_DELAY] * (FEW - 1) + [REST] * 3
    assert record.is_guess
    assert not record.is_lottery


def test_a_lottery_goes_on_for_long() -> None:
    record = stuck()
    record.note_ranges(of(SCATTERED, 2048), of(SCATTERED, 2048), 0.05)
    delays = [delay_after(record) for _ in range(MANY + 1)]
    assert delays == [1.0] * (MANY - 1) + [REST] * 2
    assert record.is_lottery


def test_each_way_of_trust_has_its_turn() -> None:
    """(the peer distrusts its mapping, we distrust ours)"""
    record = stuck()
    ways = [record.begin() for _ in range(DISTRUSTING_ROUNDS * WAYS)]
    assert ways == DISTRUSTING_ROUNDS * ways[:WAYS]
    assert ways[:3] == [(False, False), (False, True), (True, False)]
    assert set(ways) == {(False, False), (False, True), (True, False), (True, True)}
    assert (record.tries, record.rounds) == (DISTRUSTING_ROUNDS * WAYS, DISTRUSTING_ROUNDS - 1)
    assert {record.begin() for _ in range(20)} == {(False, False)}, "then it is a firewall"


@pytest.mark.parametrize(("ours", "theirs"), [(EXACT, SCATTERED), (SCATTERED, EXACT)])
def test_a_steady_one_is_distrusted_from_then_on_when_the_other_varies_but_once_a_round(
    ours: PredictionKind, theirs: PredictionKind
) -> None:
    record = stuck()
    for _ in range(WAYS):
        record.begin()
    record.note_ranges(*(of(kind, 1 if kind is EXACT else 512) for kind in (ours, theirs)), 0.99)
    distrusting = [(theirs is EXACT, ours is EXACT)] * (WAYS - 1)
    for _ in range(4):
        assert [record.begin() for _ in range(WAYS)] == [(False, False), *distrusting]


def test_a_path_makes_good() -> None:
    record = stuck()
    record.note_ranges(of(EXACT, 1), of(SCATTERED, 512), 0.99)
    delay_after(record)
    record.refuse(Refusal.OFF, NOW)
    record.note_unstuck(is_direct=True)
    assert (record.tries, record.refusal) == (0, None)
    assert record.due_at(NOW + 1, 0.0) == NOW + 1


@pytest.mark.parametrize("refusal", REFUSED)
def test_refusals(refusal: Refusal) -> None:
    record = stuck()
    record.begin()
    record.refuse(refusal, NOW, by_peer=True)
    assert record.due_at(NOW, 0.0) == NOW + REFUSED[refusal]
    assert (record.refusal, record.refused_by_peer) == (refusal, True)
    record.begin()
    assert record.refusal is None


def test_every_refusal_has_a_delay() -> None:
    assert set(REFUSED) | {Refusal.BUSY} == set(Refusal)


def test_busy_is_asked_ever_more_seldom_and_is_no_attempt() -> None:
    record = stuck()
    delays = []
    for _ in range(7):
        assert record.begin() == (False, False)
        record.refuse(Refusal.BUSY, NOW)
        delays.append(record.due_at(NOW, 0.0) - NOW)
    assert delays == [*BUSY_DELAYS, 60.0, 60.0]
    assert record.tries == 0
    record.begin()
    record.note_ranges(of(EXACT, 1), of(EXACT, 1), 1.0)
    record.refuse(Refusal.BUSY, NOW)
    assert record.due_at(NOW, 0.0) == NOW + BUSY_DELAYS[0]
