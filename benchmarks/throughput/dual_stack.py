"""Contenders of `benchmarks.outage` that carry IPv6 too."""

from __future__ import annotations

from pathlib import Path

from benchmarks.outage.punchtun import Punchtun
from benchmarks.outage.rivals import Nebula, WireguardGo
from benchmarks.outage.rivals.rival import LEFT, RIGHT, SERVER
from tests.netns.host import Host

from .contender import LEFT6, RIGHT6

_SIXES = {SERVER: "fd99::1", LEFT: LEFT6, RIGHT: RIGHT6}


class DualPunchtun(Punchtun):
    """Its nodes always have both."""

    def addresses6(self) -> tuple[str, str]:
        founder, joiner = self._nodes
        return founder.ip6, joiner.ip6


class DualWireguardGo(WireguardGo):
    """With a second address on each side."""

    def launch(self, vps: Host, left: Host, right: Host, folder: Path) -> None:
        super().launch(vps, left, right, folder)
        for host, interface, peer_address in zip(
            (left, right), self._interfaces, (RIGHT, LEFT), strict=True
        ):
            (peer,) = str(host.run(["wg", "show", interface, "peers"]).stdout).split()
            allowed = f"{peer_address}/32,{_SIXES[peer_address]}/128"
            host.run(["wg", "set", interface, "peer", peer, "allowed-ips", allowed])
            own = LEFT6 if host is left else RIGHT6
            host.run(["ip", "addr", "add", f"{own}/64", "dev", interface, "nodad"])

    def addresses6(self) -> tuple[str, str]:
        return LEFT6, RIGHT6


class DualNebula(Nebula):
    """With certificates of the second form, which versions from 1.10 on have."""

    form = ("-version", "2")

    def networks(self, address: str) -> tuple[str, ...]:
        both = f"{address}/24,{_SIXES[address]}/64"
        return *self.form, "-networks", both

    def addresses6(self) -> tuple[str, str]:
        return LEFT6, RIGHT6
