"""What no peer, timer or switch may make a node do while it guesses."""

from __future__ import annotations

import pytest

from tests.core.guessing_ends import ASKING, IDLE, SAMPLING, STRIKING, VICTIM, Pair, ask
from tunnel.core.fresh_sockets import MAX_FRESH
from tunnel.wire.check import Phase, PredictionKind

SCATTERED = PredictionKind.SCATTERED


def test_switched_off_here_and_there() -> None:
    for may_guess in ((False, True), (True, False)):
        for kinds in (("512", "exact"), ("exact", "512"), ("512", "512")):
            pair = Pair(*kinds, may_guess=may_guess)
            off = pair.ends[may_guess.index(False)]
            pair.get_stuck()
            pair.run(30)
            assert not off.struck, (may_guess, kinds)
            assert off.state is IDLE
            # Two known ports are no guess.
        pair = Pair(may_guess=may_guess)
        pair.get_stuck(pair.a)
        pair.run(2)
        assert all(end.struck for end in pair.ends)


@pytest.mark.parametrize("state", [IDLE, SAMPLING, ASKING, STRIKING])
@pytest.mark.parametrize("phase", Phase)
def test_an_address_that_is_not_the_peers(state: object, phase: Phase) -> None:
    """Whatever it says and when, nothing is sent there."""
    pair = Pair("exact", "512")
    a, b = pair.ends
    b.is_credible = False
    if state is not IDLE:
        pair.get_stuck(a)
        pair.run_until(lambda: a.state in (state, ASKING))
    if state is STRIKING:
        b.is_credible = True
        pair.run_until(lambda: a.state is STRIKING)
        b.is_credible = False
    own = [prediction.attempt for _, prediction in a.sent]
    for number in (*own, 0, 2**32 - 1):
        told = ask(b, number, SCATTERED, phase=phase, host=VICTIM, first=1, last=9, sockets=400)
        pair.hear(a, told)
    pair.run(30)
    assert all(check.endpoint.host != VICTIM for _, check in a.struck)
    assert a.state is not SAMPLING


@pytest.mark.parametrize("kinds", [("exact", "512"), ("512", "512"), ("exact", "exact")], ids=str)
def test_early_and_double_timers_are_harmless(kinds: tuple[str, str]) -> None:
    """A node's other timers wake this one at any time."""
    outcomes = []
    for is_restless in (False, True):
        pair = Pair(*kinds)
        pair.get_stuck(pair.a)
        for _ in range(1200 if is_restless else 1):
            pair.run(0.005 if is_restless else 6.0)
            for end in pair.ends:
                for _ in range(2 if is_restless else 0):
                    end.handle_timer(pair.now)
                    timer = end.guessing.get_timer()
                    pair.settle(end)
                    assert timer is None or timer > pair.now
        outcomes.append([(e.phases(), len(e.probes), len(e.struck)) for e in pair.ends])
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("state", [SAMPLING, ASKING, STRIKING])
def test_a_peer_that_is_a_member_no_more(state: object) -> None:
    """What is under way with it ends at once, and gives its sockets back; nothing begins again."""
    pair = Pair("512", "exact")
    a, b = pair.ends
    pair.get_stuck(a)
    pair.run_until(lambda: a.state is state)
    sent, struck = len(a.sent), len(a.struck)
    peer = a.peers.pop(b.name)
    a.guessing.forget(peer, pair.now)
    assert a.state is IDLE
    pair.settle(a)
    pair._queue.clear()  # Nor does what was under way between them arrive.
    b.peers.clear()
    pair.run(600)
    assert (len(a.sent), len(a.struck)) == (sent, struck)
    assert a.state is IDLE
    assert a.guessing.sockets.free == MAX_FRESH
