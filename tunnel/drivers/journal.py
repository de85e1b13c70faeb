"""How much a line on stderr matters, for systemd's journal: sd-daemon(3)."""

from __future__ import annotations

import logging
import os
import sys

_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
"""logging's level and syslog's, most important first."""


def prefix(level: int) -> str:
    """What begins a line of this level of logging's. Empty where stderr is not the journal."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        facts = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return ""
    if (device, inode) != (str(facts.st_dev), str(facts.st_ino)):
        return ""
    return f"<{next((priority for least, priority in _PRIORITIES if level >= least), 7)}>"
