"""What a tunnel must offer to be measured, and the cable itself as one that is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class DualStack(Protocol):
    """A contender that carries IPv6 too."""

    def addresses6(self) -> tuple[str, str]:
        """The IPv6 addresses of left and right in the tunnel, once it has been started."""
        ...


LEFT6, RIGHT6 = "fd99::2", "fd99::3"
"""Addresses in the tunnel, both in one /64, for those that don't choose their own."""


class Plain:
    """The cable without a tunnel: what the kernel, the tools and the machine allow at most."""

    def start(self, vps: Host, left: Host, right: Host, folder: Path) -> tuple[str, str]:
        for host, address in ((left, LEFT6), (right, RIGHT6)):
            host.run(["ip", "addr", "add", f"{address}/64", "dev", host.uplink, "nodad"])
        return left.ip4, right.ip4

    def addresses6(self) -> tuple[str, str]:
        return LEFT6, RIGHT6

    def processes(self, host: Host) -> Sequence[Process]:
        return ()

    def stop(self) -> None:
        pass
