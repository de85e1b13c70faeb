"""n2n 1, the version Debian has: edges that register with a supernode and with each other."""

from __future__ import annotations

from pathlib import Path

from tests.netns.host import Host

from .rival import LEFT, RIGHT, Rival

_PORT = 7654


class N2n(Rival):
    """It has no options for timers. Its only cipher is Twofish, which is on."""

    name = "n2n"
    patience = 90.0
    packages = (("supernode", "n2n"), ("edge", "n2n"), ("ifconfig", "net-tools"))

    def launch(self, vps: Host, left: Host, right: Host, folder: Path) -> None:
        self._run_server(vps, [self._program("supernode"), "-l", str(_PORT)])
        for host, address in ((left, LEFT), (right, RIGHT)):
            # A hardware address of its own: "highly recommended" in edge(8).
            mac = f"de:ad:be:ef:01:0{address[-1]}"
            network = ["-c", "outage", "-k", "not a secret", "-l", f"{vps.ip4}:{_PORT}"]
            edge = [self._program("edge"), "-d", "n2n0", "-a", address, "-m", mac]
            self._run_node(host, [*edge, *network])
