"""How many entries a router's conntrack table has, and had at the most."""

from __future__ import annotations

import os
import threading

from .namespace import inside

_INTERVAL = 0.05
"""Seconds between two looks. Entries live for seconds, so that a peak lasts longer than that."""


class EntryCounter:
    """Of all protocols, in one namespace. It looks from its beginning until `close`."""

    def __init__(self, namespace: str) -> None:
        path = "/proc/sys/net/netfilter/nf_conntrack_count"
        # Opened inside, it stays that namespace's wherever it is read.
        self._file = inside(namespace, lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def now(self) -> int:
        """Entries at this moment."""
        return int(os.pread(self._file, 32, 0))

    def peak(self) -> int:
        """The most seen so far."""
        self._peak = max(self._peak, self.now())
        return self._peak

    def close(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            os.close(self._file)

    def _look(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self.peak()
