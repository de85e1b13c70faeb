"""Filtering and hairpinning: what arrives, what does not, and who claims to be the server."""

from __future__ import annotations

import pytest

from tests.core.ends import seeded
from tunnel.core.nat_filtering import PATIENCE, TRIES, FilteringDiscovery
from tunnel.core.nat_hairpin import HairpinDiscovery
from tunnel.core.nat_mapping import ADDRESS, ADDRESS_AND_PORT, INDEPENDENT
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import parse_hairpin
from tunnel.wire.rendezvous import AnswerFrom, Echoed

SERVER = Endpoint("203.0.113.10", 12345)
OTHER_PORT = Endpoint("203.0.113.10", 12346)
OTHER_ADDRESS = Endpoint("203.0.113.20", 12346)
PLACES = {
    AnswerFrom.SAME: SERVER,
    AnswerFrom.OTHER_PORT: OTHER_PORT,
    AnswerFrom.OTHER_ADDRESS: OTHER_ADDRESS,
}
OBSERVED = Endpoint("192.0.2.1", 40001)
NONE: frozenset[AnswerFrom] = frozenset()


class Question:
    def __init__(self, *, has_alternate: bool = True) -> None:
        self.discovery = FilteringDiscovery(seeded(1))
        self.now = 1000.0
        self.asked: list[AnswerFrom] = []
        self.has_alternate = has_alternate
        self.discovery.start(SERVER, self.now, has_alternate=has_alternate)

    def answer(
        self, let_in: frozenset[AnswerFrom], places: dict[AnswerFrom, Endpoint] = PLACES
    ) -> str | None:
        """Answers from these places arrive, 20 ms after the question, until there are no more."""
        while self.discovery.is_running:
            probes = self.discovery.take_probes()
            self.now += 0.02
            for probe in probes:
                assert probe.delay == 0
                self.asked.append(AnswerFrom(probe.answer_from))
                if probe.answer_from in let_in:
                    echoed = Echoed(probe.transaction, 0, OBSERVED)
                    source = places[AnswerFrom(probe.answer_from)]
                    assert self.discovery.receive(echoed, source, self.now)
            timer = self.discovery.get_timer()
            if timer is not None:
                self.now = timer
                self.discovery.handle_timer(self.now)
        return self.discovery.behaviour


SAME, PORT, ADDRESS_TOO, _ = AnswerFrom


@pytest.mark.parametrize(
    ("let_in", "has_alternate", "behaviour"),
    [
        ({SAME, PORT, ADDRESS_TOO}, True, INDEPENDENT),
        ({SAME, PORT}, True, ADDRESS),
        ({SAME}, True, ADDRESS_AND_PORT),
        ({SAME, PORT}, False, ADDRESS),
        ({SAME}, False, ADDRESS_AND_PORT),
        ({PORT, ADDRESS_TOO}, True, INDEPENDENT),  # the answer from where it was asked got lost
        (set(), True, None),
    ],
)
def test_behaviour(let_in: set[AnswerFrom], has_alternate: bool, behaviour: str | None) -> None:
    question = Question(has_alternate=has_alternate)
    assert question.answer(frozenset(let_in)) == behaviour
    assert (ADDRESS_TOO in question.asked) is has_alternate
    assert question.now <= 1000.0 + TRIES * PATIENCE


def test_the_most_open_is_known_in_one_round_trip() -> None:
    question = Question()
    question.answer(frozenset(PLACES))
    assert question.now < 1000.1
    assert question.asked == list(PLACES)


def test_only_what_did_not_come_is_asked_again() -> None:
    question = Question()
    question.answer(frozenset({SAME}))
    assert question.asked.count(SAME) == 1
    assert question.asked.count(PORT) == question.asked.count(ADDRESS_TOO) == TRIES


def test_a_server_that_does_not_know_the_question() -> None:
    """It answers all of them from where it was asked: nothing is known about other places."""
    question = Question()
    places = dict.fromkeys(AnswerFrom, SERVER)
    assert question.answer(frozenset({PORT, ADDRESS_TOO}), places) is None


def test_silence_leaves_what_was_known() -> None:
    question = Question()
    question.answer(frozenset({SAME, PORT}))
    question.discovery.start(SERVER, question.now, has_alternate=True)
    assert question.answer(NONE) == ADDRESS
    question.discovery.stop()
    assert question.discovery.behaviour is None
    assert question.discovery.get_timer() is None


def test_answers_to_others_are_not_ours() -> None:
    question = Question()
    assert not question.discovery.receive(Echoed(7, 0, OBSERVED), SERVER, question.now)


HERE, THERE = (0, Endpoint("192.0.2.1", 1)), (2, Endpoint("192.0.2.1", 2))


def test_both_sockets_send_to_the_other_s_outside() -> None:
    hairpin = HairpinDiscovery(seeded(1))
    hairpin.start(HERE, THERE, 0.0)
    sent = hairpin.take_transmits()
    assert [(t.local, t.endpoint) for t in sent] == [(0, THERE[1]), (2, HERE[1])]
    token = parse_hairpin(bytes(sent[0].data)).token
    assert not hairpin.receive(bytes(16))
    assert hairpin.is_running
    assert hairpin.receive(token)
    assert hairpin.works is True
    assert hairpin.get_timer() is None


def test_nothing_comes_back() -> None:
    hairpin = HairpinDiscovery(seeded(1))
    hairpin.start(HERE, THERE, 0.0)
    count = 0
    while (timer := hairpin.get_timer()) is not None:
        assert hairpin.works is None
        hairpin.handle_timer(timer - 0.001)
        hairpin.handle_timer(timer)
        count += len(hairpin.take_transmits())
        assert count <= 6
    assert hairpin.works is False
    hairpin.stop()
    assert hairpin.works is None
    assert not hairpin.receive(b""), "nobody knows a token when there is none"
