"""Inputs that coverage has found, kept for all who come after: ``corpus/TARGET``, one in each line,
in hexadecimal. Written by ``python -m tests.fuzz --coverage TARGET --keep``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
MAX_LENGTH = 4096
MAX_STORED = 200
"""Bytes of one that is kept: what is found by longer ones is found by shorter ones, too."""
MAX_INPUTS = 48
"""For one target, the shortest ones."""


def read_stored(name: str) -> list[bytes]:
    path = FOLDER / name
    return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []


def write_stored(name: str, inputs: Iterable[bytes], without: Collection[bytes] = ()) -> None:
    """`without`: those that the target starts from in any case."""
    stored = set(read_stored(name))
    kept = {data for data in inputs if 0 < len(data) <= MAX_STORED}
    kept -= set(without) - stored
    shortest = sorted(kept, key=lambda data: (len(data), data))[:MAX_INPUTS]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / name).write_text("".join(f"{data.hex()}\n" for data in shortest))
