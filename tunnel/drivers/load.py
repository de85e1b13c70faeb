"""What this process costs the machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from tunnel.drivers import clock

STARTED_AT = clock.wall_clock()
"""Unix time at which this was imported, with all the rest."""
_BEGAN = clock.now()


class Load(NamedTuple):
    uptime: float
    """Seconds since the process began."""
    cpu: float
    """Seconds of a core that it has taken so far."""
    memory: int | None
    """Bytes resident now; None where the system does not tell."""


def read_load() -> Load:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        memory = None
    return Load(clock.now() - _BEGAN, time.process_time(), memory)
