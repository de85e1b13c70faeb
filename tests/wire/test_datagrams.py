"""Transport header and relay envelope: what surrounds sealed bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.messages import words
from tunnel.errors import Malformed
from tunnel.wire.relay import pack_relay, parse_relay
from tunnel.wire.transport import (
    HEADER_LENGTH,
    TAG_LENGTH,
    pack_header,
    parse_header,
    parse_place,
)


def test_transport_golden() -> None:
    header = pack_header(0x01020304, 0x05060708090A0B0C)
    assert header.hex() == "04000000040302010c0b0a0908070605"
    assert parse_header(header + bytes(TAG_LENGTH)) == (0x01020304, 0x05060708090A0B0C)
    in_train = pack_header(0x01020304, 0x05060708090A0B0C, 0x2A)
    assert in_train.hex() == "042a0000040302010c0b0a0908070605"


@given(words(32), words(64), words(8), st.binary(min_size=TAG_LENGTH, max_size=100))
def test_transport_round_trip(receiver: int, counter: int, place: int, sealed: bytes) -> None:
    datagram = pack_header(receiver, counter, place) + sealed
    assert parse_header(datagram) == (receiver, counter)
    assert parse_place(datagram) == place


def test_transport_without_room_for_a_tag() -> None:
    for length in range(HEADER_LENGTH + TAG_LENGTH):
        with pytest.raises(Malformed, match=r"^transport length$"):
            parse_header((pack_header(1, 2) + bytes(TAG_LENGTH))[:length])


@pytest.mark.parametrize("position", [0, 2, 3])
def test_transport_of_another_type(position: int) -> None:
    """Between the place and the receiver there are two bytes of zero."""
    datagram = bytearray(pack_header(1, 2) + bytes(TAG_LENGTH))
    datagram[position] ^= 1
    with pytest.raises(Malformed, match=r"^transport type$"):
        parse_header(bytes(datagram))


def test_relay_golden() -> None:
    assert pack_relay(0x01020304, b"inner").hex() == "0500000004030201696e6e6572"
    assert parse_relay(pack_relay(0x01020304, b"inner")) == (0x01020304, b"inner")


@given(words(32), st.binary(min_size=1, max_size=100))
def test_relay_round_trip(channel: int, inner: bytes) -> None:
    assert parse_relay(pack_relay(channel, inner)) == (channel, inner)


@pytest.mark.parametrize("length", range(9))
def test_relay_of_nothing(length: int) -> None:
    with pytest.raises(Malformed, match=r"^relay length$"):
        parse_relay(pack_relay(1, b"x")[:length])


@pytest.mark.parametrize("position", range(4))
def test_relay_of_another_type(position: int) -> None:
    datagram = bytearray(pack_relay(1, b"inner"))
    datagram[position] ^= 1
    with pytest.raises(Malformed, match=r"^relay type$"):
        parse_relay(bytes(datagram))
