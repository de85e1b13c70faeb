"""One repetition under way."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from .contender import Contender
from .site import Site, Stream


@dataclass
class Trial:
    """One repetition of a scenario: everything that takes part in it."""

    site: Site
    contender: Contender
    addresses: tuple[str, str]
    folder: Path
    repetition: int
    stream: Stream | None = None
    disturbed_at: float = 0.0
    """Unix time."""
    notes: dict[str, float] = field(default_factory=dict)
    """Figures only this scenario has."""

    def disturbed(self) -> float:
        """Call it right before the disturbance; CLOCK_MONOTONIC."""
        self.disturbed_at = time.time()
        return time.monotonic()
