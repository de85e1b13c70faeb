"""Who is told what of revocations, and when."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.core.ends import key
from tests.core.expulsion_ends import OWN, Talker, revocation
from tunnel.core.events import MemberRevoked
from tunnel.core.expulsion import DELAYS, FAREWELLS, LOOK_AFTER, SPACING
from tunnel.errors import AuthenticationFailed
from tunnel.wire.revocation import DIGESTS_LENGTH, RevocationDigest, RevocationList

NONE = bytes(DIGESTS_LENGTH)
OTHER = b"\x01" * DIGESTS_LENGTH


def test_a_session_that_comes_up_is_greeted_with_a_digest() -> None:
    talker = Talker().greet_all()
    assert talker.take("n2") == [RevocationDigest(NONE, wants_answer=True)]
    assert len(talker.take()) == 2


def test_nothing_more_is_said_to_who_knows_the_same() -> None:
    talker = Talker().greet_all()
    talker.take()
    for peer in talker.peers:
        talker.expulsion.receive_digest(RevocationDigest(NONE), peer, talker.now)
    talker.run(100_000)
    assert talker.take() == []
    assert talker.expulsion.get_timer() is None


def test_who_asks_is_answered_once() -> None:
    talker = Talker().greet_all()
    talker.take()
    for _ in range(10):
        asked = RevocationDigest(NONE, wants_answer=True)
        talker.expulsion.receive_digest(asked, talker.peer(2), talker.now)
        talker.run(0.01)
    talker.run(SPACING)
    assert talker.take("n2") == [RevocationDigest(NONE)]


def test_who_does_not_answer_is_asked_ever_less_often() -> None:
    talker = Talker().greet_all()
    talker.run(2000)
    times = [at for at, to, _ in talker.said if to == "n2"]
    gaps = [after - before for before, after in pairwise(times)]
    assert [round(gap, 6) for gap in gaps] == [*DELAYS[1:], 600.0, 600.0]


def test_a_new_revocation_goes_to_all_but_the_member_itself() -> None:
    talker = Talker().greet_all()
    for peer in talker.peers:
        talker.expulsion.receive_digest(RevocationDigest(NONE), peer, talker.now)
    talker.run(10)
    talker.take()
    told = RevocationList((revocation(4),))
    talker.expulsion.receive_list(told, talker.peer(2), talker.now)
    assert talker.take("n4") == [told] * FAREWELLS
    assert [peer.name for peer in talker.peers] == ["n2", "n3"]
    assert talker.forgotten == ["n4"]
    talker.run(0)
    digest = RevocationDigest(talker.revocations.digests, wants_answer=True)
    # The one that told may not know what others have told.
    assert talker.take("n3") == [told, digest]
    assert talker.take("n2") == [told, digest]
    assert talker.expulsion.take_events() == [MemberRevoked("n4", str(key(4).public_key))]
    assert not talker.expulsion.carry_out(revocation(4), talker.now), "no news"
    assert talker.expulsion.take_events() == []


def test_a_member_that_is_not_known_here() -> None:
    talker = Talker()
    assert talker.expulsion.carry_out(revocation(9), talker.now)
    (event,) = talker.expulsion.take_events()
    assert isinstance(event, MemberRevoked)
    assert (event.peer, event.is_own) == ("", False)
    assert talker.said == []


def test_a_member_without_a_session_is_not_written_to() -> None:
    talker = Talker()
    talker.peer(4).has_keys = False
    talker.expulsion.carry_out(revocation(4), talker.now)
    assert talker.said == []
    assert [peer.name for peer in talker.peers] == ["n2", "n3"]


def test_our_own_is_passed_on_and_is_the_last() -> None:
    talker = Talker().greet_all()
    talker.take()
    own = revocation(1)
    assert own.key == OWN.key
    other = RevocationList((own, revocation(2)))
    talker.expulsion.receive_list(other, talker.peer(3), talker.now)
    assert talker.expulsion.is_expelled
    assert talker.has_left
    assert [(to, check) for _, to, check in talker.said] == [
        (name, RevocationList((own,))) for name in ("n2", "n3", "n4")
    ]
    assert list(talker.peers) == []
    (event,) = talker.expulsion.take_events()
    assert event == MemberRevoked("own", event.key, is_own=True)  # type: ignore[union-attr]
    assert talker.expulsion.get_timer() is None


def test_those_before_a_forged_one_count() -> None:
    talker = Talker()
    forged = replace(revocation(3), revoked=1)
    listed = RevocationList((revocation(4), forged, revocation(2)))
    with pytest.raises(AuthenticationFailed, match="signature"):
        talker.expulsion.receive_list(listed, talker.peer(2), talker.now)
    assert [peer.name for peer in talker.peers] == ["n2", "n3"]


def test_without_a_way_it_waits_for_one() -> None:
    """And does not spin meanwhile; an event wakes it."""
    talker = Talker()
    talker.peer(2).has_route = False
    talker.greet_all()
    assert talker.take("n2") == []
    for peer in list(talker.peers)[1:]:
        talker.expulsion.receive_digest(RevocationDigest(NONE), peer, talker.now)
    talker.run(3600)
    talker.peer(2).has_route = True
    talker.expulsion.wake(talker.now)
    talker.run(LOOK_AFTER)
    assert talker.take("n2") == [RevocationDigest(NONE, wants_answer=True)]


def test_timers_early_and_twice() -> None:
    talker = Talker().greet_all()
    talker.take()
    for _ in range(20):
        talker.expulsion.handle_timer(talker.now)
    assert talker.take() == []


def test_what_comes_back_differently_is_told_again_soon() -> None:
    """A peer that has lost its file, or was restored from a backup."""
    talker = Talker().greet_all()
    talker.expulsion.carry_out(revocation(9), talker.now)
    talker.run(2000)
    talker.take()
    talker.expulsion.receive_digest(RevocationDigest(OTHER), talker.peer(2), talker.now)
    talker.run(SPACING)
    listed, _ = talker.take("n2")
    assert listed == RevocationList((revocation(9),))


def test_news_is_told_at_once_also_to_who_has_long_been_behind() -> None:
    """It is told every ten minutes what it does not take; that must not delay what is new."""
    talker = Talker().greet_all()
    talker.expulsion.receive_digest(RevocationDigest(NONE), talker.peer(2), talker.now)
    talker.expulsion.carry_out(revocation(9), talker.now)
    talker.run(2000)
    talker.take()
    talker.expulsion.carry_out(revocation(10), talker.now)
    talker.run(SPACING)
    told = [check for check in talker.take("n2") if isinstance(check, RevocationList)]
    assert revocation(10) in [one for listed in told for one in listed.revocations]
