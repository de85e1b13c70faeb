"""A machine that boots: Debian with systemd as process 1, in a network namespace of ours.

    vps 203.0.113.1 ---- 203.0.113.2 home

Commands are run inside by nsenter, as root's shell there would.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.netns.cleanup import Cleanup
from tests.netns.namespace import run_tool
from tests.netns.wait import wait_until

_BOOT = Path(__file__).with_name("boot")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEMORY = Path("/dev/shm")
"""What the machines write, thousands of files, is here: faster than on a disk."""
_HYBRID = Path("/sys/fs/cgroup/unified")
"""Where cgroup v2 is on machines that also have v1."""
ADDRESSES = {"vps": "203.0.113.1", "home": "203.0.113.2"}


class Failed(AssertionError):
    """A command in a container ended with an error."""


class Container:
    """Boots at once; :meth:`close` ends it, however it is."""

    def __init__(
        self, name: str, cleanup: Cleanup, lowers: Sequence[Path], *, reads: Path | None = None
    ) -> None:
        """In the namespace that `cleanup` knows by this name. `lowers`: trees it begins with, the
        topmost first. `reads` is at /wheels."""
        self.name = name
        self.directory = MEMORY / (cleanup.prefix + name)
        self._output = cleanup.files / f"{name}.log"
        namespace = cleanup.prefix + name
        binds = [] if reads is None else [f"--bind-ro={reads}:/wheels"]
        lower = ":".join(map(str, lowers))
        with self._output.open("wb") as output:
            self._popen = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "TERM"),
                    *("unshare", "--mount", "--propagation", "private", str(_BOOT)),
                    *(namespace, namespace, str(self.directory), lower, *binds),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._init = 0
        try:
            self.wait_until_booted()
        except BaseException:
            self.close()
            self.remove_files()
            raise

    @property
    def address(self) -> str:
        """In the network of :func:`make_network`."""
        return ADDRESSES[self.name]

    def remove_files(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def tree(self) -> Path:
        """What was written in it."""
        return self.directory / "upper"

    def wait_until_booted(self, *, after: int | None = None) -> None:
        """`after`: another process 1 than this one."""
        what = f"process 1 of {self.name}"
        self._init = wait_until(lambda: self._find_init(after), timeout=60, what=what) or 0
        wait_until(
            lambda: self.try_run("systemctl", "is-system-running").stdout.strip() == "running",
            timeout=60,
            interval=0.2,
            what=f"{self.name}'s start",
        )

    def reboot(self) -> None:
        """An orderly one, with the same disk."""
        before = self._init
        self.try_run("systemctl", "reboot")
        self.wait_until_booted(after=before)

    def try_run(
        self, *argv: str, stdin: str = "", env: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """As root, whatever comes of it."""
        return subprocess.run(
            self.argv(argv, env=env), input=stdin, capture_output=True, text=True, timeout=120
        )

    def run(self, *argv: str, stdin: str = "", env: Sequence[str] = ()) -> str:
        """Its stdout. Raises Failed unless it ends with 0."""
        done = self.try_run(*argv, stdin=stdin, env=env)
        if done.returncode != 0:
            raise Failed(f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def refused(self, *argv: str, code: int | None = None) -> str:
        """What it says when it ends with an error, this one if it is told."""
        done = self.try_run(*argv)
        assert done.returncode == code if code is not None else done.returncode != 0, done
        assert "Traceback" not in done.stderr
        return done.stderr

    def wait_for(self, *argv: str) -> None:
        """Until it ends with 0."""
        wait_until(
            lambda: self.try_run(*argv).returncode == 0,
            timeout=60,
            interval=0.2,
            what=f"{self.name}: success of {' '.join(argv)}",
        )

    def status(self, *options: str) -> Any:
        """Of the node that runs there."""
        return json.loads(self.run("punchtun", "status", "--json", *options))

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """In the foreground of a terminal that the test holds."""
        return subprocess.Popen(
            self.argv(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def put(self, file: Path, folder: str) -> None:
        """A copy of the file, with its name."""
        with file.open("rb") as stream:
            subprocess.run(
                self.argv(["dd", "status=none", f"of={folder}/{file.name}"]),
                stdin=stream,
                check=True,
            )

    def put_tree(self, tree: Path, folder: str) -> None:
        """A copy of the directory, with its name."""
        packing = ["tar", "--create", f"--directory={tree.parent}", tree.name]
        with subprocess.Popen(packing, stdout=subprocess.PIPE) as packed:
            unpacking = self.argv(["tar", "--extract", "--no-same-owner", f"--directory={folder}"])
            subprocess.run(unpacking, stdin=packed.stdout, check=True)
        assert packed.returncode == 0

    def interrupt(self, process: subprocess.Popen[str]) -> str:
        """Ctrl-C for what :meth:`start` started; the rest of its output, when it has ended."""
        # nsenter itself stays outside, and waits.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGINT)
        return process.communicate(timeout=60)[0]

    @contextlib.contextmanager
    def drop_in(self, unit: str, *lines: str) -> Iterator[None]:
        """With these lines in [Service], for what starts from now on."""
        folder = f"/run/systemd/system/{unit}.d"
        self.run("mkdir", "-p", folder)
        self.run("tee", f"{folder}/test.conf", stdin="\n".join(["[Service]", *lines, ""]))
        self.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            self.run("rm", "-r", folder)
            self.run("systemctl", "daemon-reload")

    def argv(self, command: Sequence[str], *, env: Sequence[str] = ()) -> list[str]:
        """What runs the command inside, as root's shell would."""
        return [
            *("nsenter", "--target", str(self._init), "--all"),
            # As in a terminal, where Ctrl-C is heard: tests in the background ignore it.
            *("env", "--default-signal=INT", "-i"),
            *(f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8", *env, *command),
        ]

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)

    def close(self) -> None:
        if self._popen.poll() is None:
            if self._init:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._init, signal.SIGKILL)
            else:
                self._popen.terminate()
            try:
                self._popen.wait(20)
            except subprocess.TimeoutExpired:
                self._popen.kill()  # pdeathsig: systemd-nspawn goes with it, and its container
                self._popen.wait(20)

    def _find_init(self, after: int | None) -> int | None:
        if self._popen.poll() is not None:
            raise Failed(f"{self.name} has ended: {self._output.read_text()[-2000:]}")
        waiting = [self._popen.pid]
        while waiting:
            pid = waiting.pop()
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                inner = next(line for line in status.splitlines() if line.startswith("NSpid:"))
                if len(inner.split()) > 2 and inner.split()[-1] == "1" and pid != after:
                    return pid
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    waiting += map(int, children.read_text().split())
        return None


def make_network(cleanup: Cleanup) -> None:
    """The two namespaces, with a cable between them."""
    vps, home = (cleanup.prefix + name for name in ADDRESSES)
    run_tool(["ip", "netns", "add", vps])
    run_tool(["ip", "netns", "add", home])
    run_tool(
        [
            "ip",
            "-n",
            vps,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            home,
        ]
    )
    for name, address in ADDRESSES.items():
        namespace = cleanup.prefix + name
        run_tool(["ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0"])
        for link in ("lo", "eth0"):
            run_tool(["ip", "-n", namespace, "link", "set", link, "up"])


def remove_stale_machines() -> None:
    """Files and control groups of containers whose test was killed."""
    for folder in MEMORY.glob("pt*-*-*"):
        match = re.match(r"pt(\d+)-", folder.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    for group in [*Path("/sys/fs/cgroup").glob("pt*-*-*"), *_HYBRID.glob("pt*-*-*")]:
        match = re.match(r"pt(\d+)-", group.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            for inner, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):  # somebody is still in it
                    os.rmdir(inner)
