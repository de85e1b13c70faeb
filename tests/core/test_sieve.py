"""When a node stops reading everything, what it reads then, and when it reads everything again."""

from __future__ import annotations

import pytest

from tests.core.ends import Clock, Network, key, seeded
from tunnel.core.events import FloodBegan, FloodEnded
from tunnel.core.indices import IndexTable
from tunnel.core.peer_table import PeerTable
from tunnel.core.revocations import Revocations
from tunnel.core.session import Session
from tunnel.core.sieve import (
    BEGINS,
    CALM,
    DRAINED_WITHIN,
    ENDS,
    EVERYTHING,
    LEAST_SHARE,
    LEAST_WINDOW,
    SAMPLED,
    WEIGHED_EVERY,
    WINDOW,
    Admitted,
    Sieve,
)
from tunnel.wire.handshake import INITIATION, INITIATION_LENGTH
from tunnel.wire.relay import pack_relay
from tunnel.wire.sieve import MOST_NUMBERS
from tunnel.wire.transport import pack_header

STRANGE = bytes([INITIATION]) + bytes(INITIATION_LENGTH - 1)


class Gate:
    """A sieve, what comes through it, and what it said."""

    def __init__(self) -> None:
        self.clock = Clock()
        network = Network()
        self.indices: IndexTable[Session] = IndexTable(seeded(2))
        self.peers = PeerTable(
            static=network.founder,
            identity=network.identity,
            certificate=network.certificate,
            revocations=Revocations(network.identity.key),
            indices=self.indices,
            random_bytes=seeded(3),
            wall_clock=self.clock.wall,
            interface_mtu=1280,
            may_use_aegis=False,
        )
        certificate = network.certify(key(5), "pi", 5)
        self.peer = self.peers.remember(certificate.pack(), ())
        self.sieve = Sieve(self.indices, self.peers)
        self.admitted = EVERYTHING
        self.told: list[FloodBegan | FloodEnded] = []

    def flood(self, rate: float, seconds: float, datagram: bytes = STRANGE) -> int:
        """So many a second of them come; how many got through."""
        through = 0
        chance = 0.0
        for number in range(round(rate * seconds)):
            at = self.clock.now + 1 / rate
            self.run_until(at)
            chance += self.admitted.share
            if chance >= 1.0:
                chance -= 1.0
                through += 1
                self._note(self.sieve.note_dropped(datagram, at))
            assert number < 1e7
        return through

    def run_until(self, at: float) -> None:
        while (timer := self.sieve.get_timer()) is not None and timer <= at:
            self.clock.now = max(timer, self.clock.now)
            self._note(self.sieve.handle_timer(self.clock.now))
        self.clock.now = at

    def run(self, seconds: float) -> None:
        self.run_until(self.clock.now + seconds)

    def _note(self, event: FloodBegan | FloodEnded | None) -> None:
        if event is not None:
            self.told.append(event)
        self.admitted = self.sieve.take_change() or self.admitted

    @property
    def is_open(self) -> bool:
        return self.admitted == EVERYTHING


def test_few_strangers_change_nothing() -> None:
    gate = Gate()
    gate.flood(BEGINS * 0.9, 3.0)
    assert gate.is_open
    assert gate.told == []
    assert gate.sieve.get_timer() is None
    assert gate.sieve.describe(gate.clock.now) is None


@pytest.mark.parametrize("rate", [BEGINS * 1.1, 20_000.0, 300_000.0])
def test_a_flood_is_left_to_chance(rate: float) -> None:
    gate = Gate()
    first = gate.flood(rate, 1.0)
    assert first < BEGINS * WINDOW + 8 * SAMPLED
    assert len(gate.told) == 1
    gate.flood(rate, 4.0)
    through = gate.flood(rate, 2.0)
    assert SAMPLED <= through < 2 * 2 * 2 * SAMPLED
    status = gate.sieve.describe(gate.clock.now)
    assert status is not None
    assert rate * 0.8 < status["datagrams_per_s"] < rate * 1.25
    assert status["read_share"] == gate.admitted.share < 1
    assert len(gate.told) == 1, "one line, however long it lasts"


def test_what_waits_when_it_begins_is_not_looked_at() -> None:
    gate = Gate()
    index = gate.indices.allocate(gate.peer.session)
    gate.flood(BEGINS * 0.9, 1.0)
    assert not gate.sieve.is_draining(gate.clock.now)
    gate.flood(20_000, 0.1)
    assert gate.sieve.is_draining(gate.clock.now)
    assert not gate.sieve.is_draining(gate.clock.now + DRAINED_WITHIN)
    assert gate.sieve.knows(pack_header(index, 1) + bytes(16))
    assert not gate.sieve.knows(pack_header(index + 1, 1) + bytes(16))
    assert not gate.sieve.knows(STRANGE)
    gate.flood(20_000, 5.0)
    assert not gate.sieve.is_draining(gate.clock.now), "only when it begins"


