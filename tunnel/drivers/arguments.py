"""What was typed, as `ps` shows it to everybody on the machine."""

from __future__ import annotations

import ctypes
import logging
import re
from pathlib import Path

log = logging.getLogger(__name__)

_SECRET = re.compile(rb"(punchtun-join:|punchtun://[^/\0]*/)([^\0]+)")
_ARG_START, _ARG_END = 48, 49
"""Numbers of fields in /proc/PID/stat (proc(5))."""


def hide_arguments() -> None:
    """Overwrites join strings and the keys of server URLs in this process's arguments with
    asterisks. `ps` has shown them until now, and goes on to show those of a parent, as of sudo."""
    try:
        # The second field, a name in parentheses, may hold anything.
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[_ARG_START - 3]), int(fields[_ARG_END - 3])
        shown = Path("/proc/self/cmdline").read_bytes()
        if not start or len(shown) != end - start:
            return
        hidden = _SECRET.sub(lambda match: match[1] + b"*" * len(match[2]), shown)
        if hidden != shown:
            ctypes.memmove(start, hidden, len(hidden))
    except (OSError, ValueError, IndexError) as error:
        log.debug("arguments are shown as they are: %s", error)
