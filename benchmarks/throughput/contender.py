"""What a tunnel must offer to be measured, and the cable itself as one that is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.netns.host import Host
from tests.netns.process import Process


class Contender(Protocol):
    """A tunnel between two hosts. Those of `benchmarks.outage` are such contenders too."""

    def start(self, vps: Host, left: Host, right: Host, folder: Path) -> tuple[str, str]:
        """Start it; the IPv4 addresses that left and right have in the tunnel.

        Returns when pings pass both ways. `folder` exists, is empty and its own. Raises
        `Unavailable` (of `benchmarks.outage`) if it can't be run here.
        """
        ...

    def processes(self, host: Host) -> Sequence[Process]:
        """What runs on that host for the tunnel: its costs are the tunnel's."""
        ...

    def stop(self) -> None:
        """End what runs. Also after a `start` that failed."""
        ...


class Plain:
    """The cable without a tunnel: what the kernel, the tools and the machine allow at most."""

    def start(self, vps: Host, left: Host, right: Host, folder: Path) -> tuple[str, str]:
        return left.ip4, right.ip4

    def processes(self, host: Host) -> Sequence[Process]:
        return ()

    def stop(self) -> None:
        pass
