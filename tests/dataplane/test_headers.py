from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.messages import words
from tunnel.dataplane.headers import Headers
from tunnel.wire.transport import HEADER_LENGTH, pack_header

counts = st.one_of(st.integers(1, 70), st.sampled_from([255, 256]))


def laid_out(headers: list[bytes], stride: int, filling: bytes = b"\0") -> bytes:
    return b"".join(header.ljust(stride, filling) for header in headers[:-1]) + headers[-1]


@given(counts, st.integers(0, 40), words(32), words(63), words(8))
def test_a_train(count: int, gap: int, receiver: int, counter: int, place: int) -> None:
    place = min(place, 256 - count)
    packed = [pack_header(receiver, counter + n, place + n) for n in range(count)]
    headers = Headers(HEADER_LENGTH + gap, count)
    first = int.from_bytes(packed[0], "little")
    frames = bytearray(b"x" * (count * (HEADER_LENGTH + gap) + 9))
    headers.put_train(frames, first)
    length = (count - 1) * (HEADER_LENGTH + gap) + HEADER_LENGTH
    assert frames[:length] == laid_out(packed, HEADER_LENGTH + gap)
    assert frames[length:] == b"x" * (gap + 9), "nothing behind the last header"
    assert headers.take(frames, 0) == b"".join(packed)
    assert headers.of_train(first) == int.from_bytes(b"".join(packed), "little")


@given(counts, words(32), words(63))
def test_how_others_differ_from_a_train(count: int, receiver: int, counter: int) -> None:
    headers = Headers(100, count)
    packed = [pack_header(receiver, counter + n) for n in range(count)]
    train = headers.of_train(int.from_bytes(packed[0], "little"))
    assert train - int.from_bytes(b"".join(packed), "little") == headers.places
    packed = [pack_header(receiver, counter + n, n) for n in range(count - 1)]
    packed.append(pack_header(receiver, counter + count - 1))
    difference = train - int.from_bytes(b"".join(packed), "little")
    assert difference == (count - 1) * headers.last_place


@given(st.integers(0, 50), st.integers(0, 9))
def test_where_they_are_taken_from(offset: int, gap: int) -> None:
    packed = [pack_header(7, n, n) for n in range(5)]
    area = bytes(offset) + laid_out(packed, HEADER_LENGTH + gap, b"x")
    assert Headers(HEADER_LENGTH + gap, 5).take(bytearray(area), offset) == b"".join(packed)


def test_no_room() -> None:
    headers = Headers(20, 3)
    headers.put_train(bytearray(56), 4)
    assert headers.take(bytearray(57), 1) == bytes(48)
    for length in (0, 55):
        with pytest.raises(struct.error, match="at least 56"):
            headers.put_train(bytearray(length), 4)
    with pytest.raises(struct.error, match="at least"):
        headers.take(bytearray(56), 1)
