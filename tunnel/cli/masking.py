"""What is quoted of what was typed, where it may be a secret that was not recognised as one."""

from __future__ import annotations

import re

_LONG = re.compile(r"[A-Za-z0-9_-]{20,}")
"""16 bytes in base64, the length of a token, are 22 characters."""


def mask(text: str) -> str:
    """`text` with all in it that could be part of a key or token replaced by "…"."""
    return _LONG.sub("…", text)
