from __future__ import annotations

import pytest

from tunnel.errors import Malformed
from tunnel.wire.check import PONG_LENGTH, UNOBSERVED, Ping, Pong, parse_check


@pytest.mark.parametrize("size", [0, 12, 13, 1252])
def test_padding_of_a_ping(size: int) -> None:
    """A padded check measures what fits through the path."""
    packed = Ping(7, size).pack()
    assert len(packed) == max(size, 12)
    assert parse_check(packed) == Ping(7, len(packed))


def test_pong_is_as_long_as_it_says() -> None:
    assert len(Pong(1, 2, UNOBSERVED).pack()) == PONG_LENGTH


def test_other_kinds() -> None:
    for kind in [0, *range(11, 256)]:
        with pytest.raises(Malformed, match=r"^check kind or length$"):
            parse_check(bytes([kind]) + bytes(60))


@pytest.mark.parametrize("length", range(4))
def test_shorter_than_any(length: int) -> None:
    with pytest.raises(Malformed, match=r"^check length$"):
        parse_check(b"\x05\0\0\0"[:length])
