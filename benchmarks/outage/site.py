"""The lab of a repetition, and the stream between its two hosts."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.netns.host import Host
from tests.netns.lab import Lab

from . import stream
from .figures import Log

VPS = "203.0.113.10"
LEFT_PUBLIC = "198.51.100.7"
LEFT_PUBLIC_LATER = "198.51.100.8"
RIGHT_PUBLIC = "192.0.2.33"
ELSEWHERE_PUBLIC = "198.51.100.99"
PORT = 7007
"""Of the stream, at both ends."""
INTERVAL = 0.01
"""Seconds between two packets."""


class Site:
    """Two hosts, each behind a home router, and a machine on the internet."""

    def __init__(self, lab: Lab, nat: Mapping[str, Any]) -> None:
        self.vps = lab.public_host("vps", VPS)
        self.left_router = lab.home_router("home", public=LEFT_PUBLIC, lan="192.168.1.0/24", **nat)
        self.right_router = lab.home_router(
            "office", public=RIGHT_PUBLIC, lan="192.168.2.0/24", **nat
        )
        self.elsewhere = lab.home_router(
            "cafe", public=ELSEWHERE_PUBLIC, lan="192.168.3.0/24", **nat
        )
        """Where the left host can move to."""
        self.left = self.left_router.host("left")
        self.right = self.right_router.host("right")


class End:
    """The stream's program on one host."""

    def __init__(self, host: Host, local: str, remote: str, folder: Path, interval: float | None):
        self._log = folder / f"stream-{host.name}.json"
        # By path and isolated: it starts fast, and nothing it has not asked for is imported.
        argv = [sys.executable, "-I", str(stream.__file__), local, remote, str(PORT)]
        argv += [str(self._log)] + ([f"--interval={interval}"] if interval else [])
        self.process = host.popen(argv)

    def wait_until_ready(self) -> None:
        """Until it is bound; it has begun to send then."""
        self.process.wait_for("ready")

    def finish(self) -> Log:
        """End it; what it noted."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait() != 0:
            raise RuntimeError(self.process.tail())
        return Log.read(self._log)


class Stream:
    """Both ends of the stream, sending to each other, or left only listening."""

    def __init__(
        self, site: Site, addresses: tuple[str, str], folder: Path, *, left_sends: bool = True
    ) -> None:
        left, right = addresses
        self.left = End(site.left, left, right, folder, INTERVAL if left_sends else None)
        self.right = End(site.right, right, left, folder, INTERVAL)
        for end in (self.left, self.right):
            end.wait_until_ready()
        # What left sent before right listened is outside of any window.
        self.began = time.monotonic() + INTERVAL

    def finish(self) -> tuple[Log, Log]:
        """End both; what left and right noted."""
        return self.left.finish(), self.right.finish()
