"""Bytes as text that survives mail and paper, and says which line was mistyped.

::

    punchtun network backup of 0123456789ab; restore: punchtun network import
    AQEAAAQAAAAAAAEAAAECAwQFBgcICQoLDA0OD3t5c2VjcmV0 ChFQ
    c2VhbGVk c2aM
    end of punchtun network backup, 2 lines

A line holds 36 bytes, the last may hold fewer, in base64url (48 characters) and then the line's
check: the last 3 bytes, as base64url, of the CRC-32 over its number, counted from 1 (4,
big-endian), and its bytes. What stands before the first line, after the last, or before a line as
the marks of a quotation, is ignored, and so is what follows "backup" in the first line.
"""

from __future__ import annotations

import binascii
import re

from tunnel.errors import Malformed
from tunnel.wire.invitation import decode_base64, encode_base64

FIRST_WORDS = "punchtun network backup"
MAX_TEXT = 4 << 20
"""Characters: 15,000 members and more."""

_LINE = 36
_END = re.compile(rf"end of {FIRST_WORDS}, (\d{{1,9}}) lines?")


def armour(data: bytes, about: str) -> str:
    """The lines, with a newline after each. `about` is one more sentence for the first line."""
    lines = [f"{FIRST_WORDS} {about}".strip()]
    for number, start in enumerate(range(0, len(data), _LINE), 1):
        part = data[start : start + _LINE]
        lines.append(f"{encode_base64(part)} {_check(number, part)}")
    count = len(lines) - 1
    lines.append(f"end of {FIRST_WORDS}, {count} {'line' if count == 1 else 'lines'}")
    return "\n".join(lines) + "\n"


def remove_armour(text: str) -> bytes:
    """Raises Malformed; its text is a sentence about the file."""
    if len(text) > MAX_TEXT:
        raise Malformed("it is larger than a backup can be")
    lines = [line.lstrip("> |\t").rstrip() for line in text.splitlines()]
    fault = f"no line of it begins with '{FIRST_WORDS}'"
    for number, line in enumerate(lines):
        if line.startswith(FIRST_WORDS):
            # It may be a sentence of the mail. Each attempt ends where the next begins.
            try:
                return _read_lines(lines, number + 1)
            except Malformed as error:
                fault = str(error)
    raise Malformed(fault)


def _read_lines(lines: list[str], start: int) -> bytes:
    parts: list[bytes] = []
    for index in range(start, len(lines)):
        line = lines[index]
        end = _END.fullmatch(line)
        if end is not None:
            if int(end[1]) != len(parts):
                raise Malformed(f"it has {len(parts)} lines where {end[1]} should be")
            return b"".join(parts)
        if line:
            if parts and len(parts[-1]) != _LINE:
                raise Malformed(f"its line {len(parts)} is cut short")
            parts.append(_read_line(line, len(parts) + 1))
    raise Malformed("it is cut short: its last line is missing")


def _read_line(line: str, number: int) -> bytes:
    words = line.split()
    try:
        part = decode_base64(words[0])
    except Malformed:
        part = b""
    if not 0 < len(part) <= _LINE or words[1:] != [_check(number, part)]:
        raise Malformed(f"its line {number} is mistyped, or not in its place")
    return part


def _check(number: int, part: bytes) -> str:
    crc = binascii.crc32(number.to_bytes(4, "big") + part)
    return encode_base64(crc.to_bytes(4, "big")[1:])
