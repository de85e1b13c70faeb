"""Names of members on their way from a service, which may not write /etc/hosts, to root's
punchtun-names@.service, which does nothing else. Both files are in the node's state directory:

- `hosts`: the lines. The node holds it locked (flock(2)): an unlocked one is a dead node's.
- `hosts-changed`: made after each change, and by systemd when the node has ended, however; removed
  before `hosts` is read. A path unit waits for it, not for a change of `hosts`: it overlooks what
  happens while the unit that it starts is running.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunnel.core.names import DOMAIN, Address, format_names, parse_names
from tunnel.drivers.hosts_file import HOSTS, HostsFile
from tunnel.errors import OperatorError

log = logging.getLogger(__name__)

NAMES_FILE = "hosts"
CHANGED = "hosts-changed"
MAX_LENGTH = 1 << 20
"""Bytes of a file that is read: some 10,000 members."""
PAUSE = 1.0
"""Seconds between two looks at least, so that no node keeps root busy."""
GRACE = 5.0
"""Seconds that a node which has ended without a word has its names still: systemd starts it again
after two."""
_NEW = ".hosts.new"


class NamesFile:
    """The node's side. Methods may be called from any thread."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._turn = threading.Lock()
        self._text: bytes | None = None
        self._file: int | None = None
        self._is_closed = False

    def write(self, names: Mapping[str, Sequence[Address]]) -> None:
        """Replaces the file, if it has others. Raises OperatorError."""
        text = format_names(names)
        with self._turn, _explaining(self._state / NAMES_FILE):
            if not self._is_closed and text != self._text:
                self._replace(text)
                self._text = text
                _touch(self._state / CHANGED)

    def close(self) -> None:
        """Have the names taken away, also those of a run before. Raises OperatorError."""
        with self._turn, _explaining(self._state / NAMES_FILE):
            self._is_closed = True
            (self._state / NAMES_FILE).unlink(missing_ok=True)
            if self._file is not None:
                os.close(self._file)
                self._file = None
            _touch(self._state / CHANGED)

    def _replace(self, text: bytes) -> None:
        new = self._state / _NEW
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(new, flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with os.fdopen(file, "wb", closefd=False) as stream:
                stream.write(text)
            os.replace(new, self._state / NAMES_FILE)
        except BaseException:
            os.close(file)
            raise
        if self._file is not None:
            os.close(self._file)
        self._file = file


def update_hosts(state: Path, hosts: Path = HOSTS) -> None:
    """Root's side: has the block of the node in `state` as the node has it, or no block if none
    runs. Blocks for `PAUSE` afterwards, for `GRACE` before names of a dead node go. Raises
    OperatorError.

    A second look is another process's: systemd gives each the /etc/hosts of the moment, and one
    that is put in its place later cannot be written."""
    names = _take_names(state)
    if names is None:
        time.sleep(GRACE)
        names = _take_names(state) or {}
    if not hosts.exists():
        log.warning("there is no %s: names such as pi.%s do not resolve here", hosts, DOMAIN)
    else:
        block = HostsFile(state, f"punchtun@{state.name}", hosts)
        try:
            block.write(names)
        finally:
            block.leave()
    time.sleep(PAUSE)


def remove_names_files(state: Path) -> None:
    """What a service leaves when nobody looks after it any more. Raises OSError."""
    for name in (NAMES_FILE, CHANGED, _NEW):
        (state / name).unlink(missing_ok=True)


def _take_names(state: Path) -> dict[str, list[Address]] | None:
    """None: the node that they are from is dead. Of the directory nothing is believed: it is
    another user's."""
    path = state / NAMES_FILE
    with _explaining(path):
        try:
            directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(CHANGED, dir_fd=directory)
            text = _read_locked(directory)
        finally:
            os.close(directory)
    if text is None:
        return None
    if len(text) > MAX_LENGTH:
        log.warning("%s is too long, and not used", path)
        return {}
    names, refused = parse_names(text)
    if refused:
        log.warning("%s: %d lines are left out, which give no member a name", path, refused)
    return names


def _read_locked(directory: int) -> bytes | None:
    """At most a byte more than it may have; none without a file, None if nobody holds it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(NAMES_FILE, flags, dir_fd=directory)
    except FileNotFoundError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OperatorError(f"{NAMES_FILE} in the state directory is no regular file")
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with os.fdopen(file, "rb", closefd=False) as stream:
                return stream.read(MAX_LENGTH + 1)
        return None
    finally:
        os.close(file)


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from error
