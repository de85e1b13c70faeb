"""Classic BPF, run as the kernel runs it over what arrives at a UDP socket."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tunnel.wire.sieve import WHOLE, Instruction

RANDOM = 0xFFFFF038


def run(program: Sequence[Instruction], datagram: bytes, chance: int = WHOLE) -> int:
    """What the kernel makes of a datagram, when it draws `chance`: bytes to be read. It refuses
    programs that jump beyond their end."""
    packet = b"\x30\x39\xd4\x31" + struct.pack(">HH", 8 + len(datagram), 0) + datagram
    accumulator = at = 0
    while True:
        operation, if_true, if_false, operand = program[at]
        at += 1
        if operation == 0x06:
            return operand
        if operation == 0x05:
            at += operand
        elif operation == 0x15:
            at += if_true if accumulator == operand else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= operand else if_false
        elif operand == RANDOM:
            accumulator = chance
        else:
            size = {0x30: 1, 0x20: 4}[operation]
            if operand + size > len(packet):
                return 0
            accumulator = int.from_bytes(packet[operand : operand + size], "big")
