from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.errors import Malformed
from tunnel.wire.fragment import MAX_FRAGMENTS, Fragment, parse_fragment, split_packet


@pytest.mark.parametrize(
    ("fragment", "golden"),
    [
        (Fragment(0x01020304, 0, False, b"ab"), "10000000 04030201 6162"),
        (Fragment(0xFFFFFFFF, 127, True, b"z"), "10ff0000 ffffffff 7a"),
    ],
)
def test_golden(fragment: Fragment, golden: str) -> None:
    assert fragment.pack() == bytes.fromhex(golden)
    assert parse_fragment(bytes.fromhex(golden)) == fragment


@pytest.mark.parametrize("length", range(9))
def test_without_a_part(length: int) -> None:
    with pytest.raises(Malformed, match=r"^fragment length$"):
        parse_fragment(b"\x10".ljust(length, b"\0"))


def test_another_kind() -> None:
    with pytest.raises(Malformed, match=r"^fragment kind$"):
        parse_fragment(b"\x11" + bytes(8))


@given(st.binary(min_size=1, max_size=9000), st.integers(100, 1500), st.integers(0, 2**32 - 1))
def test_split(content: bytes, limit: int, packet: int) -> None:
    fragments = split_packet(content, limit, packet)
    assert all(len(fragment) <= limit for fragment in fragments)
    lengths = [len(fragment) for fragment in fragments]
    assert max(lengths) - lengths[0] == 0, "none is longer than the first"
    parsed = [parse_fragment(fragment) for fragment in fragments]
    assert b"".join(fragment.part for fragment in parsed) == content
    assert [fragment.number for fragment in parsed] == list(range(len(parsed)))
    assert [fragment.is_last for fragment in parsed] == [False] * (len(parsed) - 1) + [True]
    assert {fragment.packet for fragment in parsed} == {packet}


def test_too_much_for_the_number() -> None:
    assert len(split_packet(bytes(2 * MAX_FRAGMENTS), 10, 0)) == MAX_FRAGMENTS
    with pytest.raises(ValueError, match="do not fit"):
        split_packet(bytes(2 * MAX_FRAGMENTS + 1), 10, 0)
