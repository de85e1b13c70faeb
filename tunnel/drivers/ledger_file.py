"""The inviter's ledger on disk."""

from __future__ import annotations

from gevent.lock import BoundedSemaphore

from tunnel.core.inviter import Inviter
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.threads import run_in_thread
from tunnel.state import LEDGER_FILE, pack_ledger


class LedgerFile:
    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._turn = BoundedSemaphore(1)
        self._saved = 0
        """The revision that is on disk; a ledger that was read from there has none higher."""

    def save(self, inviter: Inviter) -> int:
        """Blocks the calling greenlet, not the hub, until the disk has the ledger. The revision it
        then has: changes made while it is being written are not in it. What is on disk already is
        not written again. Raises OperatorError."""
        # One at a time: of two threads that write, the one with the older ledger may be the last.
        with self._turn:
            assert inviter.ledger is not None
            revision = inviter.revision
            if revision > self._saved:
                content = pack_ledger(inviter.ledger)
                run_in_thread(self._state.write_json, LEDGER_FILE, content)
                self._saved = revision
            return revision
