"""The exchange before an attempt, and the attempt: each transition of the table in the module."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.guessing_ends import (
    ASKING,
    IDLE,
    SAMPLING,
    SERVER,
    STRIKING,
    VICTIM,
    End,
    Pair,
    ask,
)
from tunnel.core.fresh_sockets import FIRST_FRESH, MAX_FRESH
from tunnel.core.guess_record import GUESS_DELAY
from tunnel.core.port_guessing import (
    AFTERMATH,
    ASK_TRIES,
    HIGHEST_TTL,
    LINGER,
    TIDY_INTERVAL,
)
from tunnel.core.stuck_pairs import ROLE_DELAY, SPACING
from tunnel.wire.check import Phase, Prediction, PredictionKind, Refusal

ASK, ANSWER, DECLINE = Phase
EXACT, SEQUENTIAL, SCATTERED = PredictionKind
KINDS = ("exact", "sequential", "64", "512")


def record(end: End, of: End):  # type: ignore[no-untyped-def]
    return end.guessing.record(end.peer(of))


# The table


def test_from_stuck_to_the_end_of_the_plan() -> None:
    pair = Pair()
    a, b = pair.ends
    pair.get_stuck(a)
    assert (a.state, b.state) == (SAMPLING, IDLE)
    pair.run_until(lambda: a.state is ASKING)
    pair.run_until(lambda: b.state is SAMPLING)
    pair.run_until(lambda: b.state is STRIKING)
    pair.run_until(lambda: a.state is STRIKING)
    assert (a.phases(), b.phases()) == ([ASK], [ANSWER])
    pair.run_until(lambda: (a.state, b.state) == (IDLE, IDLE))
    for end, other in ((a, b), (b, a)):
        targets = {check.endpoint for _, check in end.struck}
        assert targets == {other.observed(FIRST_FRESH, end.struck[0][1].endpoint)}
        assert [check.payload is None for _, check in end.struck] == [True] + [False] * 8
        assert (end.released, record(end, other).tries) == ([FIRST_FRESH], 1)
    first = [end.struck[0][0] for end in pair.ends]
    assert abs(first[0] - first[1]) < 0.001


@pytest.mark.parametrize("kinds", list(product(KINDS, repeat=2)), ids="-".join)
def test_both_aim_at_where_the_other_said(kinds: tuple[str, str]) -> None:
    """What is sent, is sent to the other's address; by both, or not at all."""
    pair = Pair(*kinds)
    a, b = pair.ends
    pair.get_stuck(a)
    pair.run(ROLE_DELAY)
    assert (a.state, b.state) == (STRIKING, STRIKING)
    pair.rest()
    for end, other in ((a, b), (b, a)):
        assert {check.endpoint.host for _, check in end.struck} == {other.host}
        assert not end.opened - set(end.released)
        assert Counter(end.released).most_common(1)[0][1] <= record(end, other).tries + 1


def test_a_path_ends_it() -> None:
    pair = Pair("exact", "random")
    a, b = pair.ends
    pair.get_stuck(a)
    pair.run_until(lambda: len(a.struck) > 20 and len(b.struck) > 100)
    used = {end.name: end.struck[-1][1].local for end in pair.ends}
    for end, other in ((a, b), (b, a)):
        end.peer(other).traversal.succeed(used[end.name])
    counts = [len(end.struck) for end in pair.ends]
    pair.run(LINGER + AFTERMATH + 0.1)
    assert (a.state, b.state) == (IDLE, IDLE)
    assert all(len(end.struck) <= count + 1 for end, count in zip(pair.ends, counts, strict=True))
    for end in pair.ends:
        assert set(end.released) >= end.opened - {used[end.name]}
        assert used[end.name] not in end.released
    # Another way is found later: the last socket is of no use.
    for end, other in ((a, b), (b, a)):
        end.peer(other).traversal.locals_in_use = {0}
    pair.run(2 * TIDY_INTERVAL)
    for end in pair.ends:
        assert used[end.name] in end.released
        assert end.guessing.sockets.free == MAX_FRESH
        assert max(Counter(end.released).values()) == 1


