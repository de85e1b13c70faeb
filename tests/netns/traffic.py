"""Real traffic through the tunnel: streams of pings, downloads, a shell session."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import NamedTuple

from .host import Host
from .process import Process
from .wait import wait_until

_REPLY = re.compile(
    r"^\[(\d+\.\d+)\] \d+ bytes from .* icmp_seq=(\d+) .* time=([\d.]+) ms(.*)$", re.M
)
_SENT = re.compile(r"(\d+) packets transmitted")


class PingResult(NamedTuple):
    sent: int
    received: int
    duplicates: int
    longest_gap: float
    """Seconds between two replies that followed each other; 0 with fewer than two."""
    lost: list[int]
    """Their sequence numbers."""


class PingStream:
    """`ping`, running until it sent `count` or is stopped."""

    def __init__(self, host: Host, address: str, *, interval: float, count: int) -> None:
        argv = ["ping", "-n", "-D", "-i", f"{interval:g}", "-c", str(count), "-W", "1", address]
        self.process = host.popen(argv)
        self._expected = interval * count + 20.0

    def stop(self) -> PingResult:
        """Send no more."""
        self.process.send_signal(signal.SIGINT)
        return self.result()

    def result(self) -> PingResult:
        """When it has ended."""
        self.process.wait(self._expected)
        text = self.process.stdout
        replies = [(float(m[1]), int(m[2]), m[3]) for m in _REPLY.finditer(text)]
        first = [(at, sequence) for at, sequence, rest in replies if "DUP" not in rest]
        times = sorted(at for at, _ in first)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        found = _SENT.search(text)
        assert found, self.process.tail()
        sent = int(found[1])
        lost = sorted(set(range(1, sent + 1)) - {sequence for _, sequence in first})
        return PingResult(sent, len(first), len(replies) - len(first), max(gaps, default=0.0), lost)


def ping_stream(
    host: Host, address: str, *, interval: float = 0.01, count: int = 100_000
) -> PingStream:
    """Begin to ping."""
    return PingStream(host, address, interval=interval, count=count)


def ping_reaches(host: Host, address: str, *, tries: int = 50) -> bool:
    """Whether one of the pings, 0.2 s apart, is answered."""
    argv = ["ping", "-n", "-q", "-i", "0.2", "-W", "2", "-c", "1", address]
    return any(host.run(argv, check=False).returncode == 0 for _ in range(tries))


class Download:
    """curl, running."""

    def __init__(self, process: Process, target: Path, digest: bytes) -> None:
        self.process = process
        self._target = target
        self._digest = digest

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._target.stat().st_size if self._target.exists() else 0

    def finish(self) -> int:
        """When it has ended: its size. AssertionError if it is not what was served."""
        assert self.process.wait(90.0) == 0, self.process.tail()
        content = self._target.read_bytes()
        assert hashlib.sha256(content).digest() == self._digest, "the copy differs"
        return len(content)


# http.server asks the DNS for its own name, and here nobody answers: that takes many seconds.
_SERVE = """
import http.server, socket, sys
socket.getfqdn = str
files = http.server.SimpleHTTPRequestHandler
http.server.test(files, port=int(sys.argv[1]), bind=sys.argv[2])
"""


class FileServer:
    """`python -m http.server` with one file of random bytes, at an address of the host."""

    PORT = 8080

    def __init__(self, host: Host, address: str, folder: Path, *, size: int) -> None:
        folder.mkdir(parents=True)
        content = os.urandom(size)
        (folder / "file").write_bytes(content)
        self._digest = hashlib.sha256(content).digest()
        self._folder = folder
        self._fetched = 0
        port = str(self.PORT)
        argv = [sys.executable, "-c", _SERVE, port, address]
        self.process = host.popen(argv, cwd=folder)
        authority = f"[{address}]" if ":" in address else address
        self.url = f"http://{authority}:{port}/file"
        wait_until(lambda: accepts(host, address, self.PORT), what="the file server")

    def begin(self, host: Host, *, rate: str = "100G", timeout: float = 60.0) -> Download:
        """Begin to download the file, at most so many bytes a second ("5M")."""
        self._fetched += 1
        target = self._folder / f"copy{self._fetched}"
        argv = ["curl", "-sS", "--fail", "--max-time", f"{timeout:g}", "--limit-rate", rate]
        return Download(host.popen([*argv, "-o", str(target), self.url]), target, self._digest)

    def fetch(self, host: Host) -> int:
        """Download the file; its size. AssertionError if it is not what was served."""
        return self.begin(host).finish()


class Shell:
    """A login shell served by socat over TCP, and a session with it from another host."""

    PORT = 2222

    def __init__(self, host: Host, address: str, client: Host) -> None:
        listen = f"TCP-LISTEN:{self.PORT},bind={address},reuseaddr,fork"
        self.process = host.popen(["socat", listen, "EXEC:/bin/sh -l,stderr"])
        wait_until(lambda: accepts(host, address, self.PORT), what="the shell server")
        self._session = client.inside(
            lambda: socket.create_connection((address, self.PORT), timeout=10.0)
        )
        self._lines = self._session.makefile("r")

    def ask(self, command: str, *, timeout: float = 30.0) -> str:
        """The first line the command writes."""
        self._session.settimeout(timeout)
        self._session.sendall(f"{command}\n".encode())
        return self._lines.readline().strip()

    def close(self) -> None:
        self._lines.close()
        self._session.close()


def accepts(host: Host, address: str, port: int) -> bool:
    """Whether something on the host itself listens on that TCP port."""

    def connect() -> bool:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as opened:
            opened.settimeout(1.0)
            return opened.connect_ex((address, port)) == 0

    return host.inside(connect)


def run_iperf(server: Host, client: Host, address: str, *, seconds: int = 1) -> Process:
    """One flow of TCP; the server's process, which has ended."""
    process = server.popen(["iperf3", "-s", "-1", "--forceflush", "-B", address])
    process.wait_for("Server listening")
    client.run(["iperf3", "-c", address, "-t", str(seconds), "--connect-timeout", "5000"])
    process.wait()
    return process