def test_it_is_over_when_there_were_few_for_long_enough() -> None:
    gate = Gate()
    gate.flood(50_000, 3.0)
    gate.run(3.0)
    assert gate.admitted.share == 1.0, "new ones are read again"
    gate.run(CALM - 5.0)
    assert len(gate.told) == 1
    assert not gate.is_open
    gate.run(5.0)
    assert gate.is_open
    ended = gate.told[1]
    assert isinstance(ended, FloodEnded)
    assert 100_000 < ended.datagrams < 200_000
    assert CALM < ended.seconds < CALM + 10
    assert gate.sieve.get_timer() is None
    gate.run(100.0)
    assert len(gate.told) == 2


def test_one_that_comes_and_goes_is_one() -> None:
    """Whoever pauses for half a minute has no two lines of the log for it."""
    gate = Gate()
    for _ in range(5):
        gate.flood(50_000, 0.5)
        gate.run(CALM / 2)
    assert len(gate.told) == 1
    gate.flood(50_000, 0.5)
    assert gate.admitted.share < 1.0


def test_between_the_two_rates_it_goes_on() -> None:
    gate = Gate()
    gate.flood(BEGINS * 2, 1.0)
    gate.flood(ENDS * 1.5, CALM * 1.5)
    assert len(gate.told) == 1
    gate.flood(ENDS * 0.7, CALM + 3.0)
    assert len(gate.told) == 2


def test_what_is_ours_counts_for_nothing() -> None:
    """A member, or somebody on the way, who repeats what we would read in any case."""
    gate = Gate()
    index = gate.indices.allocate(gate.peer.session)
    gate.peers.set_channel(gate.peer, 77)
    gate.flood(BEGINS * 3, 1.0, pack_header(index, 1) + bytes(16))
    gate.flood(BEGINS * 3, 1.0, pack_relay(77, STRANGE))
    assert gate.is_open
    gate.flood(BEGINS * 3, 1.0, pack_header(index + 1, 1) + bytes(16))
    assert not gate.is_open


def test_all_numbers_are_told_when_they_change() -> None:
    gate = Gate()
    first = gate.indices.allocate(gate.peer.session)
    gate.flood(20_000, 1.0)
    assert gate.admitted.numbers == (first,)
    assert gate.sieve.take_change() is None
    second = gate.indices.allocate(gate.peer.session)
    assert gate.sieve.take_change() == Admitted((first, second), gate.admitted.share)
    gate.indices.release(first)
    gate.indices.release(first)
    assert gate.sieve.take_change() == Admitted((second,), gate.admitted.share)
    gate.peers.set_channel(gate.peer, 77)
    assert gate.sieve.take_change() == Admitted((second, 77), gate.admitted.share)
    gate.peers.set_channel(gate.peer, 77)
    assert gate.sieve.take_change() is None
    gate.peers.set_channel(gate.peer, 0)
    assert gate.sieve.take_change() == Admitted((second,), gate.admitted.share)
    assert gate.sieve.take_change() is None


def test_more_numbers_than_a_program_has_room_for() -> None:
    gate = Gate()
    for _ in range(MOST_NUMBERS):
        gate.indices.allocate(gate.peer.session)
    gate.flood(20_000, 1.0)
    assert gate.admitted.numbers is not None
    gate.indices.allocate(gate.peer.session)
    admitted = gate.sieve.take_change()
    assert admitted is not None
    assert admitted.numbers is None
    assert admitted.share < 1


def test_the_share_has_an_end() -> None:
    gate = Gate()
    gate.flood(20_000, 0.5)
    for _ in range(10):  # As nobody can send them.
        gate.clock.now += DRAINED_WITHIN + LEAST_WINDOW
        for _ in range(int(100 * SAMPLED)):
            gate.sieve.note_dropped(STRANGE, gate.clock.now - 1e-6 * LEAST_WINDOW)
            gate.sieve.note_dropped(STRANGE, gate.clock.now)
    admitted = gate.sieve.take_change()
    assert admitted is not None
    assert admitted.share == LEAST_SHARE


def test_a_timer_that_is_early_or_comes_twice() -> None:
    gate = Gate()
    assert gate.sieve.handle_timer(gate.clock.now) is None
    gate.flood(20_000, 1.0)
    gate.run(10.0)
    timer = gate.sieve.get_timer()
    assert timer is not None
    before = gate.sieve.describe(timer)
    assert gate.sieve.handle_timer(timer - WEIGHED_EVERY / 2) is None
    assert gate.sieve.get_timer() == timer
    assert gate.sieve.describe(timer) == before
    gate.sieve.handle_timer(timer)
    assert gate.sieve.handle_timer(timer) is None
    assert gate.sieve.get_timer() == timer + WEIGHED_EVERY
