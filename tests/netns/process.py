"""A program started on a machine of the lab; its output is kept in files until the lab ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from .namespace import inside
from .wait import wait_until


class Process:
    """A running program, the leader of its own process group.

    `stdin` takes nothing. Its output can be read at any time, also after it and the lab ended.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        namespace: str,
        machine: str,
        files: Path,
        env: Mapping[str, str] | None,
        cwd: str | Path | None,
    ) -> None:
        self.argv = list(argv)
        self.machine = machine
        self._stdout_file = files.with_suffix(".out")
        self._stderr_file = files.with_suffix(".err")
        self._kept: dict[Path, str] = {}

        def start() -> subprocess.Popen[bytes]:
            with self._stdout_file.open("wb") as out, self._stderr_file.open("wb") as err:
                return subprocess.Popen(
                    # exec replaces `ip` by the program, so the pid is the program's own.
                    ["ip", "netns", "exec", namespace, *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    env=None if env is None else {**os.environ, **env},
                    cwd=cwd,
                )

        self._popen = inside(namespace, start)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._popen.poll()

    @property
    def stdout(self) -> str:
        """What it wrote so far."""
        return self._text(self._stdout_file)

    @property
    def stderr(self) -> str:
        """What it wrote so far."""
        return self._text(self._stderr_file)

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit code; `TimeoutError` if it still runs after `timeout`."""
        wait_until(lambda: self.returncode is not None, timeout=timeout, what=f"end of {self}")
        return self._popen.returncode

    def wait_for(self, text: str, *, timeout: float = 60.0) -> None:
        """Until `text` appears in its output; `TimeoutError` with that output otherwise."""

        def written() -> bool:
            return text in self.stdout or text in self.stderr

        try:
            wait_until(lambda: written() or self.returncode is not None, timeout=timeout)
        except TimeoutError:
            raise TimeoutError(f"{text!r} not seen within {timeout:g} s\n{self.tail()}") from None
        if not written():
            raise EOFError(f"ended ({self.returncode}) without writing {text!r}\n{self.tail()}")

    def send_signal(self, number: int) -> None:
        """To the program alone, not to its children; nothing if it has ended."""
        self._popen.send_signal(number)

    def stop(self, *, grace: float = 3.0) -> int:
        """SIGTERM to it and its children, SIGKILL after `grace`; its exit code."""
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace)
        self._signal_group(signal.SIGKILL)
        return self._popen.wait()

    def tail(self, lines: int = 40) -> str:
        """The last lines it wrote, with the command, for a failure message."""
        parts = [f"--- {self} ({'running' if self.returncode is None else self.returncode})"]
        for name, text in (("stdout", self.stdout), ("stderr", self.stderr)):
            parts += [f"{name}: {line}" for line in text.splitlines()[-lines:]]
        return "\n".join(parts)

    def keep_output(self) -> None:
        """Hold the output in memory from now on; its files may go."""
        self._kept = {file: self._text(file) for file in (self._stdout_file, self._stderr_file)}

    def __str__(self) -> str:
        return f"{self.machine}: {' '.join(self.argv)}"

    def _text(self, file: Path) -> str:
        return self._kept[file] if file in self._kept else file.read_text(errors="replace")

    def _signal_group(self, number: int) -> None:
        # The group outlives its leader while a child runs; its id can't be reused meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)


def stop_all(processes: Sequence[Process], *, grace: float = 3.0) -> None:
    """Stop them side by side, so that the grace passes once."""
    threads = [
        threading.Thread(target=process.stop, kwargs={"grace": grace}) for process in processes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