def test_the_greater_key_asks_later() -> None:
    pair = Pair()
    pair.get_stuck(pair.b)
    assert pair.b.state is IDLE
    pair.run(ROLE_DELAY - 0.01)
    assert pair.b.state is IDLE
    pair.run(0.02)
    assert pair.b.state is SAMPLING


def test_no_sample_comes_back() -> None:
    pair = Pair()
    a, b = pair.ends
    a.server_answers = False
    pair.get_stuck(a)
    pair.run(1.0)
    assert (a.state, record(a, b).refusal) == (IDLE, Refusal.UNPREDICTABLE)
    assert not a.sent
    assert set(a.released) >= a.opened
    a.server_answers, b.server_answers = True, False
    pair.run(62)
    assert b.refusals() == [Refusal.UNPREDICTABLE]
    assert (record(a, b).refusal, record(a, b).refused_by_peer) == (Refusal.UNPREDICTABLE, True)


def test_several_addresses_are_unpredictable() -> None:
    pair = Pair("512")
    a, b = pair.ends
    hosts = iter(range(1, 250))
    observed = a.observed
    a.observed = lambda *asked: observed(*asked)._replace(  # type: ignore[method-assign]
        host=f"203.0.113.{next(hosts)}"
    )
    pair.get_stuck(a)
    pair.run(1.0)
    assert record(a, b).refusal is Refusal.UNPREDICTABLE
    assert not a.sent


def test_without_server_or_relay_nothing_begins() -> None:
    for what in ("connected", "udp", "keys", "relay", "alive", "ipv6"):
        pair = Pair()
        a, b = pair.ends
        peer = a.peer(b)
        if what == "connected":
            a.registration.is_connected = False
        elif what == "udp":
            a.registration.link.is_on_stream = True
        elif what == "keys":
            peer.has_keys = False
        elif what == "relay":
            peer.traversal.relay = None
        elif what == "alive":
            peer.traversal.relay.is_alive = lambda now: False
        else:
            link = a.registration.link
            link.endpoint = SERVER._replace(host="2001:db8::1")
            link.endpoints = [link.endpoint]
        pair.get_stuck(a)
        pair.run(10)
        assert (a.state, a.probes, a.guessing.get_timer()) == (IDLE, [], None), what


# Losses


def test_a_lost_ask_is_repeated() -> None:
    pair = Pair()
    a, b = pair.ends
    pair.lose = lambda end, told: end is a and len(a.sent) == 1
    pair.get_stuck(a)
    pair.run(2)
    assert a.phases() == [ASK, ASK]
    assert len({prediction.attempt for _, prediction in a.sent}) == 1
    assert a.struck
    assert b.struck


def test_a_lost_answer_is_repeated_with_the_next_ask() -> None:
    pair = Pair()
    a, b = pair.ends
    pair.lose = lambda end, told: end is b and len(b.sent) == 1
    pair.get_stuck(a)
    pair.run(2)
    assert (a.phases(), b.phases()) == ([ASK, ASK], [ANSWER, ANSWER])
    assert a.struck


def test_nobody_answers() -> None:
    pair = Pair()
    a, b = pair.ends
    pair.lose = lambda end, told: True
    pair.get_stuck(a)
    pair.run_until(lambda: a.state is ASKING)
    pair.run_until(lambda: a.state is IDLE)
    assert a.phases() == [ASK] * ASK_TRIES
    gaps = [y - x for (x, _), (y, _) in pairwise(a.sent)]
    assert gaps == sorted(gaps)
    assert gaps[0] > 0.3
    assert set(a.released) >= a.opened
    b.peer(a).traversal.succeed(0)
    pair.run(1)
    assert a.state is IDLE  # Not again at once.


def test_a_lost_refusal_is_told_again() -> None:
    pair = Pair("random", "random")
    a, b = pair.ends
    pair.lose = lambda end, told: end is b and len(b.sent) == 1
    pair.get_stuck(a)
    pair.run(3)
    assert a.state is IDLE
    assert record(a, b).refusal in (Refusal.HOPELESS, Refusal.BUSY)
    assert set(a.released) >= a.opened


