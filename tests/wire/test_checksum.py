from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.superpackets import add_words
from tunnel.wire.checksum import checksum, complete_checksum, sum_words


@pytest.mark.parametrize(
    ("data", "total"),
    [
        ("", 0),
        ("00", 0),
        ("0000", 0),
        ("12", 0x1200),
        ("0001 f203 f4f5 f6f7", 0xDDF2),  # RFC 1071 §3
        ("ffff", 0xFFFF),
        ("ffff ffff", 0xFFFF),
        ("fffe 0001", 0xFFFF),
        ("ffff 0001", 1),
        ("8000 8000", 1),
    ],
)
def test_golden(data: str, total: int) -> None:
    assert sum_words(bytes.fromhex(data)) == total
    assert checksum(bytes.fromhex(data)) == 0xFFFF - total


@given(st.binary(max_size=3000))
@example(bytes(65_535))
@example(b"\xff" * 65_535)
def test_as_word_by_word(data: bytes) -> None:
    assert sum_words(data) == add_words(data)
    assert checksum(bytearray(data)) == ~add_words(data) & 0xFFFF
    assert sum_words(memoryview(data)) == sum_words(data)


@given(st.binary(min_size=2, max_size=99), st.integers(0, 20), st.integers(0, 96), st.integers())
def test_completing_what_was_left(data: bytes, start: int, field: int, left: int) -> None:
    """Whoever sums the same, and what was summed before it, finds 0xFFFF."""
    start = min(start, len(data) - 2) & ~1
    field = max(start, min(field, len(data) - 2)) & ~1
    packet = bytearray(data)
    before = left % 0x10000
    packet[field : field + 2] = before.to_bytes(2, "big")
    complete_checksum(packet, start, field)
    assert packet[field : field + 2] != b"\0\0"
    assert add_words(packet[start:] + bytes(len(packet) % 2) + before.to_bytes(2, "big")) == 0xFFFF
    assert packet[:field] + packet[field + 2 :] == data[:field] + data[field + 2 :]


@pytest.mark.parametrize(("may_be_zero", "field"), [(False, "ffff"), (True, "0000")])
def test_a_checksum_that_is_zero(may_be_zero: bool, field: str) -> None:
    packet = bytearray.fromhex("1234 0000 edcb")
    complete_checksum(packet, 0, 2, may_be_zero=may_be_zero)
    assert packet.hex() == f"1234{field}edcb"
