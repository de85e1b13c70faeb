"""Names of members in /etc/hosts, for as long as the node runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent

from tunnel.core.names import DOMAIN, name_members
from tunnel.core.node import Node
from tunnel.drivers.hosts_file import HostsFile
from tunnel.drivers.names_file import NamesFile
from tunnel.drivers.threads import run_in_thread
from tunnel.errors import OperatorError
from tunnel.wire.certificate import Certificate

log = logging.getLogger(__name__)

SETTLE = 0.1
"""Seconds in which more members may come, to be written at once."""
AGAIN = 60.0
"""Seconds until what could not be written is tried again."""


def open_hosts(
    state: Path,
    interface: str,
    *,
    is_wanted: bool,
    environment: Mapping[str, str] = os.environ,
) -> HostsFile | NamesFile | None:
    """To be called while the file may be opened. A service that may not leaves it to another. None,
    said in a line of the log: neither is possible. Not wanted, a block that a crash has left goes
    nevertheless."""
    try:
        hosts: HostsFile | NamesFile
        try:
            hosts = HostsFile(state, interface)
        except OperatorError:
            # systemd sets it for a unit with StateDirectory= (systemd.exec(5)).
            if "STATE_DIRECTORY" not in environment:
                raise
            hosts = NamesFile(state)
        if is_wanted:
            return hosts
        hosts.close()
    except OperatorError as error:
        if is_wanted:
            log.warning("names such as pi.%s do not resolve here: %s", DOMAIN, error)
    return None


class MemberNames:
    """Without a file it does nothing."""

    def __init__(self, hosts: HostsFile | NamesFile | None, own: Certificate, node: Node) -> None:
        self._hosts = hosts
        self._own = own
        self._node = node
        self._is_due = False
        self._has_complained = False
        self._writing: Any = None

    def changed(self) -> None:
        """There are other members than before, or none any more for us. They are written soon."""
        self._is_due = True
        if self._hosts is not None and (self._writing is None or self._writing.ready()):
            self._writing = gevent.spawn(self._write)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._writing is not None:
            self._writing.kill()
        if self._hosts is not None:
            try:
                self._hosts.close()
            except OperatorError as error:
                self._complain(error)

    def _write(self) -> None:
        assert self._hosts is not None
        while self._is_due:
            gevent.sleep(SETTLE)
            self._is_due = False
            members = [self._own, *(peer.certificate for peer in self._node.peers)]
            names = {} if self._node.is_revoked else name_members(members)
            try:
                run_in_thread(self._hosts.write, names)
            except OperatorError as error:
                self._complain(error)
                self._is_due = True
                gevent.sleep(AGAIN)

    def _complain(self, error: OperatorError) -> None:
        """Once; there will be more of the same."""
        if not self._has_complained:
            self._has_complained = True
            log.warning("names of members: %s", error)
