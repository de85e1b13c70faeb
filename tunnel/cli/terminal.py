"""What the person at the other end of stdout can be shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

import click

MINIMUM_WIDTH = 30


@dataclass(frozen=True)
class Terminal:
    width: int | None = None
    """Columns; None: it is none, and nothing is cut."""
    has_unicode: bool = False
    has_color: bool = False

    def paint(self, text: str, color: str) -> str:
        return click.style(text, fg=color) if self.has_color else text

    def cut(self, text: str, width: int) -> str:
        """At most so many columns. What a name or a reason could do to a terminal it does not."""
        text = "".join(c if c.isprintable() else "?" for c in text)
        if not self.has_unicode:
            text = text.encode("ascii", "replace").decode()
        if len(text) <= width:
            return text
        return text[: max(0, width - 1)] + ("…" if self.has_unicode else "~")


def read_terminal(
    stream: TextIO | None = None, environment: Mapping[str, str] = os.environ
) -> Terminal:
    """Of stdout. NO_COLOR and TERM=dumb are heeded (no-color.org), and COLUMNS."""
    stream = sys.stdout if stream is None else stream
    encoding = (stream.encoding or "").lower().replace("-", "")
    has_unicode = encoding.startswith("utf")
    if not stream.isatty():
        return Terminal(has_unicode=has_unicode)
    try:
        width = int(environment.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        width = 80
    return Terminal(
        max(width or 80, MINIMUM_WIDTH),
        has_unicode,
        not environment.get("NO_COLOR") and environment.get("TERM") != "dumb",
    )


def read_height() -> int:
    """Lines of the terminal on stdout."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).lines or 24
    except (OSError, ValueError):
        return 24
