"""The revocations that a node knows of, on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import gevent

from tunnel.core.revocations import Revocations
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.threads import run_in_thread
from tunnel.errors import OperatorError
from tunnel.state import REVOCATIONS_FILE, pack_revocations
from tunnel.wire.revocation import Revocation

log = logging.getLogger(__name__)

SAVE_AGAIN = 10.0
"""Seconds until what could not be written is tried again."""


class RevocationsFile:
    def __init__(self, state: StateDirectory, revocations: Revocations) -> None:
        self._state = state
        self._revocations = revocations
        self._must_save = False
        self._saving: Any = None

    def save_with(self, revocation: Revocation) -> None:
        """Blocks the calling greenlet, not the hub, until the disk has one more than is known.
        Raises OperatorError."""
        content = self._pack([*self._revocations, revocation])
        run_in_thread(self._state.write_json, REVOCATIONS_FILE, content)

    def save_soon(self) -> None:
        """There are more than before. Tried again until the disk has them."""
        self._must_save = True
        if self._saving is None or self._saving.ready():
            self._saving = gevent.spawn(self._save)

    def close(self) -> None:
        """Write what is not on disk yet. Raises OperatorError."""
        if self._saving is not None:
            self._saving.kill()
        if self._must_save:
            self._state.write_json(REVOCATIONS_FILE, self._pack(self._revocations))

    def _save(self) -> None:
        while self._must_save:
            count = len(self._revocations)
            content = self._pack(self._revocations)
            try:
                run_in_thread(self._state.write_json, REVOCATIONS_FILE, content)
            except OperatorError as error:
                log.warning("%s", error)
                gevent.sleep(SAVE_AGAIN)
            else:
                # There may be more by now.
                self._must_save = len(self._revocations) > count

    def _pack(self, known: Iterable[Revocation]) -> dict[str, Any]:
        return pack_revocations(known, self._revocations.announced)
