"""``punchtun rotate-key``: what is written, in which order.

The new key is on disk before anybody is asked for its certificate; then one write puts key,
certificate and the revocation of the key before in the place of what was there. Whenever the
machine dies, the next start has a key with its certificate: the old one, and asks again; or the new
one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent

from tunnel.core.events import KeyReplaced
from tunnel.core.node import Node
from tunnel.core.rotation import RotationGrant, RotationState
from tunnel.drivers import clock
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.narration import narrate
from tunnel.drivers.threads import run_in_thread
from tunnel.errors import OperatorError, PeerUnavailable
from tunnel.noise.keys import PrivateKey
from tunnel.state import NODE_FILE, NodeState, pack_node_state, parse_node_state
from tunnel.wire.certificate import Certificate

log = logging.getLogger(__name__)

KEEP_AGAIN = 10.0
"""Seconds until what could not be written is tried again."""


class KeyRotation:
    """Of a running node."""

    def __init__(
        self, state: StateDirectory, node: Node, command: Callable[[Callable[[float], Any]], Any]
    ) -> None:
        self.is_kept = False
        """Whether the next start has another key."""
        self._state = state
        self._node = node
        self._command = command

    def ask(self, timeout: float, wait: Callable[[float | None], None]) -> str:
        """The new public key, which is used from the next start on. Blocks the calling greenlet,
        not the hub. Raises OperatorError; PeerUnavailable if nobody has answered in time, and then
        the request is repeated, over restarts, too."""
        if self._node.inviter.ledger is not None:
            raise OperatorError(
                "this machine may invite, and its key stands in every invitation that it has "
                "printed: it cannot be replaced yet"
            )
        fresh = PrivateKey.generate(clock.random_bytes)
        new = run_in_thread(prepare_key, self._state, self._node.config.certificate, fresh)
        until = clock.now() + timeout
        self._command(partial(self._node.rotate, new))
        rotation = self._node.rotation
        while not self.is_kept:
            if rotation.state is RotationState.REFUSED:
                raise OperatorError(narrate(KeyReplaced("the inviter", "")))
            if clock.now() >= until:
                who = "has answered" if rotation.inviters(clock.now()) else "is online"
                raise PeerUnavailable(
                    f"no machine that may invite {who}: the request is repeated until one does"
                )
            wait(min(1.0, until - clock.now()))
        return str(new.public_key)

    def keep(self, tell: Callable[[], None]) -> None:
        """What was granted, and tell those who wait."""
        grant = self._node.rotation.grant
        assert grant is not None
        while not self.is_kept:
            try:
                run_in_thread(keep_grant, self._state, grant)
            except OperatorError as error:
                log.warning("%s", error)
                gevent.sleep(KEEP_AGAIN)
            else:
                self.is_kept = True
        tell()


def prepare_key(directory: StateDirectory, own: Certificate, fresh: PrivateKey) -> PrivateKey:
    """The key that shall take the place of that of `own`: `fresh`, unless one has been chosen
    before. Blocks until it is on disk. Raises OperatorError."""
    state = _read(directory)
    if state.static.public_key.data != own.key:
        raise OperatorError(
            "this machine has a new key already, which is used from its next start on: "
            "`punchtun down`, then `punchtun up`; for a service, `systemctl restart`"
        )
    if state.next_static is None:
        state.next_static = fresh
        directory.write_json(NODE_FILE, pack_node_state(state))
    return state.next_static


def keep_grant(directory: StateDirectory, grant: RotationGrant) -> None:
    """Blocks until the next start has the new key. Once more does no harm. Raises OperatorError."""
    state = _read(directory)
    if state.next_static is None or state.next_static.public_key.data != grant.certificate.key:
        return
    state.static, state.next_static = state.next_static, None
    state.certificate, state.retired = grant.certificate, grant.revocation
    directory.write_json(NODE_FILE, pack_node_state(state))


def _read(directory: StateDirectory) -> NodeState:
    content = directory.read_json(NODE_FILE)
    if content is None:
        raise OperatorError(f"{directory.path / NODE_FILE} is missing")
    return parse_node_state(content)
