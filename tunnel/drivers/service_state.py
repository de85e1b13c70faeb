"""Handing what `punchtun up` and `server run` keep over to a service, and back to root.

A unit with DynamicUser= keeps it in /var/lib/private, and leaves a symbolic link where it was;
systemd itself moves a directory of root's there, and gives it to the service's user.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from tunnel.drivers.files import Occupied, StateDirectory
from tunnel.drivers.names_file import remove_names_files
from tunnel.drivers.places import CONTROL_SOCKET, RUN
from tunnel.errors import OperatorError
from tunnel.state import LEDGER_FILE, NODE_FILE, PEERS_FILE, REVOCATIONS_FILE, parse_node_state

_FILES = (LEDGER_FILE, PEERS_FILE, REVOCATIONS_FILE, NODE_FILE)
"""In the order in which they are moved: where the last one is, the node is."""


def is_member(path: Path) -> bool:
    """Whether the state in `path` is that of a node which is in a network. Raises OperatorError if
    it is damaged."""
    directory = StateDirectory.find(path, root_may_use=True)
    content = directory.read_json(NODE_FILE) if directory is not None else None
    return content is not None and parse_node_state(content).certificate is not None


def refuse_running(path: Path) -> None:
    """Raises OperatorError if a node or server runs on `path`."""
    directory = StateDirectory.find(path, root_may_use=True)
    if directory is not None:
        try:
            directory.lock()
        except Occupied as error:
            raise OperatorError(
                f"punchtun is running on {path}: stop it (Ctrl-C where it runs, `punchtun down` "
                "for a node), then do this again"
            ) from error
        directory.unlock()


def move_node(source: Path, target: Path) -> None:
    """The node's files from one directory of root's to another, which is made. After an
    interruption it can be done again. Raises OperatorError."""
    if (source / NODE_FILE).exists() and (target / NODE_FILE).exists():
        raise OperatorError(f"there is a node in {source} and in {target}: move one away")
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in _FILES:
            if (source / name).exists():
                os.replace(source / name, target / name)
    except OSError as error:
        raise OperatorError(f"cannot move {source} to {target}: {error.strerror}") from error


def give_back(path: Path, private: Path) -> None:
    """What a service kept in `private`, with a link at `path`, becomes root's at `path`. Raises
    OperatorError."""
    if not path.is_symlink() or not private.is_dir():
        return
    try:
        # Before others can reach it: what a service left there may be a link to anything.
        for entry in private.iterdir():
            os.lchown(entry, 0, 0)
        os.lchown(private, 0, 0)
        path.unlink()
        os.rename(private, path)
        remove_names_files(path)
        with contextlib.suppress(OSError):
            private.parent.rmdir()  # not empty: there are others
    except OSError as error:
        raise OperatorError(f"cannot move {private} to {path}: {error.strerror}") from error


def remove_left(path: Path) -> None:
    """The directory that :func:`move_node` has emptied."""
    for name in ("lock", CONTROL_SOCKET):
        with contextlib.suppress(OSError):
            (path / name).unlink()
    with contextlib.suppress(OSError):
        path.rmdir()


def purge(path: Path) -> None:
    """Keys and all, and the directories above if nothing else is in them."""
    shutil.rmtree(path, ignore_errors=True)
    remove_left(path.parent)
    for place in (RUN / path.name, RUN):
        with contextlib.suppress(OSError):
            place.rmdir()
