"""wireguard-go: no server; each side knows the other's public address and port."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.netns.host import Host
from tests.netns.wait import wait_until

from .rival import LEFT, RIGHT, Rival

_PORT = 51820
_SOCKETS = Path("/var/run/wireguard")


class WireguardGo(Rival):
    """ListenPort is fixed, for the NATs to keep; PersistentKeepalive is what wg(8) suggests."""

    name = "wireguard-go"
    patience = 40.0
    packages = (("wireguard-go", "wireguard-go"), ("wg", "wireguard-tools"))

    def __init__(self, programs: Mapping[str, str] | None = None) -> None:
        super().__init__(programs)
        self._interfaces: list[str] = []

    def launch(self, vps: Host, left: Host, right: Host, folder: Path) -> None:
        keys = {host: str(host.run(["wg", "genkey"]).stdout).strip() for host in (left, right)}
        # Before any of them occupies the port.
        endpoints = {host: seen_by(vps, host) for host in (left, right)}
        for host, peer, address, peer_address in (
            (left, right, LEFT, RIGHT),
            (right, left, RIGHT, LEFT),
        ):
            public = str(host.run(["wg", "pubkey"], text=keys[peer]).stdout).strip()
            endpoint, port = endpoints[peer]
            file = folder / f"{host.name}.conf"
            file.write_text(
                f"[Interface]\nPrivateKey = {keys[host]}\nListenPort = {_PORT}\n"
                f"[Peer]\nPublicKey = {public}\nAllowedIPs = {peer_address}/32\n"
                f"Endpoint = {endpoint}:{port}\nPersistentKeepalive = 25\n"
            )
            # Its control socket is in the machine's file system, which namespaces don't divide.
            interface = f"{host.name[:4]}{os.getpid()}"
            self._interfaces.append(interface)
            self._run_node(host, [self._program("wireguard-go"), "-f", interface])
            control = _SOCKETS / f"{interface}.sock"
            wait_until(control.exists, timeout=10, what=str(control))
            host.run(["wg", "setconf", interface, str(file)])
            host.run(["ip", "addr", "add", f"{address}/24", "dev", interface])
            host.run(["ip", "link", "set", interface, "up"])

    def stop(self) -> None:
        super().stop()
        # One that SIGKILL ended leaves its own behind.
        for interface in self._interfaces:
            (_SOCKETS / f"{interface}.sock").unlink(missing_ok=True)
        self._interfaces.clear()


def seen_by(vps: Host, host: Host) -> tuple[str, int]:
    """The public address and port that the host's NAT gives to its WireGuard port."""
    with vps.udp_socket() as listening, host.udp_socket(_PORT) as sending:
        sending.sendto(b"", (vps.ip4, listening.getsockname()[1]))
        _, (address, port) = listening.recvfrom(1)
    return str(address), int(port)