@pytest.mark.parametrize("seed", range(6))
def test_both_ask_at_once(seed: int) -> None:
    """The greater number counts, and both do the same."""
    for kinds in product(KINDS, repeat=2):
        pair = Pair(*kinds, seed=seed)
        a, b = pair.ends
        pair.get_stuck(b)
        pair.run(ROLE_DELAY - 0.001)
        pair.get_stuck(a)
        pair.run(0.5)
        assert (a.state, b.state) == (STRIKING, STRIKING), kinds
        assert sorted((a.phases()[0], b.phases()[0])) == [ASK, ASK]
        told = {end.name: end.sent[0][1].attempt for end in pair.ends}
        winner = max(pair.ends, key=lambda end: told[end.name])
        loser = b if winner is a else a
        assert [p.attempt for _, p in loser.sent if p.phase is ANSWER] == [told[winner.name]]
        assert ANSWER not in winner.phases()


# Refusals


def test_busy_with_another() -> None:
    pair = Pair()
    a, b = pair.ends
    third = End("c", 3, 9)
    pair.add(third, b)
    pair.hear(b, ask(third), of=third)
    assert b.state is SAMPLING
    pair.get_stuck(a)
    pair.run(0.5)
    assert Refusal.BUSY in b.refusals()
    assert (record(a, b).refusal, a.state) == (Refusal.BUSY, IDLE)
    pair.run(15)
    assert {check.endpoint.host for _, check in b.struck} == {a.host, third.host}


def test_hopeless() -> None:
    pair = Pair("random", "random")
    a, b = pair.ends
    pair.get_stuck(a)
    pair.run(20)
    assert b.refusals() == [Refusal.HOPELESS]
    for one, other in ((a, b), (b, a)):
        assert record(one, other).refusal is Refusal.HOPELESS
        assert (record(one, other).chance or 0.0) < 0.02
        assert not one.struck
        assert set(one.released) >= one.opened
    pair.run(570)
    assert len(a.probes) == 12
    pair.run(60)
    assert len(a.probes) > 12


def test_without_entries_nothing_is_begun() -> None:
    for which in "ab":
        pair = Pair("exact", "random")
        a, b = pair.ends
        end = getattr(pair, which)
        end.guessing.budget.spend(480, pair.now)
        pair.get_stuck(a)
        pair.run(20)
        assert len([check for _, check in end.struck]) < 32, which
        pair.run(120)
        assert len(b.struck) > 300


# What a peer may say


@pytest.mark.parametrize("phase", [ANSWER, DECLINE])
def test_what_nobody_asked_for_is_ignored(phase: Phase) -> None:
    pair = Pair()
    a, b = pair.ends
    pair.hear(a, ask(b, phase=phase))
    assert (a.state, a.guessing.get_timer(), a.struck) == (IDLE, None, [])
    pair.get_stuck(a)
    pair.run_until(lambda: a.state is ASKING)
    pair.hear(a, ask(b, 1 + a.sent[0][1].attempt, phase=phase))
    assert a.state is ASKING


def test_an_attempt_replayed() -> None:
    """An old ask is one more ask; old answers and refusals are nothing."""
    pair = Pair()
    a, b = pair.ends
    pair.get_stuck(a)
    pair.run(10)
    asked, answered = a.sent[0][1], b.sent[0][1]
    pair.rest()
    strikes = len(a.struck)
    for prediction in (answered, answered._replace(phase=DECLINE)):
        pair.hear(a, prediction)
    assert (a.state, len(a.struck)) == (IDLE, strikes)
    pair.hear(b, asked)
    assert b.state is SAMPLING
    pair.hear(b, asked)
    assert len({asked.local for _, asked in b.probes}) <= 3


