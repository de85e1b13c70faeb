"""Every row of the table in ``tunnel.core.path_mtu``, and searches through links of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.constants import TUNNEL_MTU
from tunnel.core.mtu_discovery import IPV4_HEADER, IPV6_HEADER, UDP_HEADER
from tunnel.core.path_mtu import (
    RAISE_AFTER,
    ROUNDS,
    RUNGS,
    SMALLEST,
    UNANSWERED_AGAIN,
    WATCH_INTERVAL,
    WATCH_TRIES,
    MtuState,
    PathMtu,
)
from tunnel.wire.relay import RELAY_HEADER_LENGTH
from tunnel.wire.train import TRAIN_OVERHEAD
from tunnel.wire.transport import HEADER_LENGTH, LONGEST_TAG

TOP = 1400
RTT = 0.02


class Link:
    """Answers the checks that fit, at once; keeps virtual time."""

    def __init__(self, size: int, mtu: PathMtu | None = None, top: int = TOP) -> None:
        self.size = size
        self.mtu = mtu or PathMtu()
        self.now = 100.0
        self.asked: list[int] = []
        self._transactions = 0
        self.mtu.search(top, self.now)

    def run(self, seconds: float) -> None:
        """Until the machine asks for nothing more within `seconds`."""
        end = self.now + seconds
        while (at := self.mtu.get_timer()) is not None and at <= end:
            self.now = max(self.now, at)
            sizes = self.mtu.take_sizes(self.now, RTT)
            self.asked += sizes
            for size in sizes:
                self._transactions += 1
                self.mtu.note_sent(self._transactions, size)
                if size <= self.size:
                    assert self.mtu.receive_pong(self._transactions, self.now)
        self.now = end

    def send_large(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.mtu.note_large(self.now)
            self.run(0.1)


def test_the_whole_passes() -> None:
    link = Link(TOP)
    assert link.mtu.limit is None, "nothing is known: packets go whole"
    link.run(1000)
    assert link.asked == [TOP]
    assert (link.mtu.state, link.mtu.limit) == (MtuState.SETTLED, TOP)
    assert link.mtu.get_timer() is None


@pytest.mark.parametrize("size", [1399, 1340, 1220, 1200, 1000, SMALLEST])
def test_less_passes(size: int) -> None:
    link = Link(size)
    link.run(0.15)
    found = max(rung for rung in RUNGS if rung <= size)
    assert link.mtu.limit == found, "known after a delay and a round trip"
    assert not link.mtu.is_settled, "but the larger ones may have been lost by chance"
    link.run(1.0)
    assert link.mtu.is_settled
    assert link.mtu.limit == found
    assert link.asked.count(TOP) == 1 + ROUNDS


def test_nothing_passes() -> None:
    """Perhaps the path has just died; it is asked again, not divided for ever."""
    link = Link(0)
    link.run(2.0)
    assert (link.mtu.state, link.mtu.limit) == (MtuState.UNKNOWN, None)
    link.mtu.search(TOP, link.now)
    assert link.mtu.get_timer() is None
    link.now += UNANSWERED_AGAIN
    link.size = TOP
    link.mtu.search(TOP, link.now)
    link.run(1.0)
    assert link.mtu.limit == TOP


@pytest.mark.parametrize("hint", [1240, 1199, SMALLEST])
def test_a_router_says_how_much(hint: int) -> None:
    link = Link(hint)
    link.mtu.take_sizes(link.now, RTT)
    link.mtu.suggest(hint, link.now)
    assert link.mtu.state is MtuState.SEARCHING
    link.run(0)
    assert link.mtu.limit == hint, "exactly, at once"


@pytest.mark.parametrize("hint", [-5, 0, SMALLEST - 1, TOP, 9000])
def test_words_that_cannot_be(hint: int) -> None:
    link = Link(TOP)
    link.mtu.suggest(hint, link.now)
    assert link.mtu.state is MtuState.ASKING
    link.run(1)
    link.mtu.suggest(hint, link.now)
    assert link.mtu.state is MtuState.SETTLED


def test_forged_words_cost_one_check() -> None:
    link = Link(TOP)
    link.run(1)
    link.mtu.suggest(600, link.now)
    assert link.mtu.limit == TOP
    link.run(1)
    assert link.asked == [TOP, TOP]
    assert (link.mtu.state, link.mtu.limit) == (MtuState.SETTLED, TOP)


@pytest.mark.parametrize("says", [None, 1210])
def test_the_path_becomes_narrower(says: int | None) -> None:
    link = Link(TOP)
    link.run(1)
    link.size = 1210
    if says:
        link.mtu.suggest(says, link.now)
    link.send_large(WATCH_INTERVAL + 0.1 * (WATCH_TRIES + 1))
    assert link.mtu.limit == (says or 1200)


def test_black_hole_before_the_answers_come() -> None:
    """What is known not to pass is not sent, even while nothing else is known."""
    link = Link(TOP)
    link.run(1)
    link.size = 0
    while link.mtu.state is not MtuState.SEARCHING:
        link.send_large(0.1)
    assert link.mtu.limit == SMALLEST


def test_watched_only_while_large_packets_flow() -> None:
    link = Link(TOP)
    link.run(1000)
    link.send_large(10)
    assert 5 <= link.asked.count(TOP) <= 7
    asked = len(link.asked)
    link.run(1000)
    assert len(link.asked) == asked


@pytest.mark.parametrize("is_busy", [False, True])
def test_the_path_becomes_wider(is_busy: bool) -> None:
    """Watching must not put off the look upward."""
    link = Link(1220)
    link.run(2)
    link.size = TOP
    if is_busy:
        link.send_large(RAISE_AFTER + 5)
    else:
        link.run(RAISE_AFTER + 5)
    assert link.mtu.limit == TOP


def test_what_passes_still_passes_while_more_is_asked() -> None:
    link = Link(1220)
    link.run(2)
    link.now += RAISE_AFTER
    for _ in range(2):
        link.now = link.mtu.get_timer() or link.now
        link.mtu.take_sizes(link.now, RTT)
        assert link.mtu.limit == 1220
    assert link.mtu.state is MtuState.SEARCHING


def test_late_answers_count() -> None:
    link = Link(0)
    link.mtu.note_sent(1, *link.mtu.take_sizes(link.now, RTT))
    link.run(0.15)
    assert link.mtu.state is MtuState.SEARCHING
    link.mtu.receive_pong(1, link.now)
    assert (link.mtu.state, link.mtu.limit) == (MtuState.SETTLED, TOP)


def test_sizes_for_well_known_links_are_among_those_tried() -> None:
    """A datagram of 576 bytes must pass anywhere; the default of the interface, on Ethernet."""
    frame = HEADER_LENGTH + TRAIN_OVERHEAD + LONGEST_TAG
    ipv4, ipv6 = (header + UDP_HEADER + frame for header in (IPV4_HEADER, IPV6_HEADER))
    assert 1500 - ipv6 == TUNNEL_MTU
    assert 576 - ipv4 == SMALLEST
    for size in (1280 - ipv4, 1280 - ipv6, 1492 - ipv6, 1500 - ipv6 - RELAY_HEADER_LENGTH):
        assert size in RUNGS
    assert 1460 - ipv4 in RUNGS
    assert sorted(RUNGS, reverse=True) == list(RUNGS)


@given(st.integers(SMALLEST, 9000), st.integers(1280, 9000))
def test_any_link(size: int, top: int) -> None:
    link = Link(size, top=top)
    link.run(5)
    assert link.mtu.is_settled
    assert link.mtu.limit is not None
    assert link.mtu.limit <= min(size, top)
    assert link.mtu.limit >= 0.45 * min(size, top) or link.mtu.limit == SMALLEST or size < 1024
    assert len(link.asked) <= 70
