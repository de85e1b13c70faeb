"""The set of those who are members no more."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ends import WALL, Network, key
from tunnel.core.revocations import MAX_REVOCATIONS, Revocations, sign_revocation
from tunnel.errors import AuthenticationFailed
from tunnel.noise.keys import PublicKey, SigningKey
from tunnel.wire.revocation import DIGESTS_LENGTH, Revocation, parse_revocation

NETWORK = Network()
SIGNED = [
    sign_revocation(PublicKey(bytes([number * 5]) * 32), WALL, NETWORK.signing_key)
    for number in range(1, 40)
]


def empty() -> Revocations:
    return Revocations(NETWORK.identity.key)


def holding(revocations: list[Revocation]) -> Revocations:
    made = empty()
    for revocation in revocations:
        made.add(revocation)
    return made


def test_golden_signature() -> None:
    """A statement by a key of 32 bytes 01, for another implementation to compare."""
    signing_key = SigningKey(b"\x01" * 32)
    signed = sign_revocation(PublicKey(b"\x02" * 32), 0x0102030405060708, signing_key)
    assert signed.pack().hex() == (
        "01000000"
        "0807060504030201"
        + "02" * 32
        + "00" * 32
        + "55dca488a52f98f28541d0267be8902bb52fdfcee52717b3f69a46dbe68ebf9c"
        + "ff3a3a83aaeb59029c146ffbfc98a8ca848bc324a5fb7828029a730cf08e6103"
    )
    assert Revocations(signing_key.verify_key).add(parse_revocation(signed.pack()))


def test_one_is_kept_for_a_key() -> None:
    revocations = empty()
    first = SIGNED[0]
    later = sign_revocation(PublicKey(first.key), WALL + 9, NETWORK.signing_key)
    assert first.key not in revocations
    assert revocations.add(first)
    assert not revocations.add(later)
    assert first.key in revocations
    assert list(revocations) == [first]
    assert revocations.get(first.key) == first


def test_only_the_networks_own_word_counts() -> None:
    revocations = empty()
    stranger = Network(seed=8)
    forged = [
        sign_revocation(key(2).public_key, WALL, stranger.signing_key),
        replace(SIGNED[0], revoked=SIGNED[0].revoked + 1),
        replace(SIGNED[0], key=SIGNED[1].key),
        replace(SIGNED[0], signature=bytes(64)),
        replace(SIGNED[0], signature=b""),
        # What the network has signed for another purpose.
        Revocation(NETWORK.certificate.key, int(WALL), NETWORK.certificate.signature),
    ]
    for revocation in forged:
        with pytest.raises(AuthenticationFailed, match="signature"):
            revocations.add(revocation)
    assert len(revocations) == 0
    assert revocations.digests == bytes(DIGESTS_LENGTH)


def test_there_is_a_bound() -> None:
    revocations = empty()
    for number in range(MAX_REVOCATIONS + 1):
        one = sign_revocation(
            PublicKey(number.to_bytes(2, "little") + bytes(30)), WALL, NETWORK.signing_key
        )
        if number < MAX_REVOCATIONS:
            revocations.add(one)
        else:
            with pytest.raises(AuthenticationFailed, match="too many"):
                revocations.add(one)
    assert len(revocations) == MAX_REVOCATIONS


@settings(max_examples=40, deadline=None)
@given(
    ours=st.lists(st.sampled_from(SIGNED), unique=True),
    theirs=st.lists(st.sampled_from(SIGNED), unique=True),
)
def test_digests_tell_what_is_missing(ours: list[Revocation], theirs: list[Revocation]) -> None:
    """In whatever order they came. Nothing is to be sent when the sets are the same, and what is
    sent makes them the same."""
    here, there = holding(ours), holding(theirs)
    assert holding(ours[::-1]).digests == here.digests
    assert (here.digests == there.digests) is (set(ours) == set(theirs))
    sent = here.differing(there.digests)
    assert set(ours) - set(theirs) <= set(sent) <= set(ours)
    back = there.differing(here.digests)
    for one in sent:
        there.add(one)
    for one in back:
        here.add(one)
    assert here.digests == there.digests
    assert here.differing(there.digests) == []


# With a successor


def rotated(number: int, successor: int) -> Revocation:
    new = key(successor).public_key.data
    return sign_revocation(key(number).public_key, WALL, NETWORK.signing_key, new)


def test_of_several_about_one_key_all_nodes_keep_the_same() -> None:
    """In whatever order they come: a member that was expelled is none, whatever key it had made
    before; and of two keys that took the place of one, one counts."""
    final = sign_revocation(key(2).public_key, WALL, NETWORK.signing_key)
    three = (final, rotated(2, 30), rotated(2, 31))
    smaller = min(three[1:], key=lambda each: each.successor)
    for order in permutations(three):
        known = Revocations(NETWORK.identity.key)
        for each in order:
            known.add(each)
        assert list(known) == [final]
    for order in permutations(three[1:]):
        known = Revocations(NETWORK.identity.key)
        for each in order:
            known.add(each)
        assert list(known) == [smaller]
        before = known.digests
        assert known.add(final), "news, and seen in the digest"
        assert known.digests != before
        assert not known.add(smaller)


def test_a_successor_is_signed_for() -> None:
    known = Revocations(NETWORK.identity.key)
    with pytest.raises(AuthenticationFailed):
        known.add(replace(rotated(2, 30), successor=key(31).public_key.data))
    known.add(rotated(2, 30))
    with pytest.raises(AuthenticationFailed):
        known.add(replace(rotated(2, 30), successor=bytes(32)))
    assert list(known) == [rotated(2, 30)]


def test_what_outranks_another_is_kept_though_there_is_no_room() -> None:
    known = Revocations(NETWORK.identity.key)
    known.add(rotated(2, 30))
    for number in range(MAX_REVOCATIONS - 1):
        other = PublicKey(number.to_bytes(32, "big"))
        known.add(sign_revocation(other, WALL, NETWORK.signing_key))
    assert known.is_full
    assert known.add(sign_revocation(key(2).public_key, WALL, NETWORK.signing_key))
