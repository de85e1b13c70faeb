"""The sieve's program, run here as the kernel runs it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.bpf import run
from tunnel.wire.sieve import (
    MOST_NUMBERS,
    NUMBER_AT,
    WHOLE,
    Instruction,
    assemble,
    named_number,
    pack_program,
)

NUMBERS = st.integers(0, (1 << 32) - 1)


def test_golden() -> None:
    """As laid out on a little-endian machine."""
    packed = [struct.pack("<HBBI", *one).hex() for one in assemble([0x01020304], 0.5)]
    assert packed == [
        "3000000008000000",  # what is the first byte?
        "1500060003000000",  # 3, 4, 5: the number is at 4
        "1500050004000000",
        "1500040005000000",
        "1500010002000000",  # 2: it is at 8
        "0500000006000000",  # else let chance decide
        "2000000010000000",
        "0500000001000000",
        "200000000c000000",
        "1500010001020304",  # is it the one?
        "0500000001000000",
        "06000000ffffffff",
        "2000000038f0ffff",  # a random number
        "3500000100000080",  # half of them are larger
        "0600000000000000",
        "06000000ffffffff",
    ]


def test_packed_as_the_machine_has_it() -> None:
    program = [Instruction(0x06, 1, 2, 3)]
    assert pack_program(program) == struct.pack("=HBBI", 6, 1, 2, 3)


@given(
    st.sets(NUMBERS, max_size=70),
    st.one_of(st.binary(max_size=40), st.binary(min_size=20, max_size=20)),
    st.integers(0, 8),
    st.data(),
)
def test_what_names_a_number_is_read(
    numbers: set[int], datagram: bytes, kind: int, data: st.DataObject
) -> None:
    datagram = bytes([kind]) + datagram
    if numbers and data.draw(st.booleans()) and kind in NUMBER_AT:
        at = NUMBER_AT[kind]
        number = data.draw(st.sampled_from(sorted(numbers)))
        datagram = (
            datagram[:at].ljust(at, b"\0") + number.to_bytes(4, "little") + datagram[at + 4 :]
        )
        assert named_number(datagram) == number
    is_known = named_number(datagram) in numbers
    assert run(assemble(numbers, 0.0), datagram) == (WHOLE if is_known else 0)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 17, 1000, MOST_NUMBERS])
def test_every_number_of_many_is_found_and_none_beside_it(count: int) -> None:
    numbers = {number * 2654435761 % (1 << 32) for number in range(1, count + 1)}
    program = assemble(numbers, 0.0)
    assert len(program) <= 4096
    assert all(one.if_true < 256 and one.if_false < 256 for one in program)
    for number in numbers:
        for near in (number - 1, number, number + 1):
            datagram = b"\4\0\0\0" + (near % (1 << 32)).to_bytes(4, "little")
            assert bool(run(program, datagram)) == (near % (1 << 32) in numbers)


def test_too_many_numbers() -> None:
    with pytest.raises(ValueError, match="too many"):
        assemble(range(MOST_NUMBERS + 1), 0.5)


@pytest.mark.parametrize("numbers", [None, (), (7,)])
def test_chance_decides_on_the_others(numbers: tuple[int, ...] | None) -> None:
    program = assemble(numbers, 0.25)
    for datagram in (b"\1" + bytes(147), b"\6" + bytes(19), b"\xff", b"\7"):
        assert run(program, datagram, (1 << 30) - 1) == WHOLE
        assert run(program, datagram, 1 << 30) == 0
        assert run(assemble(numbers, 1.0), datagram) == WHOLE


def test_what_has_any_number_is_read() -> None:
    program = assemble(None, 0.0)
    for kind in NUMBER_AT:
        assert run(program, bytes([kind]) + bytes(19)) == WHOLE
    for kind in {0, 1, 6, 7, 255} - NUMBER_AT.keys():
        assert run(program, bytes([kind]) + bytes(147)) == 0


def test_an_empty_datagram_is_not_read() -> None:
    assert run(assemble((), 0.0), b"") == 0
    assert named_number(b"") is None
