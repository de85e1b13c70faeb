"""The blocks of docs/protocol.md and docs/protocol/ that tests read.

::

    ```golden NAME          the bytes of one message
    01 000000 65*32         # hexadecimal; 65*32 is the byte 65, 32 times; "text" is ASCII
    ```

    ```vector NAME          a computation: what goes in, what comes out
    key = 00*32
    tag = 0102 0304
          05060708          # further lines of a value are indented
    ```
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = [DOCS / "protocol.md", *sorted((DOCS / "protocol").glob("*.md"))]

_BLOCK = re.compile(r"^```(golden|vector) (.+?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PIECE = re.compile(r'"([^"]*)"|([0-9a-f]{2})\*(\d+)|((?:[0-9a-f]{2})+)|(\S+)')


def parse_pieces(text: str) -> bytes:
    """The bytes that a value of a block stands for. ValueError for anything else."""
    found = bytearray()
    for ascii_text, byte, times, digits, other in _PIECE.findall(text):
        if other:
            raise ValueError(f"neither hexadecimal nor text: {other}")
        if byte:
            found += bytes.fromhex(byte) * int(times)
        else:
            found += bytes.fromhex(digits) if digits else ascii_text.encode("ascii")
    return bytes(found)


def _strip_comments(text: str) -> str:
    return re.sub(r"(^|\s)#.*", "", text, flags=re.MULTILINE)


def _read_blocks(kind: str) -> list[tuple[str, str]]:
    blocks = []
    for page in PAGES:
        for found, name, body in _BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == kind:
                blocks.append((name, _strip_comments(body)))
    names = [name for name, _ in blocks]
    assert len(set(names)) == len(names), f"a name stands for two blocks: {sorted(names)}"
    return blocks


@cache
def read_golden() -> dict[str, bytes]:
    return {name: parse_pieces(body) for name, body in _read_blocks("golden")}


@cache
def read_vectors() -> dict[str, dict[str, bytes]]:
    vectors = {}
    for name, body in _read_blocks("vector"):
        values: dict[str, str] = {}
        last = ""
        for line in body.splitlines():
            if line[:1].isspace():
                values[last] += line
            elif line:
                last, _, value = line.partition(" =")
                assert last not in values, f"{name}: {last} has two values"
                values[last] = value
        vectors[name] = {key: parse_pieces(value) for key, value in values.items()}
    return vectors
