"""What went wrong at one UDP socket, counted; its parts share one of these."""

from __future__ import annotations

import errno
from collections import Counter

from tunnel.wire.endpoint import Endpoint


class Failures:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """How often, by errno name."""
        self.has_queued = False
        """Whether the error queue has something, as far as sending and receiving noticed."""
        self.refused: set[Endpoint] = set()
        """Where an unfragmented datagram could not even leave for since the error queue was
        empty."""

    def count(self, error: OSError) -> None:
        self.counts[errno.errorcode.get(error.errno or 0, "EOTHER")] += 1
