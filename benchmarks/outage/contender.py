"""What a tunnel must offer to be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tests.netns.host import Host
from tests.netns.process import Process


class Unavailable(Exception):
    """The contender can't be run here; the reason, as the Debian package that is missing."""


class Contender(Protocol):
    """A tunnel between two hosts, with a server that both of them reach. One object per lab."""

    name: str
    patience: float
    """Seconds to wait for it to recover."""

    def start(self, vps: Host, left: Host, right: Host, folder: Path) -> tuple[str, str]:
        """Start the server and both nodes; the tunnel's IPv4 addresses of left and right.

        Returns when pings pass both ways and the path between them is direct. `folder` exists,
        is empty and its own. Raises `Unavailable` if something is missing on this machine.
        """
        ...

    def kill_server(self) -> None:
        """SIGKILL for the server."""
        ...

    def processes(self, host: Host) -> list[Process]:
        """What runs on that host for the tunnel, to be suspended and resumed by signals."""
        ...

    def stop(self) -> None:
        """End what runs. Also after a `start` that failed."""
        ...


@runtime_checkable
class Witness(Protocol):
    """A contender that tells what it noticed."""

    def report(self, disturbed_at: float) -> dict[str, Any]:
        """Its own account of what happened since that Unix time, for the full figures."""
        ...
