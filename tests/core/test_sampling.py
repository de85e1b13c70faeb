"""Probes to the server's two ports, and what is made of the answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ends import ALTERNATE, SERVER, seeded
from tunnel.core.prediction import Sample
from tunnel.core.sampling import FIRST_RETRY, TRIES, Sampler
from tunnel.wire.endpoint import Endpoint

NOW = 1000.0
PORTS = [SERVER, ALTERNATE]


def sampler(sockets: int = 6, rtt: float | None = 0.04) -> Sampler:
    return Sampler(range(16, 16 + sockets), PORTS, rtt, seeded(1), NOW)


def seen(number: int) -> Endpoint:
    return Endpoint("203.0.113.1", 4000 + number)


def test_both_ports_of_each_socket_in_turn() -> None:
    asked = sampler().take_due(NOW)
    assert [(a.local, a.endpoint) for a in asked] == [(n, p) for n in range(16, 22) for p in PORTS]
    assert len({a.probe.transaction for a in asked}) == 12
    assert {a.probe.delay for a in asked} == {0}


def test_answers_in_any_order_make_samples_in_the_order_of_sending() -> None:
    each = sampler()
    asked = each.take_due(NOW)
    for number, one in reversed(list(enumerate(asked))):
        assert not each.is_complete
        assert each.receive(one.probe.transaction, seen(number))
    assert each.is_complete
    assert each.is_done(NOW)
    assert each.samples() == [Sample(one.local, seen(n)) for n, one in enumerate(asked)]


def test_answers_of_others_are_none() -> None:
    each = sampler()
    asked = each.take_due(NOW)
    assert not each.receive(asked[0].probe.transaction ^ 1, seen(0))
    assert each.samples() == []


def test_the_first_answer_counts() -> None:
    each = sampler(1)
    asked = each.take_due(NOW)
    for number, one in enumerate([*asked, *asked]):
        assert each.receive(one.probe.transaction, seen(number))
    assert [sample.observed for sample in each.samples()] == [seen(0), seen(1)]


def test_what_is_missing_is_asked_again_and_given_up() -> None:
    each = sampler()
    now, rounds = NOW, []
    while not each.is_done(now):
        now = each.get_timer()
        due = each.take_due(now)
        rounds.append(len(due))
        for one in due[: len(due) // 2]:
            each.receive(one.probe.transaction, seen(1))
        assert each.get_timer() > now or each.is_done(now)
    assert rounds[:TRIES] == [12, 6, 3]
    assert NOW + TRIES * FIRST_RETRY <= now < NOW + 2
    assert len(each.samples()) == 10


def test_early_and_double_timers_send_nothing() -> None:
    each = sampler()
    assert len(each.take_due(NOW)) == 12
    for now in (NOW, NOW, NOW + FIRST_RETRY / 2):
        assert each.take_due(now) == []
        assert each.get_timer() == NOW + FIRST_RETRY
        assert not each.is_done(now)


@pytest.mark.parametrize("rtt", [None, 0.01, 0.6])
def test_patience_is_two_round_trips_at_least(rtt: float | None) -> None:
    each = sampler(rtt=rtt)
    each.take_due(NOW)
    assert each.get_timer() == NOW + max(FIRST_RETRY, 2 * (rtt or 0.0))


@given(st.sets(st.integers(0, 11)))
def test_of_too_few_answers_nothing_is_concluded(answered: set[int]) -> None:
    each = sampler()
    asked = each.take_due(NOW)
    for number in answered:
        each.receive(asked[number].probe.transaction, seen(number))
    assert len(each.samples()) == (len(answered) if len(answered) > 6 else 0)
