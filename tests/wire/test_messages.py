"""What holds for every message, by the table in ``messages.py``."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.messages import KINDS, PARSERS, Kind, Parse
from tunnel.errors import Malformed

each_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
each_parser = pytest.mark.parametrize("parse", PARSERS.values(), ids=list(PARSERS))
quick = settings(max_examples=25, deadline=None)


@each_kind
def test_golden(kind: Kind) -> None:
    assert kind.example.pack() == kind.packed
    assert kind.parse(kind.packed) == kind.example


@each_kind
@quick
@given(data=st.data())
def test_round_trip(kind: Kind, data: st.DataObject) -> None:
    message = data.draw(kind.any)
    assert kind.parse(message.pack()) == message


@each_kind
def test_cut_short(kind: Kind) -> None:
    """At every length: refused, unless only the end of a last field is missing."""
    whole = kind.packed
    shortest = len(whole) - (kind.tail or 0)
    for length in range(len(whole)):
        if length < shortest:
            with pytest.raises(Malformed):
                kind.parse(whole[:length])
        else:
            assert type(kind.parse(whole[:length])) is type(kind.example)


@each_kind
def test_bytes_after_the_end(kind: Kind) -> None:
    longer = kind.packed + b"\x01"
    if kind.is_open:
        message = kind.parse(longer)
        assert message[:1] == kind.example[:1]
        assert type(message) is type(kind.example)
    elif kind.tail is None:
        with pytest.raises(Malformed):
            kind.parse(longer)
    else:
        assert kind.parse(longer).pack() == longer


@each_kind
@quick
@given(data=st.data())
def test_any_change_gives_a_message_or_malformed(kind: Kind, data: st.DataObject) -> None:
    changed = bytearray(kind.packed)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    parses_or_is_malformed(kind.parse, bytes(changed))


@each_parser
@settings(max_examples=80, deadline=None)
@given(head=st.binary(max_size=1), rest=st.binary(max_size=300))
def test_any_bytes_give_a_message_or_malformed(parse: Parse, head: bytes, rest: bytes) -> None:
    parses_or_is_malformed(parse, head + rest)


@each_parser
def test_zeros_and_ones_of_every_length(parse: Parse) -> None:
    for length in range(301):
        parses_or_is_malformed(parse, bytes(length))
        parses_or_is_malformed(parse, b"\xff" * length)


def parses_or_is_malformed(parse: Parse, data: bytes) -> None:
    """And what parses means the same after packing: a sender may have said more than we know."""
    try:
        message = parse(data)
    except Malformed:
        return
    assert parse(message.pack()) == message
