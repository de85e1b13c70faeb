"""Random changes to bytes, as a fuzzer without feedback makes them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\0\0\0\0", b"\xff" * 4)


def mutate(data: bytes, corpus: Sequence[bytes], random: Random) -> bytes:
    """`data` with one to four changes."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(changed))
        kind = random.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = random.randrange(256)
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            changed[at:at] = random.randbytes(random.randint(1, 8))
        elif kind == 4:
            del changed[at : at + random.randint(1, 8)]
        elif kind == 5:
            value = random.choice(INTERESTING)
            changed[at : at + len(value)] = value
        elif corpus:
            other = random.choice(corpus)
            changed[at:] = other[random.randint(0, len(other)) :]
    return bytes(changed)
