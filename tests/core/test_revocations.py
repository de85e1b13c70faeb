"""The set of those who are members no more."""

from __future__ import annotations

from dataclasses import replace

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
        + "de64cf37fe4566403274c426c93860fa12a4cc41d1ed4f332a332359d57c5f10"
        + "8256a5662d3d14ed7fb323eb57a4bd24b84279dcfa73b45c43b5faf5e0447f0a"
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
