"""What a process keeps: small JSON files in a directory of its own, secrets among them.

Everything here blocks, `write_json` until the disk has it (an SD card may take a second): under
gevent call it from the thread pool, or before packets flow.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any

from tunnel.errors import OperatorError

_LOCK = "lock"
_TEMPORARY = re.compile(r"\.\w+\.json\.\w+")
"""Names of what is being written: secrets, as in the file it is to become."""


SERVICE_USERS = range(61184, 65520)
"""What DynamicUser= takes (systemd.exec(5))."""


class Occupied(OperatorError):
    """Another process has locked the directory."""


class StateDirectory:
    """A directory only its owner may enter. Created, parents included, if it is not there."""

    def __init__(self, path: str | Path, *, root_may_use: bool = False) -> None:
        """Raises OperatorError if it cannot be created, belongs to somebody else, or others may
        write into it. With `root_may_use` root may use the directory of another user, such as a
        service's, to whom then belongs what is written."""
        self.path = Path(path)
        self._is_lenient = root_may_use and os.geteuid() == 0
        self._lock: int | None = None
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts = self.path.stat()
        except FileExistsError:
            raise OperatorError(f"{self.path} is a file: name a directory") from None
        except OSError as error:
            raise _explained(error, self.path, "create the state directory") from error
        if not self._is_lenient:
            _check_owner(self.path, facts)
        self._owner = (facts.st_uid, facts.st_gid) if self._is_lenient else None
        if facts.st_mode & 0o022:
            raise OperatorError(
                f"others may write into {self.path}, and so replace our keys: "
                f"`chmod 700 {self.path}`"
            )

    @classmethod
    def find(cls, path: str | Path, *, root_may_use: bool = False) -> StateDirectory | None:
        """As the constructor, but None, and nothing created, if there is no such directory."""
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _explained(error, Path(path), "enter") from error
        return cls(path, root_may_use=root_may_use)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """What `write_json` wrote; None if there is no such file. Raises OperatorError if it is
        damaged, or if others own it or may read or write it."""
        path = self.path / name
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                _check_secret(path, os.fstat(file), owner_matters=not self._is_lenient)
                with os.fdopen(file, "rb", closefd=False) as stream:
                    content = json.loads(stream.read())
            finally:
                os.close(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EACCES and not self._is_lenient:
                _check_owner(path, os.lstat(path))  # Root without its capabilities may be refused.
            raise _explained(error, path, "read") from error
        except ValueError as error:
            raise _damaged(path, str(error)) from error
        if not isinstance(content, dict):
            raise _damaged(path, "no JSON object")
        return content

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replaces the file as a whole: after a power cut it is the old or the new one. Raises
        OperatorError if the disk does not take it."""
        write_file(self.path / name, json.dumps(content, indent=2) + "\n", self._owner)

    def lock(self) -> None:
        """From now until `unlock()`, or the end of this process, the directory is ours; what others
        began to write here and did not end is removed. Raises Occupied, with the process id, if it
        is another's; OperatorError if it cannot be locked."""
        if self._lock is not None:
            return
        path = self.path / _LOCK
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            if self._owner is not None:
                os.fchown(file, *self._owner)
        except OSError as error:
            raise _explained(error, path, "write") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            raise Occupied(
                f"punchtun is already running on {self.path} (pid {holder}): stop it first, "
                "or use another --state-dir"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._lock = file
        for left in self.path.iterdir():
            if _TEMPORARY.fullmatch(left.name):
                with contextlib.suppress(OSError):
                    left.unlink()

    def unlock(self) -> None:
        """Harmless if it is not locked. The file stays: removing it would let two in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def write_file(path: Path, text: str, owner: tuple[int, int] | None = None) -> None:
    """Replaces the file as a whole, by one that its owner alone may read: after a power cut it is
    the old or the new one. `owner`: user and group, if not ours. Raises OperatorError if the disk
    does not take it."""
    try:
        # mkstemp: 0600, and not inherited by programs we start
        file, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                if owner is not None:
                    os.fchown(stream.fileno(), *owner)
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise _explained(error, path, "write") from error


def _check_owner(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid == os.geteuid():
        return
    if facts.st_uid in SERVICE_USERS:
        raise OperatorError(
            f"{path} belongs to a service: start it with `systemctl start`, or let "
            "`punchtun service uninstall` give it back to root"
        )
    raise OperatorError(
        f"{path} belongs to user {facts.st_uid}, and we run as user {os.geteuid()}: run it as "
        f"that user (`sudo -u '#{facts.st_uid}' …`), or `chown {os.geteuid()} {path}`"
    )


def _check_secret(path: Path, facts: os.stat_result, *, owner_matters: bool) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise OperatorError(f"{path} is no regular file: move it away")
    if owner_matters:
        _check_owner(path, facts)
    if facts.st_mode & 0o077:
        raise OperatorError(
            f"{path} holds secrets and others may read or write it: `chmod 600 {path}`, and make "
            "a new key if somebody did"
        )


def _damaged(path: Path, detail: str) -> OperatorError:
    return OperatorError(
        f"{path} is damaged ({detail}): restore it from a backup, or move it away to start anew "
        "with what it held lost"
    )


def _explained(error: OSError, path: Path, purpose: str) -> OperatorError:
    if error.errno in (errno.EACCES, errno.EPERM):
        cure = "permission denied: run it with sudo, or choose a --state-dir of your own"
    elif error.errno == errno.EROFS:
        cure = "the file system is read-only: choose another --state-dir"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        cure = "the disk is full: make room"
    elif error.errno == errno.ELOOP:
        cure = "it is a symbolic link: replace it by the file itself"
    else:
        cure = error.strerror or str(error)
    return OperatorError(f"cannot {purpose} {path}: {cure}")