def test_a_flood_of_asks() -> None:
    """From one member or from many: entries, sockets and answers stay bounded."""
    pair = Pair("exact", "random")
    b = pair.b
    members = [End(f"m{number}", number, number) for number in range(10, 30)]
    for member in members:
        pair.add(member, b)
    for second in range(120):
        for number, member in enumerate(members):
            told = ask(member, 100 * second + number, SCATTERED, first=1, last=65535, sockets=65535)
            for prediction in (told, told._replace(kind=EXACT, last=1)):
                pair.hear(b, prediction, of=member)
        pair.run(1.0)
    sent = [(at, (check.endpoint, check.local)) for at, check in b.struck]
    sent += [(at, (asked.endpoint, asked.local)) for at, asked in b.probes]
    for start in range(1000, 1120, 5):
        assert len({way for at, way in sent if start <= at < start + 30}) <= 480
    assert len(b.sent) <= 120 * len(members) * 2 + 120
    assert b.guessing.sockets.free >= 0
    pair.run(200)
    assert b.state is IDLE
    assert b.guessing.sockets.free == MAX_FRESH


def test_a_start_far_away_and_very_many_sockets_do_not_block_for_long() -> None:
    pair = Pair("exact", "512")
    a, b = pair.ends
    pair.lose = lambda end, told: end is b
    pair.get_stuck(a)
    pair.run_until(lambda: a.state is ASKING)
    number = a.sent[0][1].attempt
    told = ask(b, number, SCATTERED, phase=ANSWER, first=1, last=65535, sockets=65535, start=65535)
    pair.hear(a, told)
    assert a.state is STRIKING
    pair.run_until(lambda: a.state is IDLE, 80)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Phase),
            st.integers(1, 4),
            st.integers(0, 255),
            st.integers(0, 9),
            st.integers(1, 65535),
            st.integers(0, 65535),
            st.integers(1, 65535),
            st.integers(1, 65535),
            st.booleans(),
            st.floats(0, 3),
        ),
        max_size=12,
    ),
    st.sampled_from(["exact", "sequential", "512", "random"]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_said(told: list[tuple], kind: str) -> None:  # type: ignore[type-arg]
    """Nothing raises, nothing goes to an address that is not credible or to port 0, every socket is
    given up once."""
    pair = Pair(kind, "exact")
    a, b = pair.ends
    pair.get_stuck(a)
    for phase, number, wish, attempt, sockets, start, first, last, is_credible, pause in told:
        if phase is not DECLINE and number == 4:
            number = 1
        b.is_credible = is_credible
        attempts = [prediction.attempt for _, prediction in a.sent] or [0]
        chosen = attempts[-1] if attempt > 5 else attempt
        host = "" if is_credible else VICTIM
        said = ask(b, chosen, phase=phase, first=first, last=last, host=host, sockets=sockets)
        pair.hear(a, said._replace(kind=number, wish=wish, start=start))
        pair.run(pause)
    pair.run(400)
    assert all(check.endpoint.host == b.host for _, check in a.struck)
    assert len(a.guessing.sockets._taken) <= MAX_FRESH
    a.peer(b).traversal.stuck = False
    pair.run(700)
    assert a.state is IDLE
    assert a.guessing.sockets.free == MAX_FRESH


# Resets, timers, spacing


@pytest.mark.parametrize("state", [IDLE, SAMPLING, ASKING, STRIKING])
def test_reset_in_each_state(state: object) -> None:
    pair = Pair("512", "exact")
    a, b = pair.ends
    if state is IDLE:
        a.handle_timer(pair.now)
    else:
        pair.get_stuck(a)
        pair.run_until(lambda: a.state is state)
    a.guessing.reset(pair.now)
    pair.settle(a)
    assert a.state is IDLE
    assert record(a, b).tries == 0
    assert a.guessing.sockets.free == MAX_FRESH
    struck = len(a.struck)
    a.peer(b).traversal.stuck = False
    pair.run(300)
    assert len(a.struck) == struck
    assert Counter(a.released) == Counter(a.opened | set(a.released))
    pair.get_stuck(a)
    pair.run_until(lambda: a.state is STRIKING, 30)


def test_the_peer_vanishes_in_the_midst() -> None:
    """Its keys are gone: the plan is carried out, nothing is left."""
    pair = Pair("exact", "512")
    a, b = pair.ends
    pair.get_stuck(a)
    pair.run_until(lambda: len(a.struck) > 10)
    for end, other in ((a, b), (b, a)):
        end.peer(other).has_keys = False
        end.peer(other).traversal.relay = None
    pair.run(10)
    assert (a.state, b.state) == (IDLE, IDLE)
    assert all(end.guessing.sockets.free == MAX_FRESH for end in pair.ends)
    assert a.guessing.get_timer() is None


def test_same_seed_same_output() -> None:
    outputs = []
    for seed in (3, 3, 4):
        pair = Pair("512", "64", seed=seed)
        pair.get_stuck(pair.a)
        pair.run(300)
        outputs.append([(e.sent, e.struck, e.released) for e in pair.ends])
    assert outputs[0] == outputs[1] != outputs[2]


def test_attempts_that_guess_are_spaced() -> None:
    for kinds in product(KINDS, repeat=2):
        pair = Pair(*kinds)
        a = pair.a
        pair.get_stuck(a)
        pair.run(1200)
        begun = [at for at, prediction in pair.b.sent if prediction.phase is ANSWER]
        assert len(begun) > 3
        if kinds != ("exact", "exact"):
            assert all(y - x >= SPACING for x, y in pairwise(begun)), kinds
    assert GUESS_DELAY >= SPACING


def test_the_one_that_is_due_first_comes_first() -> None:
    """A pair whose lottery goes on for hours does not keep others from theirs."""
    pair = Pair("512", "512")
    a, b = pair.ends
    third = End("c", 3, 9, "exact")
    pair.add(third, a)
    pair.get_stuck(a)
    pair.run(600)
    assert {check.endpoint.host for _, check in a.struck} == {b.host, third.host}


def test_refusals_cost_little() -> None:
    """A peer that is always busy: asked less and less, and the samples don't eat up the budget."""
    pair = Pair("512", "exact")
    a, b = pair.ends
    third = End("c", 3, 9)
    pair.add(third, b)
    b.guessing.sockets.take(MAX_FRESH)
    pair.get_stuck(a)
    pair.run(300)
    assert set(b.refusals()) == {Refusal.BUSY}
    assert 3 < len(b.refusals()) < 12
    assert record(a, b).tries <= 1
    assert a.guessing.budget.left(pair.now) > 400


def test_openers_go_farther_when_all_ways_were_in_vain() -> None:
    pair = Pair()
    pair.get_stuck(pair.a)
    pair.run(3600)
    ttls = [check.ttl for _, check in pair.a.struck if check.payload is None]
    assert ttls[0] == 4
    assert ttls == sorted(ttls)
    assert 4 < max(ttl or 0 for ttl in ttls) <= HIGHEST_TTL


def test_pings_of_an_attempt_have_one_transaction_and_are_expected() -> None:
    pair = Pair("exact", "64")
    a, b = pair.ends
    pair.get_stuck(a)
    pair.run(1 + AFTERMATH)
    payloads = {check.payload for _, check in a.struck} - {None}
    assert len(payloads) == 1
    (transaction,) = a.peer(b).traversal.transactions
    assert payloads.pop()[4:12] == transaction.to_bytes(8, "little")  # type: ignore[index]


def test_asks_name_the_range_and_the_sockets() -> None:
    pair = Pair("512", "sequential")
    a, b = pair.ends
    pair.get_stuck(a)
    pair.run(1)
    told = a.sent[0][1]
    assert isinstance(told, Prediction)
    assert (told.kind, told.phase) == (SCATTERED, ASK)
    assert told.first.host == a.host
    assert told.sockets == len({c.local for _, c in a.struck}) or told.sockets >= 32
    answer = b.sent[0][1]
    assert (answer.kind, answer.attempt, answer.sockets) == (SEQUENTIAL, told.attempt, 1)
    assert answer.first.port == b.observed(FIRST_FRESH, SERVER).port + 12
