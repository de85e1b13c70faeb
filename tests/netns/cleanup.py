"""Everything a lab made, and its removal: processes by pid, sockets, namespaces, files."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from .namespace import NAMESPACES, run_tool
from .process import Process, stop_all

ETC = Path("/etc/netns")
"""Files here replace those of /etc for what `ip netns exec` starts (ip-netns(8))."""
_OURS = re.compile(r"pt(\d+)-")
_numbers = itertools.count(1)


class Closeable(Protocol):
    def close(self) -> None: ...


class Cleanup:
    """What one lab has to take away again. `run` may be called more than once."""

    def __init__(self, grace: float) -> None:
        self.prefix = f"pt{os.getpid()}-{next(_numbers)}-"
        """Begins the name of every namespace of this lab."""
        self.processes: list[Process] = []
        self.sockets: list[Closeable] = []
        self.files = Path(tempfile.mkdtemp(prefix=f"{self.prefix}", dir="/tmp"))
        self._grace = grace
        self._owner = os.getpid()

    def run(self) -> None:
        """End the processes, close the sockets, delete the namespaces with all they hold."""
        if os.getpid() != self._owner:  # a forked child's atexit must not end its parent's lab
            return
        with _signals_later():
            running = [process for process in self.processes if process.returncode is None]
            stop_all(running, grace=self._grace)
            for process in self.processes:
                process.keep_output()
            for opened in self.sockets:
                opened.close()
            _remove(sorted(_named(self.prefix)))
            shutil.rmtree(self.files, ignore_errors=True)
            for folder in ETC.glob(f"{self.prefix}*"):
                shutil.rmtree(folder, ignore_errors=True)


def remove_stale() -> list[str]:
    """Remove the namespaces of labs whose process no longer lives; their names."""
    stale = []
    for name in _named("pt"):
        match = _OURS.match(name)
        if match and not Path(f"/proc/{match[1]}").exists():
            stale.append(name)
    _remove(stale)
    for folder in [*Path("/tmp").glob("pt*-*-*"), *ETC.glob("pt*-*-*")]:
        match = _OURS.match(folder.name)
        if match and folder.is_dir() and not Path(f"/proc/{match[1]}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return stale


def pids_inside(namespace: str) -> list[int]:
    """The processes living in the namespace."""
    try:
        wanted = (NAMESPACES / namespace).stat().st_ino
    except FileNotFoundError:
        return []
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "ns/net").stat().st_ino == wanted:
                pids.append(int(entry.name))
    return pids


def _named(prefix: str) -> list[str]:
    if not NAMESPACES.exists():
        return []
    return [entry.name for entry in NAMESPACES.iterdir() if entry.name.startswith(prefix)]


def _remove(namespaces: list[str]) -> None:
    if not namespaces:
        return
    # Daemons that left their process group live on; what is in our namespace is ours to end.
    for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 1.0)):
        deadline = time.monotonic() + patience
        pids = [pid for name in namespaces for pid in pids_inside(name)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while pids and time.monotonic() < deadline:
            time.sleep(0.02)
            pids = [pid for name in namespaces for pid in pids_inside(name)]
        if not pids:
            break
    lines = "".join(f"netns delete {name}\n" for name in namespaces)
    run_tool(["ip", "-force", "-batch", "-"], text=lines, check=False)


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM, so that a second one can't leave half a lab behind."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
