"""How long what nobody answers is remembered: asked with late answers only."""

from __future__ import annotations

import pytest

from tests.core.ends import seeded
from tests.sim.nat import Nat
from tests.sim.world import World
from tunnel.core.entry_lifetime import (
    ASSUMED_LIFETIME,
    GRACE,
    LONG_LIFETIME,
    SHORT_LIFETIME,
    SILENCE,
    SOCKETS,
    EntryLifetime,
    EntryState,
)
from tunnel.core.events import SocketsReleased
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import AnswerFrom

SERVER = Endpoint("203.0.113.10", 12345)


def test_asked_once_from_each_socket_and_to_be_answered_late() -> None:
    entry = EntryLifetime(seeded(1))
    assert entry.seconds == ASSUMED_LIFETIME
    asked = entry.start(SERVER, 100.0)
    assert [(one.endpoint, one.local) for one in asked] == [(SERVER, local) for local in SOCKETS]
    assert {one.probe.answer_from for one in asked} == {AnswerFrom.SAME_LATER}
    assert {one.probe.delay for one in asked} == {round(SILENCE * 1000)}
    assert len({one.probe.transaction for one in asked}) == 2
    assert entry.start(SERVER, 100.0) == []
    assert entry.seconds == ASSUMED_LIFETIME


def test_one_answer_of_the_two_is_enough() -> None:
    entry = EntryLifetime(seeded(1))
    first, second = entry.start(SERVER, 100.0)
    assert not entry.receive(first.probe.transaction ^ 1)
    assert entry.receive(second.probe.transaction)
    assert (entry.state, entry.seconds) == (EntryState.LONG, LONG_LIFETIME)
    assert entry.take_released() == SOCKETS
    assert entry.take_released() == ()
    assert not entry.receive(first.probe.transaction), "it is known"
    entry.handle_timer(1000.0)
    assert (entry.state, entry.get_timer()) == (EntryState.LONG, None)


def test_silence_means_that_it_forgets_soon() -> None:
    entry = EntryLifetime(seeded(1))
    entry.start(SERVER, 100.0)
    entry.handle_timer(100.0 + SILENCE)
    assert entry.state is EntryState.ASKED
    assert entry.get_timer() == 100.0 + SILENCE + GRACE
    entry.handle_timer(100.0 + SILENCE + GRACE)
    assert (entry.state, entry.seconds) == (EntryState.SHORT, SHORT_LIFETIME)
    assert entry.take_released() == SOCKETS


def test_another_network_is_asked_anew() -> None:
    entry = EntryLifetime(seeded(1))
    (first, _) = entry.start(SERVER, 100.0)
    entry.restart()
    assert (entry.state, entry.get_timer()) == (EntryState.UNKNOWN, None)
    assert entry.take_released() == SOCKETS
    assert not entry.receive(first.probe.transaction)
    assert len(entry.start(SERVER, 200.0)) == 2


@pytest.mark.parametrize(
    ("unanswered", "expected"), [(30.0, EntryState.SHORT), (120.0, EntryState.LONG)]
)
def test_with_a_server_and_a_nat(unanswered: float, expected: EntryState) -> None:
    world = World()
    world.add_node("a", Nat(mapping_timeout=unanswered, stream_timeout=120.0))
    world.net.run_for(60)
    guessing = world.node("a").guessing
    assert guessing.entry_lifetime.state is expected
    assert guessing.budget.lifetime == guessing.entry_lifetime.seconds
    released = {n for event in world.events("a", SocketsReleased) for n in event.locals}
    assert released >= set(SOCKETS)
    assert not set(SOCKETS) & set(world.hosts["a"].sockets)
