"""Datagrams over a byte stream."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.errors import Malformed
from tunnel.wire.stream import MAX_DATAGRAM, StreamParser, pack_stream


def test_golden() -> None:
    assert pack_stream(b"abc").hex() == "0003616263"
    assert StreamParser().feed(bytes.fromhex("000361626300020102")) == [b"abc", b"\x01\x02"]


def test_longest() -> None:
    longest = bytes(MAX_DATAGRAM)
    assert StreamParser().feed(pack_stream(longest)) == [longest]


@pytest.mark.parametrize("length", [0, MAX_DATAGRAM + 1])
def test_what_has_no_length(length: int) -> None:
    with pytest.raises(ValueError, match="datagram of"):
        pack_stream(bytes(length))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    st.lists(st.integers(1, 400), max_size=30),
)
def test_however_it_arrives(datagrams: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(pack_stream, datagrams))
    parser, found = StreamParser(), []
    for cut in [*cuts, len(stream)]:
        found += parser.feed(stream[:cut])
        stream = stream[cut:]
    assert found == datagrams


def test_zero_length_ends_it() -> None:
    parser = StreamParser()
    assert parser.feed(b"\0\1a\0") == [b"a"]
    with pytest.raises(Malformed, match="length 0"):
        parser.feed(b"\0")
