"""A block of our own in /etc/hosts, between two lines that tell whose it is::

    # punchtun begin /var/lib/punchtun (punchtun0): names of members, while the node runs
    10.81.7.1 attic.punchtun
    10.81.7.2 pi.punchtun
    # punchtun end /var/lib/punchtun

The file is opened while that is permitted and written through this descriptor: later the process
may open nothing outside its own directories. So it keeps its owner, its mode and its place (it may
be mounted, as in a container). All changes are one write from the first byte that differs, and the
block comes last: what is before it is never written again.

A block belongs to a state directory: whoever runs there next repairs what a crash has left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tunnel.core.names import Address, format_names
from tunnel.errors import OperatorError

HOSTS = Path("/etc/hosts")
_ENTRY = re.compile(rb"[0-9a-f.:]+ [a-z0-9-]+\.punchtun\s*")
_CHUNK = 4096
_LOCK_TRIES = 20
_LOCK_PAUSE = 0.05
"""Seconds. Another node has the lock for less than one of them."""


class HostsFile:
    """The block of one node. `write` may be called from any thread; the lock is against others
    that run here as well."""

    def __init__(self, state: Path, interface: str, path: Path = HOSTS) -> None:
        """Raises OperatorError: it cannot be written."""
        self._path = path
        owner = quote(str(state))
        self._begin = f"# punchtun begin {owner} ".encode()
        self._end = f"# punchtun end {owner}".encode()
        self._title = f"({interface}): names of members, while the node runs".encode()
        self._turn = threading.Lock()
        self._file: int | None = self._open()

    def write(self, names: Mapping[str, Sequence[Address]]) -> None:
        """Name → addresses; without names no block is left. Blocks until the file has it, for a
        second at most if another program holds it. Raises OperatorError."""
        with self._turn:
            if self._file is None:
                return
            try:
                self._follow()
                self._lock()
                try:
                    self._replace(format_names(names))
                finally:
                    fcntl.flock(self._file, fcntl.LOCK_UN)
            except OSError as error:
                raise OperatorError(f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Take the block away. What was about to be written is not."""
        try:
            self.write({})
        finally:
            self.leave()

    def leave(self) -> None:
        """The block stays. Nothing is written any more."""
        with self._turn:
            if self._file is not None:
                os.close(self._file)
            self._file = None

    def has_block(self) -> bool:
        """Whether one is there, ours or of a run before."""
        with self._turn:
            return self._file is not None and self._begin in _read(self._file)

    def _open(self) -> int:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise OperatorError(f"{self._path} cannot be written: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OperatorError(f"{self._path} is no file")
        return file

    def _follow(self) -> None:
        """To the file of that name, if another has taken the place of ours."""
        assert self._file is not None
        if os.path.samestat(os.stat(self._path), os.fstat(self._file)):
            return
        try:
            fresh = self._open()
        except OperatorError as error:
            raise OperatorError(
                f"{self._path} has been replaced by another program, and may not be opened again "
                "by a process that has given up its privileges: names are right again from the "
                "next start on"
            ) from error
        os.close(self._file)
        self._file = fresh

    def _lock(self) -> None:
        # Anybody who may read the file may hold it, for ever.
        assert self._file is not None
        for _ in range(_LOCK_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(_LOCK_PAUSE)
        raise OperatorError(f"{self._path} is locked by another program")

    def _replace(self, entries: bytes) -> None:
        assert self._file is not None
        before = _read(self._file)
        after = without_block(before, self._begin, self._end)
        if entries:
            if after and not after.endswith(b"\n"):
                after += b"\n"
            after += self._begin + self._title + b"\n" + entries + self._end + b"\n"
        if after == before:
            return
        same = _common(before, after)
        # Never half a line where the file becomes shorter: empty ones until it is cut.
        rest = after[same:] + b"\n" * (len(before) - len(after))
        try:
            _write(self._file, rest, same)
            os.ftruncate(self._file, len(after))
        except OSError:
            # No room: what was there has its room still.
            with contextlib.suppress(OSError):
                _write(self._file, before[same:], same)
                os.ftruncate(self._file, len(before))
            raise


def without_block(text: bytes, begin: bytes, end: bytes) -> bytes:
    """`text` without the blocks whose first line starts with `begin`; `end` may be missing. Lines
    that somebody has written between are kept, as are all others."""
    kept = []
    is_inside = False
    for line in text.splitlines(keepends=True):
        if line.startswith(begin):
            is_inside = True
        elif line.rstrip() == end:
            is_inside = False
        elif line.startswith(b"# punchtun begin "):
            is_inside = False  # Another's: the end of ours is missing.
            kept.append(line)
        elif not (is_inside and _ENTRY.fullmatch(line)):
            kept.append(line)
    return b"".join(kept)


def _common(one: bytes, other: bytes) -> int:
    """So many bytes at the beginning are the same: of lists with thousands of hosts, too."""
    same = 0
    while one[same : same + _CHUNK] == other[same : same + _CHUNK] and same < len(one):
        same += _CHUNK
    shorter = min(len(one), len(other))
    return next((at for at in range(same, shorter) if one[at] != other[at]), shorter)


def _read(file: int) -> bytes:
    parts = []
    offset = 0
    while part := os.pread(file, 1 << 20, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _write(file: int, content: bytes, offset: int) -> None:
    while content:
        written = os.pwrite(file, content, offset)
        content, offset = content[written:], offset + written
