from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.core.reassembly import FORGET_AFTER, MAX_INCOMPLETE, MAX_PACKET, Reassembler
from tunnel.errors import Malformed
from tunnel.wire.fragment import Fragment, parse_fragment, split_packet


@given(st.lists(st.binary(min_size=1, max_size=4000), min_size=1, max_size=20), st.integers())
def test_any_order_with_copies(packets: list[bytes], seed: int) -> None:
    fragments = [
        parse_fragment(payload)
        for number, packet in enumerate(packets)
        for payload in split_packet(packet, 524, number)
    ]
    random.Random(seed).shuffle(fragments)
    reassembler = Reassembler()
    whole = [p for f in fragments if (p := reassembler.add(f, 0.0)) is not None]
    assert sorted(whole) == sorted(packets)


def test_a_copy_of_a_part_is_ignored() -> None:
    reassembler = Reassembler()
    assert reassembler.add(Fragment(1, 0, False, b"a"), 0.0) is None
    assert reassembler.add(Fragment(1, 0, False, b"x"), 0.0) is None
    assert reassembler.add(Fragment(1, 1, True, b"b"), 0.0) == b"ab"


def test_what_is_missing_for_long_is_lost() -> None:
    """A peer that has restarted counts from the beginning again."""
    reassembler = Reassembler()
    reassembler.add(Fragment(1, 0, False, b"old"), 0.0)
    later = FORGET_AFTER + 0.1
    assert reassembler.add(Fragment(1, 1, True, b"new"), later) is None
    assert reassembler.add(Fragment(1, 0, False, b"the "), later) == b"the new"


def test_bounded_in_number() -> None:
    reassembler = Reassembler()
    for packet in range(MAX_INCOMPLETE + 1):
        reassembler.add(Fragment(packet, 0, False, b"a"), 0.0)
    assert reassembler.add(Fragment(MAX_INCOMPLETE, 1, True, b"b"), 0.0) == b"ab"
    assert reassembler.add(Fragment(1, 1, True, b"b"), 0.0) == b"ab"
    assert reassembler.add(Fragment(0, 1, True, b"b"), 0.0) is None, "the oldest had to go"


@pytest.mark.parametrize(
    "fragments",
    [
        [Fragment(1, 3, False, b"a"), Fragment(1, 2, True, b"b")],
        [Fragment(1, 2, True, b"a"), Fragment(1, 3, False, b"b")],
        [Fragment(1, n, False, bytes(MAX_PACKET // 2)) for n in range(3)],
    ],
)
def test_contradictions(fragments: list[Fragment]) -> None:
    reassembler = Reassembler()
    *others, last = fragments
    for fragment in others:
        assert reassembler.add(fragment, 0.0) is None
    with pytest.raises(Malformed, match="do not belong together"):
        reassembler.add(last, 0.0)
    assert reassembler.add(Fragment(1, 0, True, b"afresh"), 0.0) == b"afresh"
