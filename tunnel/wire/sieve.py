"""A program that the kernel runs over what arrives at a UDP socket, to drop what concerns nobody
here before it takes up room: classic BPF, as in Linux' ``networking/filter.rst``.

::

    0           2    3    4         8
    +-----------+----+----+---------+
    | operation | jt | jf | operand |     one instruction, in the machine's own byte order; jt, jf:
    +-----------+----+----+---------+     instructions to skip if a comparison holds, if it does not

It knows a datagram by one number, which whoever is no party to a session has to guess: the index of
a session, or the channel of a relay envelope, 32 bits drawn at random. Source addresses, which can
be forged, do not matter, so whoever moves is heard as before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from tunnel.wire.handshake import COOKIE_REPLY, RESPONSE
from tunnel.wire.relay import RELAY
from tunnel.wire.transport import TRANSPORT

NUMBER_AT = {RESPONSE: 8, COOKIE_REPLY: 4, TRANSPORT: 4, RELAY: 4}
"""First byte → where the number is, little-endian. No other datagram has one."""
MOST_NUMBERS = 1024
"""So that a program fits: 4096 instructions are allowed, and net.core.optmem_max bytes."""
WHOLE = 0xFFFFFFFF
"""What a program returns for a datagram that is to be read: as much of it as there is."""

_INSTRUCTION = struct.Struct("=HBBI")
_UDP_HEADER = 8
"""Bytes. A program for a UDP socket sees them, too."""
_LOAD_BYTE, _LOAD_WORD, _JUMP, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x30, 0x20, 0x05, 0x15, 0x35, 0x06
_RANDOM = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM: where loading gives 32 random bits."""
_LEAF = 8
"""Numbers that are compared one after the other."""


class Instruction(NamedTuple):
    operation: int
    if_true: int = 0
    if_false: int = 0
    operand: int = 0


def named_number(datagram: bytes) -> int | None:
    """The number by which a datagram is known; None: it has none."""
    at = NUMBER_AT.get(datagram[0]) if datagram else None
    if at is None or len(datagram) < at + 4:
        return None
    return int.from_bytes(datagram[at : at + 4], "little")


def assemble(numbers: Iterable[int] | None, share: float) -> list[Instruction]:
    """The program that lets through what names one of `numbers`, and of all else, by chance, the
    given share. None: whatever has a number. Raises ValueError for more than MOST_NUMBERS."""
    body = _assemble_loads(numbers is None)
    if numbers is not None:
        swapped = sorted(
            {int.from_bytes(number.to_bytes(4, "little"), "big") for number in numbers}
        )
        if len(swapped) > MOST_NUMBERS:
            raise ValueError("too many numbers")
        body += _assemble_search(swapped)
    end = len(body)
    program = [
        one._replace(operand=end - at - 1) if one == _TO_END else one for at, one in enumerate(body)
    ]
    limit = round(share * (1 << 32))
    if limit <= WHOLE:
        program += [
            Instruction(_LOAD_WORD, operand=_RANDOM),
            Instruction(_IF_AT_LEAST, 0, 1, limit),
            Instruction(_RETURN, operand=0),
        ]
    return [*program, Instruction(_RETURN, operand=WHOLE)]


def pack_program(program: Iterable[Instruction]) -> bytes:
    """As an array of the kernel's ``struct sock_filter``."""
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


_TO_END = Instruction(_JUMP, operand=WHOLE)
"""Stands for a jump to where chance decides."""


def _assemble_loads(any_will_do: bool) -> list[Instruction]:
    """What to load by the first byte. It falls through with the number, or goes to the end."""
    kinds = sorted(NUMBER_AT, key=NUMBER_AT.__getitem__)
    program = [Instruction(_LOAD_BYTE, operand=_UDP_HEADER)]
    if any_will_do:
        for left, kind in enumerate(reversed(kinds)):
            program.append(Instruction(_IF_EQUAL, len(kinds) - left, 0, kind))
        return [*program, _TO_END, Instruction(_RETURN, operand=WHOLE)]
    *others, last = kinds
    first_at, last_at = NUMBER_AT[others[0]], NUMBER_AT[last]
    for number, kind in enumerate(others):
        program.append(Instruction(_IF_EQUAL, len(others) - number + 3, 0, kind))
    return [
        *program,
        Instruction(_IF_EQUAL, 1, 0, last),
        _TO_END,
        Instruction(_LOAD_WORD, operand=_UDP_HEADER + last_at),
        Instruction(_JUMP, operand=1),
        Instruction(_LOAD_WORD, operand=_UDP_HEADER + first_at),
    ]


def _assemble_search(numbers: list[int]) -> list[Instruction]:
    """By halves: for a thousand numbers seven comparisons, and eight at most in the end."""
    if len(numbers) <= _LEAF:
        found = len(numbers)
        compare = [Instruction(_IF_EQUAL, found - at, 0, n) for at, n in enumerate(numbers)]
        return [*compare, _TO_END, Instruction(_RETURN, operand=WHOLE)]
    middle = len(numbers) // 2
    low, high = _assemble_search(numbers[:middle]), _assemble_search(numbers[middle:])
    turn = [
        Instruction(_IF_AT_LEAST, 0, 1, numbers[middle]),
        Instruction(_JUMP, operand=len(low)),
    ]
    return [*turn, *low, *high]
