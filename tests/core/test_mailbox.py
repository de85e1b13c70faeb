"""The server's mailbox: what it takes, for whom, how much of it and how long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import ScriptedNode, Town, key
from tunnel.core.mailbox import (
    KNOWN_FOR,
    LETTER_LIFETIME,
    MAX_PER_INVITER,
    MAX_PER_SOURCE,
    REMINDERS,
    Mailbox,
)
from tunnel.core.rendezvous import UNREGISTERED_LIFETIME
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import (
    Acknowledge,
    Asked,
    Echo,
    Grant,
    Granted,
    Kept,
    Leave,
    Redeem,
    RefusalReason,
    Refused,
)

A, B = b"inviter a".ljust(32), b"inviter b".ljust(32)


def joiner_key(number: int) -> bytes:
    return b"joiner %d".ljust(32) % number


def source(number: int) -> Endpoint:
    return Endpoint(f"198.18.{number >> 8}.{number & 255}", 4000)


def put(
    box: Mailbox, number: int, now: float = 0.0, *, inviter: bytes = A, at: Endpoint | None = None
) -> bool:
    place = at or source(number)
    letter = box.put(inviter, joiner_key(number), number, b"request %d" % number, place, now)
    return letter is not None


def waiting(box: Mailbox, now: float, *, inviter: bytes = A, is_back: bool = True) -> list[int]:
    return [letter.request for _, letter in box.take_unanswered(inviter, now, is_back=is_back)]


# Bounds


def test_per_inviter() -> None:
    box = Mailbox(4096, 10)
    taken = [put(box, number) for number in range(MAX_PER_INVITER + 1)]
    assert taken == [True] * MAX_PER_INVITER + [False]
    assert box.refused == 1
    assert put(box, 0), "who has a letter already may write it anew"
    assert put(box, MAX_PER_INVITER, inviter=B)
    assert len(box) == MAX_PER_INVITER + 1


@pytest.mark.parametrize(
    ("first", "neighbour", "stranger"),
    [
        ("203.0.113.5", "203.0.113.5", "203.0.113.6"),
        ("2001:db8:1::5", "2001:db8:1:ffff::6", "2001:db8:2::5"),
    ],
)
def test_per_source(first: str, neighbour: str, stranger: str) -> None:
    box = Mailbox(4096, 10)
    for number in range(MAX_PER_SOURCE):
        assert put(box, number, at=Endpoint(first, 1000 + number))
    assert not put(box, 100, at=Endpoint(neighbour, 1))
    assert put(box, 100, at=Endpoint(stranger, 1))
    assert put(box, 0, at=Endpoint(stranger, 1)), "a letter counts for where it first came from"
    box.expire(LETTER_LIFETIME)
    assert put(box, 100, LETTER_LIFETIME, at=Endpoint(neighbour, 1))


def test_in_all() -> None:
    box = Mailbox(3, 10)
    assert [put(box, n, inviter=bytes([n]) * 32) for n in range(4)] == [True, True, True, False]


def test_known_inviters() -> None:
    box = Mailbox(10, 2)
    for at, node in enumerate((A, B, A, b"c" * 32)):
        box.note_departure(node, float(at))
    assert not box.is_known(B, 4.0), "the one that is longest away gives way"
    assert box.is_known(A, 2.0 + KNOWN_FOR - 1)
    assert not box.is_known(A, 2.0 + KNOWN_FOR)


# States


def test_expiry_counts_from_the_last_request_and_from_the_answer() -> None:
    box = Mailbox(10, 10)
    for number in (1, 2, 3):
        put(box, number)
    put(box, 2, 1000.0)
    box.answer(A, joiner_key(3), b"answer", 2000.0)
    for now, left in (
        (LETTER_LIFETIME - 1, 3),
        (LETTER_LIFETIME, 2),
        (1000 + LETTER_LIFETIME, 1),
        (2000 + LETTER_LIFETIME, 0),
    ):
        box.expire(now)
        assert len(box) == left


def test_an_inviter_is_reminded_ever_more_rarely() -> None:
    box = Mailbox(10, 10)
    put(box, 1)
    assert waiting(box, 0.0) == [1]
    now = 0.0
    for pause in (*REMINDERS, REMINDERS[-1]):
        assert waiting(box, now + pause - 1, is_back=False) == []
        now += pause
        assert waiting(box, now, is_back=False) == [1]
    assert waiting(box, now + 1, is_back=True) == [1], "a new process has heard nothing"
    assert waiting(box, now + 1, inviter=B) == []


def test_an_answer_stays_until_it_is_acknowledged() -> None:
    box = Mailbox(10, 10)
    put(box, 1)
    assert box.answer(B, joiner_key(1), b"answer", 0.0) is None, "nobody has asked B"
    letter = box.answer(A, joiner_key(1), b"answer", 0.0)
    assert letter is not None
    letter.serials.append(7)
    assert waiting(box, 0.0) == []
    for joiner, serial in ((joiner_key(1), 8), (joiner_key(2), 7), (A, 7)):
        box.acknowledge(joiner, serial)
    again = box.put(A, joiner_key(1), 55, b"another request", source(1), 0.0)
    assert again is letter
    assert (letter.answer, letter.request) == (b"answer", 55)
    box.acknowledge(joiner_key(1), 7)
    assert len(box) == 0


operations = st.lists(
    st.tuples(
        st.sampled_from(["put", "answer", "told", "ack", "take", "pass"]),
        st.integers(0, 5),
        st.integers(0, 2),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(operations)
def test_whatever_happens_the_books_agree(steps: list[tuple[str, int, int]]) -> None:
    """Against a plain list of letters; when all has expired, nothing is left in any index."""
    box = Mailbox(8, 4)
    model: dict[tuple[bytes, bytes], float] = {}
    now = 0.0
    for what, number, which in steps:
        inviter, joiner = bytes([which]) * 32, joiner_key(number)
        pair = (inviter, joiner)
        if what == "put":
            is_taken = put(box, number, now, inviter=inviter)
            assert is_taken is (pair in model or len(model) < 8)
            if is_taken:
                model[pair] = now
        elif what == "answer":
            assert (box.answer(*pair, b"answer", now) is not None) is (pair in model)
            if pair in model:
                model[pair] = now
        elif what == "told" and pair in model:
            letter = box.put(inviter, joiner, number, b"request", source(number), now)
            assert letter is not None
            letter.serials.append(which)
            model[pair] = now
        elif what == "ack" and pair in model:
            letter = box.put(inviter, joiner, number, b"request", source(number), now)
            assert letter is not None
            model[pair] = now
            has_serial = which in letter.serials
            before = len(box)
            box.acknowledge(joiner, which)
            if has_serial:
                assert len(box) < before
                others = [bytes([w]) * 32 for w in range(3)]
                for other in others:
                    # One serial may have been told of letters to several.
                    if (other, joiner) in model and (other, joiner) not in pairs_of(box):
                        del model[other, joiner]
        elif what == "take":
            found = [joiner for joiner, _ in box.take_unanswered(inviter, now, is_back=True)]
            assert {(inviter, joiner) for joiner in found} <= set(model)
        elif what == "pass":
            now += LETTER_LIFETIME / 3
        box.expire(now)
        model = {key: at for key, at in model.items() if now < at + LETTER_LIFETIME}
        assert pairs_of(box) == set(model)
    box.expire(now + LETTER_LIFETIME)
    assert len(box) == 0
    for number in range(8):
        assert put(box, number, now, inviter=bytes([number]) * 32, at=source(0))


def pairs_of(box: Mailbox) -> set[tuple[bytes, bytes]]:
    inviters, joiners = [bytes([n]) * 32 for n in range(8)], [joiner_key(n) for n in range(8)]
    return {(one, other) for one in inviters for other in joiners if (one, other) in box}


# At the server


def departed(town: Town, number: int = 1) -> bytes:
    """The key of a node that was registered and has left."""
    node = town.add(number)
    node.send(Leave())
    return node.key.data


def connected(town: Town, number: int, endpoint: Endpoint | None = None) -> ScriptedNode:
    node = ScriptedNode(town, number, endpoint)
    node.connect()
    return node


def test_a_request_waits_for_an_inviter_that_was_here() -> None:
    town = Town()
    inviter_key = departed(town)
    joiner = connected(town, 5)
    joiner.send(Redeem(77, inviter_key, b"request"))
    assert joiner.heard == [Kept(77)]
    town.advance(2 * UNREGISTERED_LIFETIME)
    assert town.server.status(town.clock.now)["sessions"] == 0
    town.advance(86400)
    inviter = town.add(1)
    (asked,) = inviter.take(Asked)
    assert (asked.request, asked.joiner, asked.sealed) == (77, joiner.key.data, b"request")
    inviter.send(Acknowledge(asked.serial))
    inviter.send(Grant(77, joiner.key.data, b"answer"))
    inviter.send(Leave())
    assert town.lost == []
    town.advance(86400)
    again = connected(town, 5, joiner.endpoint)
    again.send(Redeem(78, inviter_key, b"the same, sealed anew"))
    (granted,) = again.take(Granted)
    assert granted == Granted(granted.serial, 78, b"answer")
    assert town.server.status(town.clock.now)["letters"] == 1
    again.send(Acknowledge(granted.serial))
    assert town.server.status(town.clock.now)["letters"] == 0


@pytest.mark.parametrize("away", [KNOWN_FOR - 1, KNOWN_FOR])
def test_nothing_waits_for_one_that_was_here_long_ago_or_never(away: float) -> None:
    town = Town()
    inviter_key = departed(town)
    town.advance(away)
    joiner = connected(town, 5)
    joiner.send(Redeem(77, inviter_key, b"request"))
    offline = Refused(RefusalReason.INVITER_OFFLINE, 77)
    assert joiner.heard == [Kept(77) if away < KNOWN_FOR else offline]
    joiner.heard.clear()
    joiner.send(Redeem(77, key(2).public_key.data, b"request"))
    assert joiner.heard == [offline]


def test_a_full_mailbox_refuses_and_those_who_stay_are_let_in() -> None:
    town = Town(max_letters=1)
    inviter_key = departed(town)
    first, second = connected(town, 5), connected(town, 6)
    first.send(Redeem(1, inviter_key, b"first"))
    second.send(Redeem(2, inviter_key, b"second"))
    assert first.heard == [Kept(1)]
    assert second.heard == [Refused(RefusalReason.INVITER_OFFLINE, 2)]
    assert town.server.status(town.clock.now)["letters_refused"] == 1
    inviter = town.add(1)
    assert [asked.sealed for asked in inviter.take(Asked)] == [b"first"]
    second.send(Redeem(2, inviter_key, b"second"))
    (asked,) = inviter.take(Asked)
    inviter.send(Grant(asked.request, asked.joiner, b"answer"))
    assert [granted.sealed for granted in second.take(Granted)] == [b"answer"]


def test_an_inviter_that_says_nothing_is_asked_again_when_it_echoes() -> None:
    town = Town()
    inviter_key = departed(town)
    connected(town, 5).send(Redeem(77, inviter_key, b"request"))
    inviter = town.add(1)
    (asked,) = inviter.take(Asked)
    inviter.send(Acknowledge(asked.serial))
    inviter.send(Echo(1, 0))
    assert inviter.take(Asked) == []
    town.advance(REMINDERS[0])
    inviter.send(Echo(2, 0))
    (again,) = inviter.take(Asked)
    assert again == asked._replace(serial=again.serial)


def test_an_inviter_that_died_while_it_was_asked_is_asked_when_it_is_back() -> None:
    town = Town()
    inviter = town.add(1)
    joiner = connected(town, 5)
    joiner.send(Redeem(77, inviter.key.data, b"request"))
    for asked in inviter.take(Asked):
        inviter.send(Acknowledge(asked.serial))
    town.advance(1)
    again = ScriptedNode(town, 1, inviter.endpoint)
    again.connect()
    again.register()
    assert [asked.sealed for asked in again.take(Asked)] == [b"request"]


def test_an_answer_is_told_by_the_number_of_the_last_request() -> None:
    """The joiner was started anew while the inviter was asked for the one before."""
    town = Town()
    inviter = town.add(1)
    joiner = connected(town, 5)
    joiner.send(Redeem(77, inviter.key.data, b"request"))
    town.advance(1)
    again = connected(town, 5, joiner.endpoint)
    again.send(Redeem(78, inviter.key.data, b"request, sealed anew"))
    assert [asked.request for asked in inviter.take(Asked)][:1] == [77]
    inviter.send(Grant(77, joiner.key.data, b"answer"))
    assert {granted.request for granted in again.take(Granted)} == {78}


def test_a_server_that_was_restarted_knows_of_nothing() -> None:
    town = Town()
    inviter_key = departed(town)
    connected(town, 5).send(Redeem(77, inviter_key, b"request"))
    fresh = Town()
    joiner = connected(fresh, 5)
    joiner.send(Redeem(78, inviter_key, b"request"))
    assert joiner.heard == [Refused(RefusalReason.INVITER_OFFLINE, 78)]
